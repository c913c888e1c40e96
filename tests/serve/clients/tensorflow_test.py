#!/usr/bin/env python3
"""Google's own client (PyPI: tensorflow-serving-api, with TensorFlow) against `tenon serve`: tensorflow_test.py TENON MODELS_FOLDER"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import grpc  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow_serving.apis import (classification_pb2, get_model_metadata_pb2, get_model_status_pb2,  # noqa: E402
                                     inference_pb2, model_management_pb2, model_service_pb2_grpc, predict_pb2,
                                     prediction_service_pb2_grpc, regression_pb2)

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from serve_process import ServeProcess  # noqa: E402


def example(x):
    return tf.train.Example(features=tf.train.Features(feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=[x]))}))


def check(address):
    channel = grpc.insecure_channel(address)
    predict, models = prediction_service_pb2_grpc.PredictionServiceStub(channel), model_service_pb2_grpc.ModelServiceStub(channel)

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1, 2, 5], np.float32)))
    answer = predict.Predict(request, timeout=30)
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["y"]), [3.5, 4, 5.5])
    assert answer.model_spec.version.value == 124

    for message, method in ((classification_pb2.ClassificationRequest(), predict.Classify),
                            (regression_pb2.RegressionRequest(), predict.Regress)):
        message.model_spec.name = "m"
        message.input.example_list.examples.extend([example(1), example(2)])
        result = method(message, timeout=30).result
        if method is predict.Regress:
            assert [r.value for r in result.regressions] == [3.5, 4]
        else:
            assert [c.classes[0].score for c in result.classifications] == [3.5, 4]

    many = inference_pb2.MultiInferenceRequest()
    task = many.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name = "m"
    many.input.example_list.examples.append(example(5))
    assert predict.MultiInference(many, timeout=30).results[0].regression_result.regressions[0].value == 5.5

    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "m"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert predict.GetModelMetadata(metadata, timeout=30).metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum

    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "m"
    state = models.GetModelStatus(status, timeout=30).model_version_status
    assert [(s.version, s.state) for s in state] == [(124, get_model_status_pb2.ModelVersionStatus.AVAILABLE)], state

    request.output_filter.append("y")
    assert list(predict.Predict(request, timeout=30).outputs) == ["y"]
    del request.output_filter[:]

    refused(predict, request, grpc.StatusCode.NOT_FOUND, lambda r: setattr(r.model_spec, "name", "nope"))
    refused(predict, request, grpc.StatusCode.NOT_FOUND, lambda r: setattr(r.model_spec.version, "value", 7))
    refused(predict, request, grpc.StatusCode.INVALID_ARGUMENT,
            lambda r: r.inputs["x"].CopyFrom(tf.make_tensor_proto(["text"])))
    refused(predict, request, grpc.StatusCode.INVALID_ARGUMENT, lambda r: r.output_filter.append("nothing"))


def refused(predict, request, code, change):
    """Predict with the request changed fails with this code; the request is as before afterwards."""
    before = predict_pb2.PredictRequest()
    before.CopyFrom(request)
    change(request)
    try:
        predict.Predict(request, timeout=30)
    except grpc.RpcError as error:
        assert error.code() == code, error
    else:
        raise AssertionError(f"answered, expected {code}: {request}")
    finally:
        request.CopyFrom(before)


def check_dtypes(address):
    """What goes in comes out, in every type that the client can make."""
    predict = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "echo"
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "echo"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    predict.GetModelMetadata(metadata, timeout=30).metadata["signature_def"].Unpack(signatures)
    inputs = signatures.signature_def["serving_default"].inputs
    given = {}
    for name, info in inputs.items():
        shape = [2 if d.size < 0 else d.size for d in info.tensor_shape.dim]
        if info.dtype == tf.string.as_datatype_enum:
            given[name] = np.full(shape, b"\xc3\xa9\x00", object)
        else:
            given[name] = (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(tf.as_dtype(info.dtype).as_numpy_dtype)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(given[name], dtype=tf.as_dtype(info.dtype)))
    answer = predict.Predict(request, timeout=30).outputs
    assert len(answer) == len(given) > 0, (list(answer), list(given))
    for (_, want), (_, got) in zip(sorted(given.items()), sorted(answer.items())):
        got = tf.make_ndarray(got)
        assert got.dtype == want.dtype, (got.dtype, want.dtype)
        np.testing.assert_array_equal(got, want)


def check_reload(address, models):
    """The control of TensorFlow Serving's own service: a configuration with a label, and one that names no such folder."""
    channel = grpc.insecure_channel(address)
    predict, service = prediction_service_pb2_grpc.PredictionServiceStub(channel), model_service_pb2_grpc.ModelServiceStub(channel)
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add(name="h", base_path=f"{models}/half_plus_two", model_platform="tensorflow")
    config.model_version_policy.specific.versions.extend([123, 124])
    config.version_labels["stable"] = 123
    assert service.HandleReloadConfigRequest(request, timeout=60).status.error_code == 0
    ask = predict_pb2.PredictRequest()
    ask.model_spec.name, ask.model_spec.version_label = "h", "stable"
    ask.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([2], np.float32)))
    answer = predict.Predict(ask, timeout=30)
    assert answer.model_spec.version.value == 123
    assert answer.model_spec.version_label in ("", "stable"), answer.model_spec


def main():
    with ServeProcess(sys.argv[1], "--model", f"m={sys.argv[2]}/half_plus_two") as server:
        check(server.address("tfs_grpc"))
    with ServeProcess(sys.argv[1], "--model", f"echo={sys.argv[2]}/echo", "--allow-reload-config") as server:
        check_dtypes(server.address("tfs_grpc"))
        check_reload(server.address("tfs_grpc"), sys.argv[2])
    print("tensorflow-serving-api: ok")


main()
