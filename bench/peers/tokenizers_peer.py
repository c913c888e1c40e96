"""Encodes texts with Tenon and with the `tokenizers` package, on one thread; checks that all results agree; prints times.

  python3 bench/peers/tokenizers_peer.py TOKENIZER_BENCH TOKENIZER.json TEXT_FILE [--by lines|paragraphs|whole] [--repeats N]

TEXT_FILE is text, or a JSON list of texts. Ends with 1 if a result differs. Each round times both, one after the other,
best of two; the ratio is the median over rounds of the package's time divided by Tenon's, with the smallest and largest.
Above 1, Tenon is faster. Both make numbers, offsets and masks of every text; the package is called through its
batch function, so that Python's own time is paid once.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402
from tokenizers import Tokenizer, decoders  # noqa: E402


def expected(t, text):
    e = t.encode(text)
    parts = []
    if len(e.ids) < 200:
        stream = decoders.DecodeStream(skip_special_tokens=True)
        parts = [stream.step(t, i) or "" for i in e.ids]
    return {"ids": e.ids, "type_ids": e.type_ids, "special": e.special_tokens_mask, "words": e.word_ids, "offsets": [list(o) for o in e.offsets],
            "decoded": t.decode(e.ids), "decoded_all": t.decode(e.ids, skip_special_tokens=False), "stream": parts}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("bench"), p.add_argument("tokenizer"), p.add_argument("text")
    p.add_argument("--by", choices=["lines", "paragraphs", "whole"], default="lines")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--show", type=int, default=5, help="differences to print")
    a = p.parse_args()
    raw = pathlib.Path(a.text).read_bytes().decode()
    if a.text.endswith(".json"):
        texts = json.loads(raw)
    else:
        texts = [raw] if a.by == "whole" else raw.split("\n\n" if a.by == "paragraphs" else "\n")
    t = Tokenizer.from_file(a.tokenizer)
    rounds = []  # (Tenon's seconds, the package's), in turns
    with tempfile.TemporaryDirectory() as folder:
        given, results = f"{folder}/texts.json", f"{folder}/results.json"
        pathlib.Path(given).write_text(json.dumps(texts))
        for turn in range(a.repeats):
            extra = [results] if turn == 0 else []
            ours = json.loads(subprocess.run([a.bench, a.tokenizer, given, "2", *extra], check=True, capture_output=True, text=True).stdout)
            best = 1e30
            for _ in range(2):
                start = time.perf_counter()
                t.encode_batch(texts)
                best = min(best, time.perf_counter() - start)
            rounds.append((ours["seconds"], best))
        made = json.loads(pathlib.Path(results).read_text())
    wrong = 0
    for text, mine in zip(texts, made):
        want = expected(t, text)
        bad = [k for k in want if mine.get(k) != want[k]]
        if bad:
            wrong += 1
            if wrong <= a.show:
                print(f"differs in {bad}: {text!r}")
                for k in bad[:2]:
                    print(f"  {k}: expected {str(want[k])[:400]}\n  {k}: got      {str(mine.get(k, mine.get('error')))[:400]}")
    size = ours["bytes"] / 1e6
    print(f"{len(texts)} texts, {size:.2f} MB, {ours['tokens']} tokens, {wrong} differ (tokenizers {tokenizers.__version__})")
    mine, peer = min(r[0] for r in rounds), min(r[1] for r in rounds)
    ratios = sorted(r[1] / r[0] for r in rounds)
    print(f"tenon {mine * 1e3:.1f} ms ({size / mine:.1f} MB/s), tokenizers {peer * 1e3:.1f} ms ({size / peer:.1f} MB/s), "
          f"ratio {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); load {ours['load_seconds'] * 1e3:.0f} ms")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
