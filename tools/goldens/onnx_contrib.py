"""Writes tests/formats/goldens/onnx_contrib.safetensors: the com.microsoft operators as ONNX Runtime's CPU provider computes them.

  pip install onnx onnxruntime numpy safetensors && python3 tools/goldens/onnx_contrib.py

Each case is a model of one node. The file holds CASE/model (its bytes) and the tensors CASE/in/NAME and CASE/out/NAME. Elements
that ONNX Runtime leaves without meaning (results for tokens of padding) are NaN.
"""
import pathlib
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, ValueInfoProto, helper
from safetensors.numpy import save_file

path = pathlib.Path(__file__).parents[2] / "tests/formats/goldens/onnx_contrib.safetensors"
rng = np.random.default_rng(5)
tensors = {}
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
         "uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "bool": TensorProto.BOOL}


def f(*shape, spread=1.0):
    return rng.normal(0, spread, shape).astype(np.float32)


def i32(*values):
    return np.array(values, np.int32)


def case(name, op, inputs, outputs, undefined=None, domain="com.microsoft", **attributes):
    """`inputs`: arrays by name, None for an absent one. `outputs`: names, "" for an absent one."""
    names = [n if x is not None else "" for n, x in inputs.items()]
    while names and not names[-1]:
        names.pop()
    given = {n: np.asarray(x) for n, x in inputs.items() if x is not None}
    node = helper.make_node(op, names, outputs, domain=domain, **attributes)
    wanted = [n for n in outputs if n]
    print(name, file=sys.stderr, flush=True) if '-v' in sys.argv else None
    graph = helper.make_graph([node], name, [helper.make_tensor_value_info(n, TYPES[str(x.dtype)], x.shape) for n, x in given.items()],
                              [ValueInfoProto(name=n) for n in wanted])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        results = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(wanted, given)
    except Exception as error:  # a form that the CPU provider has no kernel for is no golden
        print(f"{name}: {str(error).splitlines()[0][:230]}")
        return
    results = dict(zip(wanted, results))
    if undefined:
        undefined(results)
    tensors[f"{name}/model"] = np.frombuffer(model.SerializeToString(), np.uint8)
    for n, x in given.items():
        tensors[f"{name}/in/{n}"] = np.array(x, order="C")
    for n, x in results.items():
        assert f"{name}/out/{n}" not in tensors, name
        tensors[f"{name}/out/{n}"] = np.array(x, order="C")


def attention():
    b, s, h, w = 2, 3, 8, 2
    def base(width=24):
        return {"x": f(b, s, h), "w": f(h, width), "bias": f(width)}
    case("attention", "Attention", base(), ["y"], num_heads=w)
    case("attention_scale", "Attention", base(), ["y"], num_heads=w, scale=0.3)
    case("attention_causal", "Attention", base(), ["y"], num_heads=w, unidirectional=1)
    case("attention_lengths", "Attention", {**base(), "mask": i32(2, 3)}, ["y"], num_heads=w)
    case("attention_begins_and_ends", "Attention", {**base(), "mask": i32(3, 2, 1, 0)}, ["y"], num_heads=w)
    case("attention_mask_2d", "Attention", {**base(), "mask": i32([1, 1, 0], [1, 1, 1])}, ["y"], num_heads=w)
    case("attention_mask_3d", "Attention", {**base(), "mask": i32([[1, 0, 0], [1, 1, 0], [1, 0, 1]], [[1, 1, 1], [0, 1, 1], [1, 1, 1]])}, ["y"],
         num_heads=w)
    case("attention_mask_value", "Attention", {**base(), "mask": i32([1, 1, 0], [1, 0, 1])}, ["y"], num_heads=w, mask_filter_value=-1.5)
    past = {"past": f(2, b, w, 4, 4)}
    case("attention_past", "Attention", {**base(), "mask": None, **past}, ["y", "present"], num_heads=w)
    case("attention_past_causal", "Attention", {**base(), "mask": None, **past}, ["y", "present"], num_heads=w, unidirectional=1)
    case("attention_past_mask", "Attention", {**base(), "mask": i32([1, 1, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]), **past}, ["y", "present"], num_heads=w,
         unidirectional=1)
    case("attention_added", "Attention", {**base(), "mask": None, "past": None, "added": f(b, w, s, s)}, ["y"], num_heads=w)
    case("attention_added_broadcast", "Attention", {**base(), "mask": None, "past": None, "added": f(1, w, s, s)}, ["y"], num_heads=w)
    case("attention_widths", "Attention", base(8 + 8 + 12), ["y"], num_heads=w, qkv_hidden_sizes=[8, 8, 12])


