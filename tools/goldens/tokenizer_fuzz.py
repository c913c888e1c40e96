"""A fuzz corpus for tokenizers, and what the `tokenizers` package makes of it.

  pip install tokenizers
  python3 tools/goldens/tokenizer_fuzz.py SHARED_DATA          writes tests/text/goldens/fuzz.json.gz
  python3 tools/goldens/tokenizer_fuzz.py --texts N SEED FILE  writes N texts, for bench/peers/tokenizers_peer.py

The texts are drawn by a seed: words and single characters of many scripts, emoji and their joiners, combining marks in
and out of order, control characters, white space of every kind, unassigned and private characters, long runs, words of
one script with letters of another, and texts that were cut inside of a grapheme. The golden holds, for each text and
tokenizer, a hash of the ids (FNV-1a, 32 bits, over the ids as little-endian 32-bit numbers).
"""
import base64
import gzip
import json
import pathlib
import random
import struct
import sys
import unicodedata

BLOCKS = [(0x41, 0x7b), (0xc0, 0x250), (0x250, 0x2b0), (0x370, 0x400), (0x400, 0x530), (0x531, 0x58a), (0x5d0, 0x5eb), (0x600, 0x700),
          (0x700, 0x750), (0x780, 0x7b2), (0x7c0, 0x800), (0x900, 0x980), (0x980, 0xa00), (0xa00, 0xb00), (0xb80, 0xc80), (0xd00, 0xe00),
          (0xe00, 0xe80), (0xe80, 0xf00), (0xf00, 0x1000), (0x1000, 0x10a0), (0x10a0, 0x1100), (0x1100, 0x1200), (0x1200, 0x1380),
          (0x13a0, 0x1400), (0x1680, 0x16a0), (0x1780, 0x1800), (0x1800, 0x18b0), (0x1c90, 0x1cc0), (0x1e00, 0x2000), (0x2c00, 0x2c60),
          (0x3041, 0x3100), (0x3100, 0x3130), (0x3130, 0x3190), (0x4e00, 0x5200), (0xac00, 0xb000), (0xf900, 0xfb00), (0xfb00, 0xfe00),
          (0xfe70, 0xff00), (0xff00, 0xfff0), (0x10330, 0x1034b), (0x10400, 0x10450), (0x12000, 0x12100), (0x1d400, 0x1d800),
          (0x1e900, 0x1e95f), (0x1f100, 0x1f200), (0x20000, 0x20100), (0x2f800, 0x2fa1e)]
SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2002\u2003\u2007\u2008\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
MARKS = [c for c in map(chr, range(0x300, 0x370)) if unicodedata.category(c) == "Mn"] + list("\u0591\u05b0\u064b\u0651\u093c\u094d\u0e31\u0f71\u3099\u309a\u20d0\u20e3\ufe0f\ufe0e\u1dc0\U0001d167")
EMOJI = ["😀", "👍", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "🇩", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "1️⃣", "❤️", "☺︎", "🧑🏿‍🚀", "🏽", "\u200d", "🫠"]
WORDS = ["the", "The", "TOKEN", "izer", "don't", "I'LL", "we've", "naïve", "Straße", "İstanbul", "ſtop", "ﬁne", "Σίσυφος", "привет", "ЁЖ", "日本語",
         "カタカナ", "ｶﾞｷﾞ", "漢字", "안녕하세요", "مرحبا", "שלום", "हिन्दी", "ไทยดี", "Việt", "ẛ̣", "Ǆ", "ŉ", "0x1F", "3.14", "1,234.5", "٣٤", "½", "Ⅷ",
         "e-mail@x.org", "https://a.b/c?d=e&f#g", "snake_case", "CamelCase", "__init__", "C++", "#tag", "$5", "€", "…", "—", "“quoted”", "«", "</s>", "<s>",
         "[MASK]", "<mask>", "<pad>", "<unk>", "<|endoftext|>", "[CLS]", "##s", "▁", "Ġ", "<0x41>", "</w>", "@@"]


