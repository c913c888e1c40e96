"""Writes tests/formats/goldens/*.safetensors with the reference implementation.

  pip install safetensors numpy && python3 tools/goldens/safetensors_files.py
"""
import pathlib

import numpy as np
from safetensors import TensorSpec, serialize_file
from safetensors.numpy import save_file

folder = pathlib.Path(__file__).parents[2] / "tests/formats/goldens"
folder.mkdir(parents=True, exist_ok=True)
tensors = {
    "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
    "layer.bias": np.array([-1.5, 0, 2.5], dtype=np.float64),
    "a.bool": np.array([True, False, True]),
    "counts": np.array([1, -2, 3], dtype=np.int64),
    "bytes": np.arange(5, dtype=np.uint8),
    "signed": np.array([-128, 127], dtype=np.int8),
    "half": np.array([0.5, -2], dtype=np.float16),
    "short": np.array([-3, 3], dtype=np.int16),
    "ushort": np.array([65535], dtype=np.uint16),
    "ints": np.array([[-7]], dtype=np.int32),
    "uints": np.array([2**32 - 1], dtype=np.uint32),
    "ulongs": np.array([2**64 - 1], dtype=np.uint64),
    "scalar": np.array(3.25, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "größe": np.array([1.0], dtype=np.float32),
}
save_file(tensors, folder / "all.safetensors", metadata={"format": "np"})
raw = {
    "b": ("bfloat16", np.array([0x3F80, 0xC020], dtype=np.uint16)),  # 1.0, -2.5
    "e4m3": ("float8_e4m3fn", np.array([0x38, 0xC4], dtype=np.uint8)),  # 1.0, -3.0
    "e5m2": ("float8_e5m2", np.array([0x3E], dtype=np.uint8)),  # 1.5
}
specs = {
    name: TensorSpec(dtype=dtype, shape=list(a.shape), data_ptr=a.ctypes.data, data_len=a.nbytes)
    for name, (dtype, a) in raw.items()
}
serialize_file(specs, folder / "low_precision.safetensors")
for path in folder.glob("*.safetensors"):
    path.chmod(0o644)
