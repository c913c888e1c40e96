"""What PyTorch answers for the ops: tests/ops/torch_test.cpp checks values and gradients. Run from the repository root."""
import math
import sys
import os

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(__file__))
from peer import Recorder

r = Recorder(seed=20)
n, u, i = r.normal, r.uniform, r.integers


def save(part):
    r.save(f"tests/ops/goldens/torch_{part}.safetensors")
    r.tensors.clear()


# ---- elementwise: name, function, range of the input
unary = {
    "abs": (torch.abs, -3, 3), "square": (torch.square, -3, 3), "sqrt": (torch.sqrt, 0.1, 4), "rsqrt": (torch.rsqrt, 0.1, 4),
    "reciprocal": (torch.reciprocal, 0.2, 3), "exp": (torch.exp, -3, 3), "exp2": (torch.exp2, -3, 3), "expm1": (torch.expm1, -2, 2),
    "log": (torch.log, 0.1, 5), "log2": (torch.log2, 0.1, 5), "log10": (torch.log10, 0.1, 5), "log1p": (torch.log1p, -0.9, 5),
    "sin": (torch.sin, -6, 6), "cos": (torch.cos, -6, 6), "tan": (torch.tan, -1.3, 1.3), "asin": (torch.asin, -0.9, 0.9),
    "acos": (torch.acos, -0.9, 0.9), "atan": (torch.atan, -4, 4), "sinh": (torch.sinh, -3, 3), "cosh": (torch.cosh, -3, 3),
    "tanh": (torch.tanh, -3, 3), "asinh": (torch.asinh, -3, 3), "acosh": (torch.acosh, 1.1, 5), "atanh": (torch.atanh, -0.9, 0.9),
    "erf": (torch.erf, -3, 3), "erfc": (torch.erfc, -3, 3), "erfinv": (torch.erfinv, -0.95, 0.95), "lgamma": (torch.lgamma, 0.2, 6),
    "sign": (torch.sign, -2, 2), "floor": (torch.floor, -4, 4), "ceil": (torch.ceil, -4, 4), "round": (torch.round, -4, 4), "trunc": (torch.trunc, -4, 4),
    "relu": (F.relu, -3, 3), "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), -3, 3), "elu": (lambda x: F.elu(x, 0.7), -3, 3),
    "selu": (F.selu, -3, 3), "celu": (lambda x: F.celu(x, 1.5), -3, 3), "sigmoid": (torch.sigmoid, -5, 5), "log_sigmoid": (F.logsigmoid, -5, 5),
    "hard_sigmoid": (F.hardsigmoid, -5, 5), "hard_swish": (F.hardswish, -5, 5), "hard_tanh": (F.hardtanh, -3, 3), "relu6": (F.relu6, -3, 9),
    "silu": (F.silu, -5, 5), "mish": (F.mish, -5, 5), "softplus": (lambda x: F.softplus(x, beta=2), -5, 5), "softsign": (F.softsign, -5, 5),
    "gelu": (F.gelu, -4, 4), "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), -4, 4),
}
for name, (function, low, high) in unary.items():
    r.add(name, function, u(low, high, 11))

binary = {
    "add": (torch.add, -3, 3), "subtract": (torch.subtract, -3, 3), "multiply": (torch.multiply, -3, 3), "divide": (torch.divide, 0.3, 3),
    "floor_divide": (torch.floor_divide, 0.3, 9), "remainder": (torch.remainder, 0.5, 5), "fmod": (torch.fmod, 0.5, 5), "power": (torch.pow, 0.3, 3),
    "maximum": (torch.maximum, -3, 3), "minimum": (torch.minimum, -3, 3), "atan2": (torch.atan2, -3, 3), "logaddexp": (torch.logaddexp, -3, 3),
    "hypot": (torch.hypot, 0.2, 3), "copysign": (torch.copysign, -3, 3),
}
for name, (function, low, high) in binary.items():
    grad = name not in ("floor_divide",)
    r.add(name, function, u(low, high, 3, 1), u(low, high, 4), grad=grad)
