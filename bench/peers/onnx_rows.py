"""Inference of FOLDER/model.onnx: onnx_rows.py onnxruntime|openvino ROW THREADS FOLDER (protocol: rows.py)"""
import os
import sys

import rows

MODE, ROW, THREADS, FOLDER = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
BF16 = "_bf16" in ROW
TOLERANCE = 5e-2 if BF16 else 1e-3  # fifty layers of values with 8 bits each
MODEL = os.path.join(FOLDER, "model.onnx")


def onnxruntime_call(inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    feed = {i.name: inputs[i.name] for i in session.get_inputs()}
    return (lambda: session.run(None, feed)[0]), f"onnxruntime {onnxruntime.__version__}, {THREADS} threads, all optimisations"


def openvino_call(inputs):
    import onnx
    import onnx.inliner
    import openvino

    core = openvino.Core()
    # OpenVINO does not know functions of a model: their bodies take their place.
    inlined = onnx.inliner.inline_local_functions(onnx.load(MODEL)).SerializeToString()
    precision = "bf16" if BF16 else "f32"
    model = core.compile_model(core.read_model(inlined), "CPU", {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY",
                                              "INFERENCE_PRECISION_HINT": precision})
    request = model.create_infer_request()
    feed = {i.any_name: inputs[i.any_name] for i in model.inputs}
    return (lambda: request.infer(feed)[0]), f"openvino {openvino.__version__}, {THREADS} threads, latency, {precision}"


if not os.path.exists(MODEL):
    rows.absent("no ONNX model belongs to this row")
else:
    call, settings = {"onnxruntime": onnxruntime_call, "openvino": openvino_call}[MODE](
        rows.load_arrays(os.path.join(FOLDER, "inputs.safetensors")))
    rows.answer(call, 1, settings=settings, error=rows.compare(FOLDER, "y", call(), TOLERANCE))
