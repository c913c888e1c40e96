"""Records what PyTorch answers, in the form that tests/support/goldens.h reads.

A script of this folder makes a Recorder, adds cases and saves:

    r = Recorder(seed=0)
    r.add("relu", torch.relu, r.normal(3, 4))
    r.save("tests/ops/goldens/torch_ops.safetensors")

Results are recorded, and gradients of sum(result * cotangent) for random cotangents.
"""
import json
import struct

import torch

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
          torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


class Recorder:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.tensors = {}

    def normal(self, *shape, dtype=torch.float32):
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def uniform(self, low, high, *shape, dtype=torch.float32):
        return (torch.rand(shape, generator=self.generator, dtype=torch.float64) * (high - low) + low).to(dtype)

    def integers(self, low, high, *shape, dtype=torch.int64):
        return torch.randint(low, high, shape, generator=self.generator, dtype=dtype)

    def add(self, name, function, *inputs, grad=True):
        """Runs `function` on `inputs`; with `grad`, float inputs are differentiated where the result depends on them."""
        assert f"{name}/out0" not in self.tensors, name
        inputs = [x.detach().clone().requires_grad_(grad and x.is_floating_point()) for x in inputs]
        results = function(*inputs)
        results = list(results) if isinstance(results, (tuple, list)) else [results]
        for i, x in enumerate(inputs):
            self.tensors[f"{name}/in{i}"] = x
        for i, y in enumerate(results):
            self.tensors[f"{name}/out{i}"] = y
        if not any(y.requires_grad for y in results):
            return
        cotangents = [self.normal(*y.shape, dtype=y.dtype) if y.is_floating_point() else torch.zeros_like(y)
                      for y in results]
        loss = sum((y * c).sum() for y, c in zip(results, cotangents) if y.requires_grad)
        wanted = [x for x in inputs if x.requires_grad]
        grads = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        for i, c in enumerate(cotangents):
            self.tensors[f"{name}/ct{i}"] = c if results[i].requires_grad else torch.zeros_like(c)
        for i, x in enumerate(inputs):
            g = next(grads) if x.requires_grad else None
            if g is not None:
                self.tensors[f"{name}/grad{i}"] = g.to_dense() if g.is_sparse else g

    def save(self, path):
        header, data = {}, b""
        for name, t in self.tensors.items():
            t = t.detach().contiguous()
            raw = t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
            header[name] = {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + data)
        print(f"{path}: {len(self.tensors)} tensors, {8 + len(text) + len(data)} bytes, PyTorch {torch.__version__}")