r.add("remainder_integers", torch.remainder, torch.tensor([7, -7, 7, -7]), torch.tensor([3, 3, -3, -3]))
r.add("fmod_integers", torch.fmod, torch.tensor([7, -7, 7, -7]), torch.tensor([3, 3, -3, -3]))
r.add("floor_divide_integers", torch.floor_divide, torch.tensor([7, -7, 7, -7]), torch.tensor([3, 3, -3, -3]))
r.add("lerp", torch.lerp, n(3, 4), n(3, 4), n(3, 4))
r.add("clamp", torch.clamp, n(9), torch.tensor(-0.5), torch.tensor(0.6), grad=False)
r.add("where", torch.where, i(0, 2, 3, 4).bool(), n(3, 4), n(4))
r.add("prelu", F.prelu, n(2, 3, 4), u(0, 1, 3))

save("elementwise")

# ---- reductions and scans
for name, function in {
    "sum": lambda x: x.sum((0, 2)), "mean": lambda x: x.mean(1, keepdim=True), "prod": lambda x: x.prod(1), "amax": lambda x: x.amax((1, 2)),
    "amin": lambda x: x.amin(0), "var": lambda x: x.var((0, 1)), "std0": lambda x: x.std(2, correction=0, keepdim=True),
    "logsumexp": lambda x: x.logsumexp((0, 2)), "norm2": lambda x: torch.linalg.vector_norm(x, 2, (0, 1)), "norm1": lambda x: torch.linalg.vector_norm(x, 1, 2),
    "norm3": lambda x: torch.linalg.vector_norm(x, 3, 1), "norm_inf": lambda x: torch.linalg.vector_norm(x, math.inf, 2),
    "cumsum": lambda x: x.cumsum(1), "cumprod": lambda x: x.cumprod(2), "cummax": lambda x: x.cummax(2)[0], "cummin": lambda x: x.cummin(0)[0],
    "logcumsumexp": lambda x: x.logcumsumexp(1), "argmax": lambda x: x.argmax(1), "argmin": lambda x: x.argmin(2, keepdim=True),
    "softmax": lambda x: x.softmax(1), "log_softmax": lambda x: x.log_softmax(2), "median": lambda x: x.median(2)[0], "sort": lambda x: x.sort(2, descending=True),
    "topk": lambda x: x.topk(2, 2), "kthlast": lambda x: x.sort(1)[0][:, -1],
}.items():
    r.add(name, function, n(2, 3, 5))

save("reduce")

# ---- movement and gathering
r.add("tril", lambda x: torch.tril(x, -1), n(2, 4, 5))
r.add("triu", lambda x: torch.triu(x, 1), n(2, 4, 5))
r.add("roll", lambda x: torch.roll(x, (1, -2), (0, 1)), n(3, 5))
r.add("flip", lambda x: torch.flip(x, (0, 2)), n(2, 3, 4))
r.add("diagonal", lambda x: torch.diagonal(x, 1, -2, -1), n(2, 4, 4))
r.add("tile", lambda x: torch.tile(x, (2, 1, 3)), n(2, 3))
r.add("repeat_interleave", lambda x: torch.repeat_interleave(x, 3, 1), n(2, 3))
r.add("pad_constant", lambda x: F.pad(x, (1, 2, 0, 1), value=0.5), n(1, 2, 3, 4))
for mode in ("reflect", "replicate", "circular"):
    r.add("pad_" + mode, lambda x: F.pad(x, (1, 2, 2, 1), mode=mode), n(1, 2, 3, 4))