def multi_head_attention():
    b, s, k, h, w = 2, 3, 5, 8, 2
    def qkv(kv=s, v=h):
        return {"q": f(b, s, h), "k": f(b, kv, h), "v": f(b, kv, v)}
    case("mha", "MultiHeadAttention", qkv(), ["y"], num_heads=w)
    case("mha_cross", "MultiHeadAttention", qkv(k), ["y"], num_heads=w, scale=0.4)
    case("mha_value_width", "MultiHeadAttention", qkv(k, 12), ["y"], num_heads=w)
    case("mha_bias", "MultiHeadAttention", {**qkv(), "bias": f(24)}, ["y"], num_heads=w)
    case("mha_causal", "MultiHeadAttention", qkv(), ["y"], num_heads=w, unidirectional=1)
    case("mha_lengths", "MultiHeadAttention", {**qkv(k), "bias": None, "mask": i32(2, 5)}, ["y"], num_heads=w)
    case("mha_mask_2d", "MultiHeadAttention", {**qkv(k), "bias": None, "mask": i32([1, 1, 1, 0, 0], [0, 1, 1, 1, 1])}, ["y"], num_heads=w)
    case("mha_mask_3d", "MultiHeadAttention", {**qkv(), "bias": None, "mask": rng.integers(0, 2, (b, s, s)).astype(np.int32) | np.eye(s, dtype=np.int32)},
         ["y"], num_heads=w)
    case("mha_added", "MultiHeadAttention", {**qkv(k), "bias": None, "mask": None, "added": f(b, w, s, k)}, ["y"], num_heads=w)
    case("mha_added_broadcast", "MultiHeadAttention", {**qkv(k), "bias": None, "mask": None, "added": f(1, 1, s, k)}, ["y"], num_heads=w)
    past = {"bias": None, "mask": None, "added": None, "past_k": f(b, w, 4, 4), "past_v": f(b, w, 4, 4)}
    case("mha_past", "MultiHeadAttention", {**qkv(), **past}, ["y", "present_k", "present_v"], num_heads=w)
    case("mha_past_causal", "MultiHeadAttention", {**qkv(), **past}, ["y", "present_k", "present_v"], num_heads=w, unidirectional=1)
    case("mha_past_bias_mask", "MultiHeadAttention", {**qkv(), **past, "bias": f(24), "mask": i32([1, 1, 0, 0, 1, 1, 1], [1] * 7)},
         ["y", "present_k", "present_v"], num_heads=w)
    case("mha_present", "MultiHeadAttention", qkv(), ["y", "present_k", "present_v"], num_heads=w)
    case("mha_cross_heads", "MultiHeadAttention", {"q": f(b, s, h), "k": f(b, w, k, 4), "v": f(b, w, k, 4)}, ["y"], num_heads=w)
    case("mha_cross_heads_bias", "MultiHeadAttention", {"q": f(b, s, h), "k": f(b, w, k, 4), "v": f(b, w, k, 4), "bias": f(24)}, ["y"], num_heads=w)


