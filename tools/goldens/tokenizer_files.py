"""Writes tests/text/goldens/: small tokenizers trained here, and what the `tokenizers` package makes of difficult texts.

  pip install tokenizers sentencepiece tiktoken && python3 tools/goldens/tokenizer_files.py [SHARED_DATA]

With SHARED_DATA (the folder of shared test data) also what the published tokenizers in it make of the texts.
"""
import gzip
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Regex

root = pathlib.Path(__file__).parents[2]
folder = root / "tests/text/goldens"
folder.mkdir(parents=True, exist_ok=True)
english = (root / "docs/architecture.md").read_text()
corpus = english.split("\n") + [
    "Größe, naïve café, Øre, Ærlig, ﬁnal oﬃce", "Привет, мир! Как дела?", "日本語のテキストです。漢字とかな。", "你好，世界！北京",
    "안녕하세요 세계", "مرحبا بالعالم", "नमस्ते दुनिया", "12 345 6,789.01 ½ ² Ⅻ", "👍🏽 👨‍👩‍👧‍👦 🇩🇪 emoji",
] * 3

# Alphabets from which the texts are drawn, mixed.
pieces = [
    "the", " and", "The", " model", "tokenizer", "'s", "'LL", "don't", " don 't", "ing", "  ", " ", "\n", "\r\n", "\t", "\n\n  ",
    "1", "234", " 5,000.25", "½", "²", "Ⅻ", "٣", "é", "e\u0301", "Å", "A\u030a", "\u212b", "ﬁ", "ẛ̣", "İ", "ẞ", "Σίσυφος", "ς",
    "日本", "語", "カタカナ", "ｶﾞ", "が", "か\u3099", "漢字", "。", "、", "한국어", "\u1112\u1161\u11ab", "각", "привет", "МИР",
    "العربية", "שלום", "नमस्ते", "ไทย", "👍", "👍🏽", "👨‍👩‍👧", "🇩🇪", "\u200d", "\u200b", "\ufeff", "\u00a0", "\u3000", "\u2028",
    "\u0085", "\u00ad", "\x00", "\x07", "\x7f", "\ufffd", "_", "--", "...", "!", "?", "(", ")", "[", "]", "{", "}", "#", "##ing",
    "<s>", "</s>", "[MASK]", "<mask>", " <mask> ", "[CLS]", "<unk>", "<pad>", "<|endoftext|>", "▁", "▁▁x", "Ġ", "<0x0A>", "$", "€",
    "+", "=", "~", "^", "`", "©", "™", "→", "①", "𝔸", "𝐛", "𠀀", "\U0001f600", "http://x.y/z?a=b&c", "a@b.c", "CamelCaseWord",
    "ALLCAPS", "x" * 120, "ab" * 30, "\u0301\u0301", "a\u0323\u0307", "a\u0307\u0323", "q\u0307\u0323", "\u0f73", "\ufb1d",
]


def texts(count, seed):
    random.seed(seed)
    fixed = ["", " ", "Hello world", " leading", "trailing ", "  two  spaces  ", "Hello, y'all! How are you 😁 ?",
             "I'm I'll I've we're they'd it's", "   \n\t mixed \r\n white\u00a0space\u3000", "<s>a</s>b <mask> c[MASK]d  <mask>"]
    return fixed + ["".join(random.choice(pieces) for _ in range(random.randint(1, 9))) for _ in range(count)]


def train(model, trainer, normalizer=None, pre=None, post=None, decoder=None, added=()):
    t = Tokenizer(model)
    if normalizer is not None:
        t.normalizer = normalizer
    if pre is not None:
        t.pre_tokenizer = pre
    t.train_from_iterator(corpus, trainer)
    if decoder is not None:
        t.decoder = decoder
    if post is not None:
        t.post_processor = post(t)
    if added:
        t.add_tokens([a for a in added if not a.special])
        t.add_special_tokens([a for a in added if a.special])
    return t


def template(first, last):
    def make(t):
        return processors.TemplateProcessing(
            single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1",
            special_tokens=[(first, t.token_to_id(first)), (last, t.token_to_id(last))])
    return make