index = torch.tensor([[0, 2, 1], [1, 1, 0]])
r.add("take_along_axis", lambda x, k: torch.gather(x, 1, k), n(2, 4), index)
r.add("scatter_set", lambda x, k, v: x.scatter(1, k, v), n(2, 4), torch.tensor([[0, 2, 1], [1, 3, 0]]), n(2, 3))
r.add("scatter_add", lambda x, k, v: x.scatter_add(1, k, v), n(2, 4), index, n(2, 3))
r.add("scatter_max", lambda x, k, v: x.scatter_reduce(1, k, v, "amax"), n(2, 4), index, n(2, 3))
r.add("scatter_min", lambda x, k, v: x.scatter_reduce(1, k, v, "amin"), n(2, 4), index, n(2, 3))
r.add("embedding", lambda t, k: F.embedding(k, t), n(5, 3), i(0, 5, 2, 4))
r.add("searchsorted", lambda s, v: torch.searchsorted(s, v), n(9).sort()[0], n(7), grad=False)
r.add("bincount", lambda k: torch.bincount(k, minlength=6), i(0, 5, 12))

save("move")

# ---- linear algebra
r.add("matmul", torch.matmul, n(2, 1, 3, 4), n(5, 4, 2))
r.add("matmul_vector", torch.matmul, n(2, 3, 4), n(4))
r.add("einsum", lambda a, b, c: torch.einsum("bij,bjk,k->ib", a, b, c), n(2, 3, 4), n(2, 4, 5), n(5))
r.add("einsum_ellipsis", lambda a, b: torch.einsum("...ij,...kj->...ik", a, b), n(2, 3, 4), n(5, 4))
spd = n(2, 3, 3, dtype=torch.float64)
spd = spd @ spd.mT + 3 * torch.eye(3, dtype=torch.float64)
r.add("cholesky", lambda a: torch.linalg.cholesky((a + a.mT) / 2), spd)
r.add("solve", torch.linalg.solve, spd, n(2, 3, 2, dtype=torch.float64))
r.add("triangular_solve", lambda a, b: torch.linalg.solve_triangular(a, b, upper=False), spd, n(2, 3, 2, dtype=torch.float64))
r.add("inverse", torch.linalg.inv, spd)
r.add("det", torch.linalg.det, spd)
r.add("slogdet", torch.linalg.slogdet, spd)
r.add("singular_values", torch.linalg.svdvals, n(2, 4, 3, dtype=torch.float64))
r.add("eigenvalues", lambda a: torch.linalg.eigh((a + a.mT) / 2)[0], spd)
r.add("pinv", torch.linalg.pinv, n(4, 3, dtype=torch.float64))
r.add("kron", torch.kron, n(2, 3), n(3, 2))
r.add("outer", torch.outer, n(3), n(4))

save("linalg")