def one_piece(r):
    kind = r.randrange(13)
    if kind < 4:
        return r.choice(WORDS)
    if kind == 4:  # a word of one script
        low, high = r.choice(BLOCKS)
        return "".join(chr(r.randrange(low, high)) for _ in range(r.randrange(1, 9)))
    if kind == 5:  # letters of any script, mixed
        return "".join(chr(r.randrange(*r.choice(BLOCKS))) for _ in range(r.randrange(1, 7)))
    if kind == 6:
        return "".join(r.choice(SPACES) for _ in range(r.randrange(1, 6)))
    if kind == 7:  # marks in any order
        return r.choice("aeonqÅがא ") + "".join(r.choice(MARKS) for _ in range(r.randrange(1, 5)))
    if kind == 8:
        return "".join(r.choice(EMOJI) for _ in range(r.randrange(1, 4)))
    if kind == 9:  # controls, formats, private and unassigned characters
        low, high = r.choice([(0, 32), (0x7f, 0xa0), (0x200b, 0x2010), (0x202a, 0x202f), (0x2060, 0x2070), (0xe000, 0xe010), (0xfff0, 0x10000), (0x378, 0x37a),
                              (0xe0000, 0xe0080), (0x10fff0, 0x110000), (0x1faf0, 0x1fb00)])
        return "".join(chr(r.randrange(low, high)) for _ in range(r.randrange(1, 4)))
    if kind == 10:  # a run
        return r.choice(["a", " ", "\n", "é", "日", "0", ".", "ab", "\u0301", "👍", "=", "\t ", "Ａ", "▁"]) * r.choice([2, 3, 7, 17, 40, 130])
    if kind == 11:
        return "".join(r.choice("0123456789.,-+eE") for _ in range(r.randrange(1, 10)))
    while True:  # anything that Unicode 14 knows: regular expressions differ in what is a letter since 15.1
        c = r.randrange(0x110000)
        if unicodedata.category(chr(c)) not in ("Cn", "Cs"):
            return chr(c)


def texts(count, seed):
    r = random.Random(seed)
    out = []
    for _ in range(count):
        text = r.choice(["", "", " "]).join(one_piece(r) for _ in range(r.randrange(1, 12)))
        if r.random() < 0.1:
            text = text[r.randrange(len(text) + 1):]
        if r.random() < 0.1:
            text = unicodedata.normalize(r.choice(["NFD", "NFC", "NFKD"]), text)
        out.append(text)
    return out


def hash_of(ids):
    h = 2166136261
    for byte in b"".join(struct.pack("<I", i) for i in ids):
        h = (h ^ byte) * 16777619 & 0xffffffff
    return h


def main():
    if sys.argv[1] == "--texts":
        pathlib.Path(sys.argv[4]).write_text(json.dumps(texts(int(sys.argv[2]), int(sys.argv[3]))))
        return
    from tokenizers import Tokenizer
    goldens = pathlib.Path(__file__).parents[2] / "tests/text/goldens"
    shared = pathlib.Path(sys.argv[1])
    corpus = texts(500, 20)
    packed = lambda t: base64.b64encode(b"".join(struct.pack("<I", hash_of(t.encode(x).ids)) for x in corpus)).decode()
    out = {"texts": corpus, "small": {}, "published": {}}
    small = json.loads(gzip.open(goldens / "tokenizers.json.gz").read())
    for name, entry in small["tokenizers"].items():
        out["small"][name] = packed(Tokenizer.from_str(json.dumps(entry["json"])))
    for path in sorted(shared.glob("onnxruntime_*/**/tokenizer.json")):
        out["published"][str(path.relative_to(shared))] = packed(Tokenizer.from_file(str(path)))
    data = json.dumps(out, ensure_ascii=False, separators=(",", ":")).encode()
    with open(goldens / "fuzz.json.gz", "wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as f:
        f.write(data)


if __name__ == "__main__":
    main()