def group_query_attention():
    heads, groups, width = 4, 2, 16
    angles = np.arange(16)[:, None] / 100 ** (np.arange(8)[None] / 8)
    turn = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    # Each example has `lengths` tokens; those behind a prompt's length are padding.
    def inputs(new, past, room, lengths, packed=False, kv=groups):
        b = len(lengths)
        all_ = f(b, new, (heads + 2 * kv) * width)
        q, k, v = np.split(all_, [heads * width, (heads + kv) * width], 2)
        result = {"q": all_, "k": None, "v": None} if packed else {"q": q, "k": k, "v": v}
        result |= {"past_k": f(b, kv, room, width) if room else None, "past_v": f(b, kv, room, width) if room else None}
        return result | {"lengths": i32(*[n - 1 for n in lengths]), "total": np.array(past + new, np.int32)}
    out = ["y", "present_k", "present_v"]
    def gqa(name, given, undefined=None, kv=groups, **attributes):
        case("gqa_" + name, "GroupQueryAttention", given, out, undefined, num_heads=heads, kv_num_heads=kv, **attributes)
    # What a prompt gives for padding means nothing, nor does what lies in the cache behind an example's length.
    def meaningless(lengths, new, prompt):
        def mark(results):
            for e, n in enumerate(lengths):
                if prompt:
                    results["y"][e, n:] = np.nan
                results["present_k"][e, :, n:] = np.nan
                results["present_v"][e, :, n:] = np.nan
        return mark
    gqa("prompt", inputs(5, 0, 0, [5, 5]))
    gqa("prompt_padded", inputs(5, 0, 0, [3, 5]), meaningless([3, 5], 5, True))
    gqa("prompt_one_group", inputs(5, 0, 0, [5, 5], kv=1), kv=1)
    gqa("prompt_packed", inputs(5, 0, 0, [5, 5], packed=True))
    gqa("past", inputs(1, 4, 4, [5, 5]))
    gqa("past_several", inputs(3, 4, 4, [7]))
    gqa("past_packed", inputs(1, 4, 4, [5, 5], packed=True))
    gqa("past_lengths", inputs(1, 4, 4, [3, 5]), meaningless([3, 5], 1, False))
    gqa("past_room", inputs(1, 4, 9, [5, 5]), meaningless([5, 5], 1, False))
    gqa("past_room_lengths", inputs(1, 4, 9, [3, 5]), meaningless([3, 5], 1, False))
    gqa("prompt_room", inputs(4, 0, 9, [4, 4]), meaningless([4, 4], 4, True))
    gqa("scale", inputs(3, 0, 0, [3, 3]), scale=0.2)
    gqa("softcap", inputs(3, 4, 4, [7]), softcap=0.7)
    gqa("window", inputs(6, 0, 0, [6, 6]), local_window_size=2)
    gqa("window_past", inputs(1, 6, 6, [7, 5]), meaningless([7, 5], 1, False), local_window_size=3)
    for name, extra in (("halves", {}), ("interleaved", {"rotary_interleaved": 1})):
        gqa(f"rotary_{name}", {**inputs(5, 0, 0, [5, 5]), **turn}, do_rotary=1, **extra)
        gqa(f"rotary_{name}_padded", {**inputs(5, 0, 0, [2, 5]), **turn}, meaningless([2, 5], 5, True), do_rotary=1, **extra)
        gqa(f"rotary_{name}_past", {**inputs(1, 4, 4, [5, 5]), **turn}, do_rotary=1, **extra)
        gqa(f"rotary_{name}_past_lengths", {**inputs(1, 4, 4, [3, 5]), **turn}, meaningless([3, 5], 1, False), do_rotary=1, **extra)
        gqa(f"rotary_{name}_packed", {**inputs(2, 4, 4, [6], packed=True), **turn}, do_rotary=1, **extra)
    width = 32  # of which half is turned
    gqa("rotary_part", {**inputs(3, 0, 0, [3, 3]), **turn}, do_rotary=1)
    width = 16
    places = {"places": np.array([[3, 4, 5], [3, 4, 5]], np.int64)}
    gqa("positions", {**inputs(3, 0, 0, [3, 3]), **turn, **places}, do_rotary=1)
    added = {"cos": None, "sin": None, "places": None}
    gqa("added", {**inputs(3, 0, 0, [3, 3]), **added, "added": f(2, heads, 3, 3)})
    gqa("added_broadcast", {**inputs(1, 4, 4, [5, 5]), **added, "added": f(1, 1, 1, 5)})
    gqa("smooth", inputs(3, 4, 4, [7]), smooth_softmax=1)
    gqa("sink", {**inputs(3, 0, 0, [3, 3]), **added, "added": None, "sink": f(heads)})


