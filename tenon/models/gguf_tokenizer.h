// The tokenizer that a GGUF file carries in its metadata, as llama.cpp reads it: "llama" (SentencePiece's merges by
// score, with bytes), "gpt2" (byte-level BPE) and "bert" (WordPiece).
//
//   text::Tokenizer tokenizer = models::gguf_tokenizer(formats::load_gguf("llama.gguf"), "llama.gguf");
//
// To add a way of cutting text before BPE: a row in the table of gguf_tokenizer.cpp.
#pragma once

#include <string>

#include "tenon/formats/gguf.h"
#include "tenon/text/tokenizer.h"

namespace tenon::models {

// What a text begins and ends with follows the file's add_bos_token and add_eos_token. `where` names the file in
// errors. Errors: FormatError; UnsupportedError for another model or another way of cutting text.
[[nodiscard]] text::Tokenizer gguf_tokenizer(const formats::Gguf& file, const std::string& where);

}  // namespace tenon::models
