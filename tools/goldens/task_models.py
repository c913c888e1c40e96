"""Writes tests/models/goldens/NAME/: T5, ResNet and models with the head of a task, tiny and of seeded random weights, as transformers saves
them, and what they compute.

  pip install torch transformers && python3 tools/goldens/task_models.py

With --check FOLDER: loads what Tenon saved there (FOLDER/NAME) with transformers and compares it with the goldens.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers as t

folder = pathlib.Path(__file__).parents[2] / "tests/models/goldens"
small = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=32, num_labels=3)
labels = dict(id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2})
t5 = dict(decoder_start_token_id=0, vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, relative_attention_num_buckets=8, relative_attention_max_distance=20)


def models():
    yield "t5", t.T5ForConditionalGeneration, t.T5Config(**t5)
    yield "t5_gated", t.T5ForConditionalGeneration, t.T5Config(**t5, num_decoder_layers=1, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    yield "t5_encoder", t.T5EncoderModel, t.T5Config(**t5)
    yield "t5_sequence", t.T5ForSequenceClassification, t.T5Config(**{**t5, "num_layers": 1}, num_labels=3)
    yield "t5_token", t.T5ForTokenClassification, t.T5Config(**{**t5, "num_layers": 1}, num_labels=3)
    for family, kind in (("Bert", dict(type_vocab_size=2)), ("Roberta", dict(type_vocab_size=1, pad_token_id=1))):
        for task in ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM"):
            config = {k: v for k, v in small.items() if k != "num_labels" or task in ("SequenceClassification", "TokenClassification")}
            named = labels if task == "SequenceClassification" else {}
            yield f"{family}_{task}".lower(), getattr(t, f"{family}For{task}"), getattr(t, f"{family}Config")(**{**config, **named}, **kind)
    for task in ("SequenceClassification", "TokenClassification", "QuestionAnswering"):
        count = {} if task == "QuestionAnswering" else {"num_labels": 3}
        yield f"gpt2_{task}".lower(), getattr(t, f"GPT2For{task}"), t.GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=1, n_head=2, pad_token_id=1, **count)
        config = {k: v for k, v in small.items() if k != "num_labels"}
        yield f"llama_{task}".lower(), getattr(t, f"LlamaFor{task}"), t.LlamaConfig(**config, num_key_value_heads=2, pad_token_id=1, **count)
    yield "vit_classifier", t.ViTForImageClassification, t.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=24, image_size=8,
                                                                     patch_size=4, **labels)
    yield "resnet_bottleneck", t.ResNetForImageClassification, t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 1], num_labels=3)
    yield "resnet_basic", t.ResNetModel, t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 2], layer_type="basic", downsample_in_first_stage=True)
    yield "resnet_early", t.ResNetForImageClassification, t.ResNetConfig(embedding_size=4, hidden_sizes=[8, 8], depths=[1, 1], downsample_in_bottleneck=True, **labels)


def flat(x):
    return x.flatten().tolist()


def outputs(model, name):
    model.eval()
    torch.manual_seed(7)
    if name.startswith(("vit", "resnet")):
        images = torch.randn(2, 3, 8 if name.startswith("vit") else 20, 8 if name.startswith("vit") else 20)
        out = model(images)
        return {"images": flat(images), "size": images.shape[2], "result": flat(out.logits if hasattr(out, "logits") else out.last_hidden_state)}
    ids = torch.randint(2, 40, (2, 30 if name == "t5" else 9))
    mask = torch.ones_like(ids)
    ids[1, 6:], mask[1, 6:] = (0 if name.startswith("t5") else 1), 0
    if name in ("t5", "t5_gated"):
        decoder = torch.randint(2, 40, (2, 26))
        logits = model(ids, attention_mask=mask, decoder_input_ids=decoder).logits
        greedy = model.generate(ids[:1], max_new_tokens=20, do_sample=False, eos_token_id=None)
        distances = torch.arange(-30, 31)
        buckets = [t.models.t5.modeling_t5.T5Attention._relative_position_bucket(distances, both, count, most).tolist()
                   for both, count, most in ((True, 32, 128), (False, 32, 128), (True, 8, 20), (False, 8, 20))]
        wide = torch.arange(-300, 301)
        buckets += [t.models.t5.modeling_t5.T5Attention._relative_position_bucket(wide, both, 32, 128).tolist() for both in (True, False)]
        return {"ids": ids.tolist(), "mask": mask.tolist(), "decoder": decoder.tolist(), "result": flat(logits), "greedy": greedy[0, 1:].tolist(), "buckets": buckets}
    if name == "t5_encoder":
        return {"ids": ids.tolist(), "mask": mask.tolist(), "result": flat(model(ids, attention_mask=mask).last_hidden_state)}
    if name == "t5_sequence":
        ids[0, 8], ids[1, 5] = 1, 1
    call = {"attention_mask": mask}
    result = {"ids": ids.tolist(), "mask": mask.tolist()}
    if name.startswith("bert"):
        call["token_type_ids"] = (torch.arange(9) >= 4).long().expand(2, 9)
        result["types"] = call["token_type_ids"].tolist()
    out = model(ids, **call)
    logits = torch.stack([out.start_logits, out.end_logits], -1) if hasattr(out, "start_logits") else out.logits
    if name.startswith(("gpt2", "llama")) and logits.ndim == 3:
        logits = logits[:1]  # what stands at padding means nothing: there the mask would matter
        result["ids"] = result["ids"][:1]
    return {**result, "result": flat(logits)}


def main():
    check = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 and sys.argv[1] == "--check" else None
    for seed, (name, kind, config) in enumerate(models()):
        with torch.no_grad():
            if check:
                made, expected = outputs(kind.from_pretrained(check / name), name), json.loads((folder / name / "expected.json").read_text())
                difference = max(abs(x - y) for x, y in zip(made["result"], expected["result"], strict=True))
                print(f"{name}: largest difference {difference:.2e}")
                assert difference < 1e-5 and made.get("greedy") == expected.get("greedy")
                continue
            torch.manual_seed(seed)
            model = kind(config)
            for parameter in model.parameters():  # larger than at the start of training, so that mistakes show
                torch.nn.init.normal_(parameter, 0, 0.25)
            for key, buffer in model.named_buffers():
                if key.endswith("running_mean"):
                    torch.nn.init.normal_(buffer, 0, 0.25)
                if key.endswith("running_var"):
                    torch.nn.init.uniform_(buffer, 0.5, 2)
            path = folder / name
            shutil.rmtree(path, ignore_errors=True)
            model.save_pretrained(path)
            (path / "expected.json").write_text(json.dumps(outputs(model, name)))
        for file in path.iterdir():
            file.chmod(0o644)


if __name__ == "__main__":
    main()
