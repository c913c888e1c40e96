"""The measurements of bench/ops_bench.cpp in PyTorch, from the same inputs: torch_ops.py THREADS FOLDER"""
import json
import os
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(__file__))
from torch_train_step import load

torch.set_num_threads(int(sys.argv[1]))
torch.set_grad_enabled(False)
x = load(os.path.join(sys.argv[2], "inputs.safetensors"))
small, row, a, b, wide, index, image, kernel, q, spd = (
    x[n] for n in ("small", "row", "square", "square2", "wide", "index", "image", "kernel", "q", "spd"))
zero = torch.tensor(0.0)
CALLS = {
    "add_small": lambda: small + small,
    "matmul_small": lambda: small @ small,
    "add": lambda: a + b,
    "add_row": lambda: wide + row,
    "exp": lambda: torch.exp(a),
    "gelu": lambda: F.gelu(a),
    "where": lambda: torch.where(a > 0, a, b),
    "transpose_add": lambda: a.mT + b,
    "cast_bf16": lambda: a.bfloat16(),
    "sum": lambda: a.sum(),
    "sum_rows": lambda: wide.sum(1),
    "sum_columns": lambda: wide.sum(0),
    "argmax": lambda: wide.argmax(1),
    "softmax": lambda: wide.softmax(1),
    "layer_norm": lambda: F.layer_norm(wide, row.shape, row, row),
    "cumsum": lambda: wide.cumsum(1),
    "sort": lambda: wide.sort(1, stable=True)[0],
    "topk": lambda: wide.topk(10, 1)[0],
    "unique": lambda: index.unique(return_inverse=True, return_counts=True)[0],
    "take": lambda: F.embedding(index[0], wide),
    "take_along_axis": lambda: a.gather(0, index),
    "mask": lambda: a.masked_fill(a < 0, 0),
    "concat": lambda: torch.cat((a, b), 1),
    "pad": lambda: F.pad(a, (3, 3, 3, 3)),
    "contiguous_transpose": lambda: a.mT.contiguous(),
    "normal": lambda: torch.randn(1024, 1024),
    "dropout": lambda: F.dropout(a, 0.1),
    "matmul": lambda: a @ b,
    "conv2d": lambda: F.conv2d(image, kernel, padding=1),
    "max_pool2d": lambda: F.max_pool2d(image, 2),
    "attention": lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True),
    "cholesky": lambda: torch.linalg.cholesky(spd),
    "svd": lambda: torch.linalg.svdvals(spd),
}
result = {}
for name, call in CALLS.items():
    first = call()
    seconds = []
    while len(seconds) < 5 or (sum(seconds) < 0.2 and len(seconds) < 10000):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    seconds.sort()
    result[name] = {"median": seconds[len(seconds) // 2], "least": seconds[0], "most": seconds[-1], "checksum": first.double().mean().item()}
print(json.dumps(result))