def quantised():
    def packed(codes, bits):  # along the last axis, the first in the lowest bits
        each = 8 // bits
        codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % each)])
        return sum((codes[..., p::each].astype(np.uint8) << (p * bits) for p in range(each)), np.zeros((), np.uint8)).astype(np.uint8)
    for bits in (2, 4, 8):
        for k, n, block in ((32, 3, 16), (48, 5, 32), (40, 4, 16)):
            blocks = -(-k // block)
            codes = rng.integers(0, 1 << bits, (n, blocks, block))
            zeros = rng.integers(0, 1 << bits, (n, blocks))
            name = f"nbits{bits}_{k}x{n}"
            given = {"x": f(2, 3, k), "w": packed(codes, bits), "scales": np.abs(f(n, blocks, spread=0.2))}
            size = {"K": k, "N": n, "bits": bits, "block_size": block}
            case(name, "MatMulNBits", given, ["y"], **size)
            case(name + "_zero_points", "MatMulNBits", {**given, "z": packed(zeros, bits)}, ["y"], **size)
            if block == 32:
                case(name + "_bias", "MatMulNBits", {**given, "z": None, "g": None, "bias": f(n)}, ["y"], **size)
            if block == 32 and bits == 4:  # with 2 bits its results do not follow g_idx
                case(name + "_float_zero_points", "MatMulNBits", {**given, "z": zeros.astype(np.float32) + 0.5}, ["y"], **size)
                order = rng.integers(0, blocks, (k,)).astype(np.int32)
                case(name + "_groups", "MatMulNBits", {**given, "z": None, "g": order}, ["y"], **size)
    data, scales = rng.integers(0, 256, (5, 3, 32)).astype(np.uint8), np.abs(f(5, 3, 2))
    given = {"data": data, "at": np.array([[4, 0, 2]], np.int64), "scales": scales}
    case("gather_quantised_8", "GatherBlockQuantized", {**given, "z": rng.integers(0, 256, scales.shape).astype(np.uint8)}, ["y"], quantize_axis=2, block_size=16, bits=8)
    case("gather_quantised_4", "GatherBlockQuantized", {"data": rng.integers(0, 256, (5, 16)).astype(np.uint8), "at": np.array([4, 0, 2], np.int32),
                                                        "scales": np.abs(f(5, 2))}, ["y"], block_size=16, bits=4)


def rotary():
    angles = np.arange(16)[:, None] / 50 ** (np.arange(3)[None] / 3)
    turn = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    flat, heads = f(2, 4, 18), f(2, 3, 4, 6)
    for kind, x in (("flat", flat), ("heads", heads)):
        for interleaved in (0, 1):
            name = f"rotary_{kind}{'_interleaved' if interleaved else ''}"
            case(name, "RotaryEmbedding", {"x": x, "at": np.array([5], np.int64), **turn}, ["y"], interleaved=interleaved)
            case(name + "_positions", "RotaryEmbedding", {"x": x, "at": np.array([[0, 1, 2, 3], [9, 2, 7, 4]], np.int64), **turn}, ["y"], interleaved=interleaved)
            case(name + "_part", "RotaryEmbedding", {"x": f(2, 4, 24) if kind == "flat" else f(2, 3, 4, 8), "at": np.array([[0, 1, 2, 3], [9, 2, 7, 4]], np.int64),
                                                     **turn}, ["y"], interleaved=interleaved, num_heads=3, rotary_embedding_dim=6)
    case("rotary_scale", "RotaryEmbedding", {"x": flat, "at": np.array([0], np.int64), **turn}, ["y"], scale=2.0)


def norms():
    x, skip, gamma, beta, bias = f(2, 3, 8), f(2, 3, 8), f(8), f(8), f(8)
    four = ["y", "", "", "sum"]
    case("skip_norm", "SkipLayerNormalization", {"x": x, "skip": skip, "gamma": gamma, "beta": beta}, ["y"])
    case("skip_norm_sum", "SkipLayerNormalization", {"x": x, "skip": skip, "gamma": gamma, "beta": beta, "bias": bias}, four, epsilon=1e-3)
    case("skip_norm_no_beta", "SkipLayerNormalization", {"x": x, "skip": skip, "gamma": gamma}, ["y"])
    case("skip_norm_broadcast", "SkipLayerNormalization", {"x": x, "skip": f(1, 3, 8), "gamma": gamma, "beta": beta}, ["y"])
    case("skip_norm_2d", "SkipLayerNormalization", {"x": x, "skip": f(3, 8), "gamma": gamma, "beta": beta}, ["y"])
    case("skip_rms", "SkipSimplifiedLayerNormalization", {"x": x, "skip": skip, "gamma": gamma}, ["y"])
    case("skip_rms_sum", "SkipSimplifiedLayerNormalization", {"x": x, "skip": skip, "gamma": gamma, "bias": bias}, four, epsilon=1e-3)
    case("rms", "SimplifiedLayerNormalization", {"x": x, "scale": gamma}, ["y"], domain="", axis=-1, epsilon=1e-5)
    words, places, kinds = f(11, 8), f(6, 8), f(2, 8)
    ids = rng.integers(0, 11, (2, 4)).astype(np.int32)
    segments = rng.integers(0, 2, (2, 4)).astype(np.int32)
    mask = i32([1, 1, 1, 0], [1, 1, 1, 1])
    base = {"ids": ids, "segments": segments, "words": words, "places": places, "kinds": kinds, "gamma": gamma, "beta": beta}
    case("embed", "EmbedLayerNormalization", base, ["y", "lengths"])
    case("embed_mask", "EmbedLayerNormalization", {**base, "mask": mask}, ["y", "lengths"], epsilon=1e-3)
    case("embed_sum", "EmbedLayerNormalization", {**base, "mask": mask}, ["y", "lengths", "sum"])
    case("embed_no_segments", "EmbedLayerNormalization", {**base, "segments": None, "kinds": None}, ["y", "lengths"])
    case("embed_positions", "EmbedLayerNormalization", {**base, "mask": None, "at": i32([3, 2, 1, 0], [0, 1, 4, 5])}, ["y", "lengths"])
    case("embed_position_row", "EmbedLayerNormalization", {**base, "mask": mask, "at": i32([3, 2, 1, 0])}, ["y", "lengths"])


def small():
    for a in (0, 1):
        for b in (0, 1):
            given = {"a": f(2, 3, *((5, 4) if a else (4, 5))), "b": f(2, 3, *((6, 5) if b else (5, 6)))}
            case(f"fused_matmul_{a}{b}", "FusedMatMul", given, ["y"], transA=a, transB=b, alpha=0.5)
    case("fused_matmul_batch_a", "FusedMatMul", {"a": f(4, 2, 3, 5), "b": f(2, 3, 5, 6)}, ["y"], transBatchA=1)
    case("fused_matmul_batch_a_transposed", "FusedMatMul", {"a": f(5, 2, 3, 4), "b": f(2, 3, 5, 6)}, ["y"], transBatchA=1, transA=1)
    case("fused_matmul_batch_b", "FusedMatMul", {"a": f(2, 3, 4, 5), "b": f(5, 2, 3, 6)}, ["y"], transBatchB=1, alpha=2.0)
    case("fused_matmul_vector", "FusedMatMul", {"a": f(5), "b": f(5, 6)}, ["y"], transA=1)
    x, bias = f(2, 3, 8, spread=2), f(8)
    case("bias_gelu", "BiasGelu", {"x": x, "b": bias}, ["y"])
    case("gelu", "Gelu", {"x": x}, ["y"])
    case("fast_gelu", "FastGelu", {"x": x}, ["y"])
    case("fast_gelu_bias", "FastGelu", {"x": x, "b": bias}, ["y"])
    case("quick_gelu", "QuickGelu", {"x": x}, ["y"])
    case("quick_gelu_alpha", "QuickGelu", {"x": x}, ["y"], alpha=-0.5)
    image, kernel = f(1, 2, 5, 5), f(3, 2, 3, 3)
    for kind, parameters in (("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.8]), ("HardSigmoid", [0.3, 0.4])):
        extra = {"activation_params": parameters} if parameters else {}
        case(f"fused_conv_{kind}", "FusedConv", {"x": image, "w": kernel, "b": f(3)}, ["y"], activation=kind, kernel_shape=[3, 3], pads=[1, 1, 1, 1], **extra)
    case("fused_conv_sum", "FusedConv", {"x": image, "w": kernel, "b": f(3), "z": f(1, 3, 3, 3)}, ["y"], activation="Relu")
    case("fused_gemm", "FusedGemm", {"a": f(3, 4), "b": f(5, 4), "c": f(5)}, ["y"], transB=1, alpha=0.5, beta=2.0, activation="Relu")


for make in (attention, multi_head_attention, group_query_attention, quantised, rotary, norms, small):
    make()
save_file(tensors, path)
path.chmod(0o644)
print(len({n.split("/")[0] for n in tensors}), "cases,", path.stat().st_size, "bytes")
