"""Writes tests/formats/goldens/*.pt: weights as torch.save writes them, and pickles that ask for what they should not get.

  pip install torch numpy && python3 tools/goldens/torch_files.py
"""
import collections
import os
import pathlib
import zipfile

import torch

folder = pathlib.Path(__file__).parents[2] / "tests/formats/goldens"
shared = torch.arange(12, dtype=torch.float32).reshape(3, 4)
plain = collections.OrderedDict({
    "fc.weight": shared / 4, "fc.bias": torch.tensor([1.5, -2.0], dtype=torch.float64), "half": torch.tensor([0.5], dtype=torch.float16),
    "bf16": torch.tensor([1.0, -2.5], dtype=torch.bfloat16), "count": torch.tensor(7), "mask": torch.tensor([True, False]),
    "bytes": torch.tensor([1, 255], dtype=torch.uint8), "view": shared, "transposed": shared.t(), "row": shared[1], "empty": torch.zeros(0, 3),
})
torch.save(plain, folder / "plain.pt")
torch.save({"model": {"w": torch.nn.Parameter(torch.tensor([3.0]))}, "epoch": 3, "lr": 0.5, "name": "größe", "list": [torch.tensor([4]), None, (torch.tensor([5]),)]}, folder / "nested.pt")


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/tenon-was-here",)


torch.save({"w": torch.tensor([1.0]), "x": Evil()}, folder / "evil.pt")
# A tensor that claims more elements than its storage has: the shape's 4 becomes 250.
with zipfile.ZipFile(folder / "nested.pt") as source, zipfile.ZipFile(folder / "beyond.pt", "w", zipfile.ZIP_STORED) as target:
    for item in source.infolist():
        content = source.read(item)
        if item.filename.endswith("data.pkl"):
            at = content.index(b"K\x01\x85")  # (1,): the first shape
            content = content[:at + 1] + b"\xfa" + content[at + 2:]
        target.writestr(item, content)
for path in folder.glob("*.pt"):
    path.chmod(0o644)
