"""Writes tests/models/goldens/lora_NAME/: adapters as the peft package saves them, and what the adapted models compute.

  pip install torch transformers peft && python3 tools/goldens/lora_adapters.py
"""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

folder = pathlib.Path(__file__).parents[2] / "tests/models/goldens"
for base, targets, options in [("llama", ["q_proj", "v_proj", "down_proj"], {}), ("gpt2", ["c_attn"], {"fan_in_fan_out": True, "use_rslora": True})]:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(folder / base)
    adapted = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, target_modules=targets, lora_dropout=0.0, **options))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, 0, 0.3)
    path = folder / f"lora_{base}"
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)
    ids = torch.tensor([[3, 14, 15, 9, 26, 5]])
    with torch.no_grad():
        logits = adapted.eval()(ids).logits
    (path / "expected.json").write_text(json.dumps({"ids": ids.tolist(), "logits": logits.flatten().tolist()}))
    for file in path.iterdir():
        file.chmod(0o644)
