"""Writes tests/models/goldens/NAME/: tiny models of seeded random weights as transformers saves them, and what they compute.

  pip install torch transformers && python3 tools/goldens/pretrained_models.py

With --check FOLDER: loads what Tenon saved there (FOLDER/NAME) with transformers and compares it with the goldens.
"""
import json
import pathlib
import shutil
import sys

import torch
from transformers import (AutoModel, AutoModelForCausalLM, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, RobertaConfig, RobertaModel)

folder = pathlib.Path(__file__).parents[2] / "tests/models/goldens"
small = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)
rope3 = {"rope_type": "llama3", "rope_theta": 5000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


def models():
    yield "llama", LlamaForCausalLM, LlamaConfig(**small, num_key_value_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, head_dim=6)
    yield "llama3", LlamaForCausalLM, LlamaConfig(**small, num_key_value_heads=1, rope_parameters=rope3, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)
    yield "mistral", MistralForCausalLM, MistralConfig(**small, num_key_value_heads=2, sliding_window=4)
    yield "qwen2", Qwen2ForCausalLM, Qwen2Config(**small, num_key_value_heads=4, tie_word_embeddings=True)
    yield "gpt2", GPT2LMHeadModel, GPT2Config(vocab_size=40, n_positions=48, n_embd=16, n_layer=2, n_head=2)
    yield "bert", BertModel, BertConfig(**small)
    yield "roberta", RobertaModel, RobertaConfig(**small, type_vocab_size=1, pad_token_id=1)


def outputs(model, name):
    model.eval()
    torch.manual_seed(7)
    ids = torch.randint(2, 40, (2, 9))
    with torch.no_grad():
        if name in ("bert", "roberta"):
            ids[1, 6:] = 1
            mask = torch.ones_like(ids)
            mask[1, 6:] = 0
            types = torch.zeros_like(ids)
            if name == "bert":
                types[:, 4:] = 1
            out = model(ids, attention_mask=mask, token_type_ids=types)
            return {"ids": ids.tolist(), "mask": mask.tolist(), "types": types.tolist(), "hidden": out.last_hidden_state.flatten().tolist(),
                    "pooled": out.pooler_output.flatten().tolist()}
        model.generation_config.eos_token_id = None
        greedy = model.generate(ids[:1], max_new_tokens=20, do_sample=False, pad_token_id=0)
        return {"ids": ids.tolist(), "logits": model(ids).logits.flatten().tolist(), "greedy": greedy[0, 9:].tolist()}


def largest_difference(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        for name, _, _ in models():
            path = pathlib.Path(sys.argv[2]) / name
            model = (AutoModel if name in ("bert", "roberta") else AutoModelForCausalLM).from_pretrained(path)
            made, expected = outputs(model, name), json.loads((folder / name / "expected.json").read_text())
            for key in expected:
                if key in ("logits", "hidden", "pooled"):
                    difference = largest_difference(made[key], expected[key])
                    print(f"{name}: {key}: largest difference {difference:.2e}")
                    assert difference < 1e-5
                else:
                    assert made[key] == expected[key], (name, key)
        return
    for seed, (name, kind, config) in enumerate(models()):
        torch.manual_seed(seed)
        model = kind(config)
        for parameter in model.parameters():  # larger than at the start of training, so that mistakes show
            torch.nn.init.normal_(parameter, 0, 0.25)
        path = folder / name
        shutil.rmtree(path, ignore_errors=True)
        model.save_pretrained(path, max_shard_size="12KB" if name == "mistral" else "5GB")
        (path / "expected.json").write_text(json.dumps(outputs(model, name)))
        for file in path.iterdir():
            file.chmod(0o644)


if __name__ == "__main__":
    main()