# ---- convolution and pooling
r.add("conv1d", lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1), n(2, 3, 9), n(4, 3, 3), n(4))
r.add("conv2d", lambda x, w, b: F.conv2d(x, w, b, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), n(2, 4, 7, 8), n(6, 2, 3, 2), n(6))
r.add("conv2d_depthwise", lambda x, w: F.conv2d(x, w, padding="same", groups=3), n(1, 3, 5, 5), n(3, 1, 3, 3))
r.add("conv3d", lambda x, w, b: F.conv3d(x, w, b, padding=1), n(1, 2, 3, 4, 4), n(3, 2, 2, 3, 3), n(3))
r.add("conv_transpose1d", lambda x, w, b: F.conv_transpose1d(x, w, b, stride=2, padding=1, output_padding=1), n(2, 3, 5), n(3, 2, 4), n(2))
r.add("conv_transpose2d", lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, groups=2, dilation=(1, 2)), n(1, 4, 4, 3), n(4, 3, 3, 2), n(6))
r.add("conv_transpose3d", lambda x, w: F.conv_transpose3d(x, w, stride=(1, 2, 1)), n(1, 2, 2, 3, 2), n(2, 2, 2, 2, 2))
r.add("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1), n(1, 2, 7, 6))
r.add("max_pool1d_ceil", lambda x: F.max_pool1d(x, 3, 2, ceil_mode=True, dilation=1), n(2, 2, 8))
r.add("max_pool3d", lambda x: F.max_pool3d(x, 2), n(1, 1, 4, 4, 4))
r.add("avg_pool2d", lambda x: F.avg_pool2d(x, (3, 2), 2, (1, 0)), n(1, 2, 7, 6))
r.add("avg_pool2d_exclude", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), n(1, 2, 6, 6))
r.add("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2), n(2, 2, 8))
r.add("lp_pool2d", lambda x: F.lp_pool2d(x, 2, 2), u(0.1, 2, 1, 2, 4, 4))
r.add("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (3, 2)), n(1, 2, 7, 5))
r.add("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (3, 2)), n(1, 2, 7, 5))

save("conv")

# ---- normalisation, attention, losses
r.add("layer_norm", lambda x, w, b: F.layer_norm(x, (3, 4), w, b), n(2, 3, 4), n(3, 4), n(3, 4))
r.add("rms_norm", lambda x, w: F.rms_norm(x, (4,), w, 1e-6), n(2, 3, 4), n(4))
r.add("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), n(2, 4, 3, 3), n(4), n(4))
r.add("instance_norm", lambda x, w, b: F.instance_norm(x, weight=w, bias=b), n(2, 3, 4, 2), n(3), n(3))
r.add("batch_norm_train", lambda x, w, b: F.batch_norm(x, None, None, w, b, True), n(4, 3, 2, 2), n(3), n(3))
r.add("batch_norm_infer", lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b), n(4, 3, 2), n(3), u(0.5, 2, 3), n(3), n(3), grad=False)
r.add("attention", F.scaled_dot_product_attention, n(2, 2, 4, 8), n(2, 2, 5, 8), n(2, 2, 5, 8))
r.add("attention_causal", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), n(1, 2, 5, 8), n(1, 2, 5, 8), n(1, 2, 5, 8))
r.add("attention_mask", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, scale=0.4), n(2, 2, 4, 8), n(2, 2, 5, 8), n(2, 2, 5, 8), n(1, 2, 4, 5))
r.add("attention_groups", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True), n(1, 4, 3, 8), n(1, 2, 5, 8), n(1, 2, 5, 8))
target = torch.tensor([1, 4, -100, 0])
r.add("cross_entropy", lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1), n(4, 5), target)
r.add("cross_entropy_none", lambda x, t: F.cross_entropy(x, t, reduction="none"), n(2, 5, 3), i(0, 5, 2, 3))
r.add("cross_entropy_probabilities", F.cross_entropy, n(4, 5), n(4, 5).softmax(1))
r.add("nll_loss", F.nll_loss, n(4, 5).log_softmax(1), target)
for name, function in {"mse_loss": F.mse_loss, "l1_loss": F.l1_loss, "huber_loss": lambda a, b: F.huber_loss(a, b, delta=0.7),
                       "smooth_l1_loss": lambda a, b: F.smooth_l1_loss(a, b, beta=0.5)}.items():
    r.add(name, function, n(3, 4), n(3, 4))
r.add("bce_with_logits", lambda x, t, p: F.binary_cross_entropy_with_logits(x, t, pos_weight=p.detach()), n(3, 4), u(0, 1, 3, 4), u(0.5, 2, 4))
r.add("kl_div", lambda x, t: F.kl_div(x, t, reduction="sum"), n(3, 4).log_softmax(1), n(3, 4).softmax(1))
r.add("cosine_embedding_loss", lambda a, b, t: F.cosine_embedding_loss(a, b, t, margin=0.1), n(4, 3), n(4, 3), torch.tensor([1, -1, -1, 1]))
r.add("cosine_similarity", lambda a, b: F.cosine_similarity(a, b, dim=1), n(4, 3), n(4, 3))
r.add("triplet_margin_loss", F.triplet_margin_loss, n(4, 3), n(4, 3), n(4, 3))

save("network")
