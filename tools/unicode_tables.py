#!/usr/bin/env python3
"""Writes tenon/text/unicode_tables.cpp: where the `tokenizers` package's tables of Unicode are not those of utf8proc.

  pip install tokenizers && python3 tools/unicode_tables.py

The package takes punctuation, format characters, accents and scripts from tables of about Unicode 9, word characters and
digits from newer ones than Debian's utf8proc (15.0) has. Each is found by asking the package about every character.
"""
import ctypes
import ctypes.util
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

utf8proc = ctypes.CDLL(ctypes.util.find_library("utf8proc") or "libutf8proc.so.2")
utf8proc.utf8proc_category_string.restype = ctypes.c_char_p
utf8proc.utf8proc_unicode_version.restype = ctypes.c_char_p
ALL = [c for c in range(0x80, 0x110000) if not 0xD800 <= c < 0xE000]
CATEGORY = {c: utf8proc.utf8proc_category_string(c).decode() for c in ALL}


def removed_by(normalizer):
    return {c for c in ALL if normalizer.normalize_str("a" + chr(c) + "b") == "ab"}


def pieces(pre, count):
    return {c for c in ALL if len(pre.pre_tokenize_str("a" + chr(c) + "b")) == count}


def bert(**on):
    return normalizers.BertNormalizer(**{**dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False), **on})


def ranges(characters):
    out = []
    for c in sorted(characters):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def main():
    of = lambda *kinds: {c for c in ALL if CATEGORY[c] in kinds}
    starts = lambda letter: {c for c in ALL if CATEGORY[c][0] == letter}
    scripts = pre_tokenizers.UnicodeScripts()
    symbols = {c for low, high in [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189), (0x200C, 0x200D)] for c in range(low, high + 1)}
    sets = {
        "control": (removed_by(bert(clean_text=True)) - {0xFFFD}, of("Cc", "Cf", "Co")),
        "punctuation": (pieces(pre_tokenizers.BertPreTokenizer(), 3), starts("P")),
        "nonspacing": (removed_by(bert(strip_accents=True)), of("Mn")),
        "combining": (removed_by(normalizers.StripAccents()), starts("M")),
        "numeric": (pieces(pre_tokenizers.Digits(), 3), starts("N")),
        "word": (pieces(pre_tokenizers.Whitespace(), 1), starts("L") | starts("M") | of("Nd", "Nl", "Pc") | symbols),
        "no_script": ({c for c in ALL if scripts.pre_tokenize_str(chr(c) + "a")[0][0] == "a"}, of("Cn", "Co", "Cs")),
    }
    text = f"""// Made by tools/unicode_tables.py from tokenizers {tokenizers.__version__} and utf8proc's Unicode {utf8proc.utf8proc_unicode_version().decode()}.
#include "tenon/text/unicode_tables.h"

namespace tenon::text {{
namespace {{

// clang-format off
"""
    rows = ""
    for name, (theirs, ours) in sets.items():
        names = []
        for what, characters in (("more", theirs - ours), ("less", ours - theirs)):
            list_ = ranges(characters)
            if not list_:
                names.append("{}")
                continue
            names.append(f"{name}_{what}")
            line = f"constexpr CodeRange {name}_{what}[] = {{"
            for low, high in list_:
                item = f"{{0x{low:x}, 0x{high:x}}}, "
                if len(line.split("\n")[-1]) + len(item) > 118:
                    line = line.rstrip() + "\n    "
                line += item
            text += line.rstrip(", ") + "};\n"
        rows += f"constinit const ClassChange {name}_change{{{names[0]}, {names[1]}}};\n"
    text += f"// clang-format on\n\n}}  // namespace\n\n{rows}\n}}  // namespace tenon::text\n"
    (Path(__file__).parents[1] / "tenon/text/unicode_tables.cpp").write_text(text)


main()