def tokenizers():
    bpe, wp, uni, wl = trainers.BpeTrainer, trainers.WordPieceTrainer, trainers.UnigramTrainer, trainers.WordLevelTrainer
    quiet = {"show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    yield "gpt2", train(models.BPE(), bpe(vocab_size=520, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], **quiet),
                        None, pre_tokenizers.ByteLevel(add_prefix_space=False),
                        lambda t: processors.ByteLevel(trim_offsets=False), decoders.ByteLevel())
    yield "roberta", train(models.BPE(), bpe(vocab_size=500, initial_alphabet=alphabet, special_tokens=["<s>", "</s>", "<pad>", "<unk>"], **quiet),
                           None, pre_tokenizers.ByteLevel(add_prefix_space=True),
                           lambda t: processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True, add_prefix_space=True),
                           decoders.ByteLevel(), [AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    llama3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    t = train(models.BPE(ignore_merges=True), bpe(vocab_size=500, initial_alphabet=alphabet, special_tokens=["<|begin|>", "<|end|>"], **quiet),
              normalizers.NFC(), pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(llama3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
              lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=True, add_prefix_space=False), template("<|begin|>", "<|end|>")(t)]),
              decoders.ByteLevel())
    yield "llama3", t
    yield "llama2", train(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"),
                          bpe(vocab_size=560, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)], limit_alphabet=90, **quiet),
                          normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, template("<s>", "</s>"),
                          decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]))
    yield "bert", train(models.WordPiece(unk_token="[UNK]"),
                        wp(vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], **quiet),
                        normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer(),
                        lambda t: processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)), decoders.WordPiece())
    yield "bert_cased", train(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20),
                              wp(vocab_size=400, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], **quiet),
                              normalizers.BertNormalizer(lowercase=False, strip_accents=None, handle_chinese_chars=False), pre_tokenizers.BertPreTokenizer(),
                              template("[CLS]", "[SEP]"), decoders.WordPiece(cleanup=False))
    yield "unigram", train(models.Unigram(), uni(vocab_size=420, unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>"], **quiet),
                           normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]), pre_tokenizers.Metaspace(),
                           template("</s>", "<pad>"), decoders.Metaspace())
    yield "metaspace_first", train(models.Unigram(), uni(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>", "<s>"], **quiet),
                                   normalizers.Sequence([normalizers.Strip(), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]),
                                   pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first", split=False)]),
                                   None, decoders.Metaspace(prepend_scheme="first"),
                                   [AddedToken("Model", normalized=True), AddedToken("ing", single_word=True, normalized=False), AddedToken("the ", rstrip=True, normalized=False)])
    yield "clip", train(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), bpe(vocab_size=400, special_tokens=["<unk>"], end_of_word_suffix="</w>", limit_alphabet=60, **quiet),
                        normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()]),
                        pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]), None, decoders.BPEDecoder())
    # The pre-tokenisers, before a model that knows single words only.
    for name, pre in {
        "punctuation": pre_tokenizers.Punctuation("merged_with_previous"),
        "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.Split("e", "merged_with_next")]),
        "scripts": pre_tokenizers.Sequence([pre_tokenizers.UnicodeScripts(), pre_tokenizers.FixedLength(4)]),
        "char": pre_tokenizers.Sequence([pre_tokenizers.CharDelimiterSplit(" "), pre_tokenizers.Split(Regex(r"\w+"), "contiguous")]),
        "invert": pre_tokenizers.Split(Regex(r"[\p{L}&&[^\p{Han}]]+|\p{Han}|\d"), "removed", invert=True),
        "bytes": pre_tokenizers.ByteLevel(add_prefix_space=True),
    }.items():
        yield "words_" + name, train(models.WordLevel(unk_token="<unk>"), wl(vocab_size=120, special_tokens=["<unk>"], **quiet), None, pre)


def outcome(t, text):
    e = t.encode(text)
    stream, parts = decoders.DecodeStream(skip_special_tokens=True), []
    for i in e.ids:
        parts.append(stream.step(t, i) or "")
    return {"ids": e.ids, "offsets": [list(o) for o in e.offsets], "type_ids": e.type_ids, "words": e.word_ids,
            "special": e.special_tokens_mask, "decoded": t.decode(e.ids), "decoded_all": t.decode(e.ids, skip_special_tokens=False), "stream": parts}


