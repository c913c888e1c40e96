"""Writes tests/models/goldens/vit/: a tiny vision transformer of seeded random weights as transformers saves it, and what it computes.

  pip install torch transformers && python3 tools/goldens/vit_model.py
"""
import json
import pathlib

import torch
from transformers import ViTConfig, ViTModel

path = pathlib.Path(__file__).parents[2] / "tests/models/goldens/vit"
torch.manual_seed(11)
model = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, image_size=8, patch_size=4))
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, 0, 0.25)
model.save_pretrained(path)
images = torch.randn(2, 3, 8, 8)
with torch.no_grad():
    out = model.eval()(images)
(path / "expected.json").write_text(json.dumps({"images": images.flatten().tolist(), "hidden": out.last_hidden_state.flatten().tolist(),
                                                "pooled": out.pooler_output.flatten().tolist()}))
for file in path.iterdir():
    file.chmod(0o644)
