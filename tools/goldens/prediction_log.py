#!/usr/bin/env python3
"""Writes tests/serve/goldens/prediction_log.tfrecord with TensorFlow's own classes, and checks a log that Tenon wrote.

  pip install tensorflow-cpu tensorflow-serving-api
  tools/goldens/prediction_log.py            # writes the golden
  tools/goldens/prediction_log.py FILE…      # reads logs of `tenon serve`: each record, its inputs and outputs
"""
import pathlib
import sys

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

GOLDEN = pathlib.Path(__file__).parents[2] / "tests/serve/goldens/prediction_log.tfrecord"


def tensor(array):
    proto = tf.make_tensor_proto(array)
    assert proto.tensor_content or proto.string_val, "must be of the form that Tenon writes"
    return proto


def golden():
    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.model_spec.name = "half"
    log.log_metadata.model_spec.version.value = 124
    log.log_metadata.model_spec.signature_name = "serving_default"
    log.log_metadata.sampling_config.sampling_rate = 0.25
    log.log_metadata.timestamp_secs = 1700000000
    request, response = log.predict_log.request, log.predict_log.response
    request.model_spec.name = "half"
    request.model_spec.signature_name = "serving_default"
    request.inputs["x"].CopyFrom(tensor(np.array([[1, 2.5], [-0.0, 1e30]], np.float32)))
    request.inputs["s"].CopyFrom(tensor(np.array(["ä\n".encode(), b"\xff\0"], object)))
    request.output_filter.append("y")
    response.outputs["y"].CopyFrom(tensor(np.array([-1, 1 << 60], np.int64)))
    response.model_spec.CopyFrom(log.log_metadata.model_spec)
    return log


def main():
    if len(sys.argv) == 1:
        with tf.io.TFRecordWriter(str(GOLDEN)) as out:
            out.write(golden().SerializeToString(deterministic=True))
        return
    for path in sys.argv[1:]:
        for record in tf.data.TFRecordDataset(path):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            predict = log.predict_log
            values = {k: tf.make_ndarray(v).tolist() for k, v in predict.request.inputs.items()}
            answers = {k: tf.make_ndarray(v).tolist() for k, v in predict.response.outputs.items()}
            print(log.log_metadata.model_spec.name, log.log_metadata.model_spec.version.value, values, answers)


if __name__ == "__main__":
    main()