def compact(o):
    """What tests compare, without what follows from the rest."""
    return [o["ids"], sum(o["offsets"], []), o["words"], o["decoded"]]


def write(name, value):
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    with open(folder / name, "wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as f:
        f.write(data)


def main():
    all_texts = texts(90, 1)
    cases = {"texts": all_texts, "tokenizers": {}}
    for name, t in tokenizers():
        entry = {"json": json.loads(t.to_str()), "results": [compact(outcome(t, x)) for x in all_texts]}
        pair = t.encode("Hello world", "the second 日本 text")
        entry["pair"] = [pair.ids, pair.type_ids, pair.special_tokens_mask]
        words = t.encode(["Hello", "wörld", "again and"], is_pretokenized=True)
        entry["words"] = compact({"ids": words.ids, "offsets": [list(o) for o in words.offsets], "words": words.word_ids, "decoded": ""})
        cases["tokenizers"][name] = entry
    # Truncation and padding.
    t = Tokenizer.from_str(json.dumps(cases["tokenizers"]["bert"]["json"]))
    shapes = []
    long = "The library never prints and never aborts; the command line does the printing, and so on."
    for length, stride, strategy, side in [(10, 0, "longest_first", "right"), (14, 3, "longest_first", "right"), (13, 2, "longest_first", "left"),
                                           (-9, 4, "only_first", "right"), (-3, 1, "only_second", "right"), (-3, 1, "only_second", "left")]:
        if length < 0:  # as many less than the pair has
            t.no_truncation(), t.no_padding()
            length += len(t.encode(long, "A tensor is a value.").ids)
        for pad_side, multiple in [("right", None), ("left", 8)]:
            t.enable_truncation(length, stride=stride, strategy=strategy, direction=side)
            t.enable_padding(direction=pad_side, pad_id=0, pad_token="[PAD]", pad_to_multiple_of=multiple)
            for second in [None, "A tensor is a value."]:
                if second is None and strategy == "only_second":
                    continue
                e = t.encode(long, second)
                shapes.append({"length": length, "stride": stride, "strategy": strategy, "side": side, "pad_side": pad_side, "multiple": multiple or 0,
                               "first": long, "second": second,
                               "parts": [[x.ids, x.type_ids, x.attention_mask, sum([list(o) for o in x.offsets], [])] for x in [e] + e.overflowing]})
    cases["shapes"] = shapes
    # tiktoken: ranks trained by its own educational trainer.
    import base64
    import tiktoken
    from tiktoken._educational import SimpleBytePairEncoding
    pattern = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
    ranks = SimpleBytePairEncoding.train(english[:6000] + "Größe 日本語 привет", vocab_size=420, pat_str=pattern, ).mergeable_ranks
    t = tiktoken.Encoding("small", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 420})
    kept = [x for x in all_texts]
    cases["tiktoken"] = {"file": "".join(f"{base64.b64encode(b).decode()} {r}\n" for b, r in ranks.items()), "pattern": pattern,
                         "ids": [t.encode(x, allowed_special="all") for x in kept]}
    write("tokenizers.json.gz", cases)
    if len(sys.argv) > 1:
        shared = pathlib.Path(sys.argv[1])
        few = texts(50, 2)
        published = {"texts": few, "tokenizers": {}}
        for path in sorted(shared.glob("onnxruntime_*/**/tokenizer.json")):
            t = Tokenizer.from_file(str(path))
            published["tokenizers"][str(path.relative_to(shared))] = [compact(outcome(t, x)) for x in few]
        import sentencepiece
        published["sentencepiece"] = {}
        for path in [*sorted(shared.glob("sentencepiece/**/*.model")), *sorted(shared.glob("stories260k/**/tok512.model"))]:
            t = sentencepiece.SentencePieceProcessor(model_file=str(path))
            results = [[t.encode(x), t.decode(t.encode(x))] for x in (y.replace("\0", "") for y in few)]
            published["sentencepiece"][str(path.relative_to(shared))] = results
        write("published.json.gz", published)


if __name__ == "__main__":
    main()
