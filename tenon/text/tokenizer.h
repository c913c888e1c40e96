// Tokenizer: text to token numbers and back, from the files that published models bring.
//
//   auto tokenizer = text::load_tokenizer("gpt2");          // a folder, or one file
//   auto encoding = tokenizer.encode("Hello world");        // ids, offsets, masks
//   std::string again = tokenizer.decode(encoding.ids);
//
// Results (numbers, offsets, decoded text) are those of the `tokenizers` package. A Tokenizer is a cheap value: copies
// share what was loaded, which never changes, so any number of threads may use it. Text must be UTF-8.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/text/encoding.h"

namespace tenon::text {

enum class OffsetUnit : std::uint8_t { Bytes, Characters };

struct EncodeOptions {
  bool add_special_tokens = true;   // what the post-processor adds: [CLS], <s>, …
  bool find_special_tokens = true;  // false: "<s>" in the text is just text
  OffsetUnit offsets = OffsetUnit::Bytes;
};

struct TokenizerParts;

class Tokenizer {
 public:
  explicit Tokenizer(std::shared_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}

  // Errors: FormatError for text that is not UTF-8; ValueError for what the vocabulary cannot express.
  [[nodiscard]] Encoding encode(std::string_view text, const EncodeOptions& options = {}) const;
  [[nodiscard]] Encoding encode_pair(std::string_view first, std::string_view second,
                                     const EncodeOptions& options = {}) const;
  // A text that is cut into words already; offsets are counted within each word.
  [[nodiscard]] Encoding encode_words(std::span<const std::string> words, const EncodeOptions& options = {}) const;
  // With padding on, all are of one length.
  [[nodiscard]] std::vector<Encoding> encode_batch(std::span<const std::string> texts,
                                                   const EncodeOptions& options = {}) const;

  // Numbers that are not in the vocabulary are left out, and so are special tokens unless they are asked for.
  [[nodiscard]] std::string decode(std::span<const std::int64_t> ids, bool skip_special_tokens = true) const;

  [[nodiscard]] std::optional<std::int64_t> token_to_id(std::string_view token) const;
  [[nodiscard]] std::optional<std::string> id_to_token(std::int64_t id) const;
  [[nodiscard]] bool is_special(std::int64_t id) const;
  // With the added tokens.
  [[nodiscard]] std::int64_t vocabulary_size() const;

  // A file may bring its own; these change only this value.
  void set_truncation(std::optional<Truncation> truncation) { truncation_ = truncation, truncation_set_ = true; }
  void set_padding(std::optional<Padding> padding) { padding_ = padding, padding_set_ = true; }
  [[nodiscard]] std::optional<Truncation> truncation() const;
  [[nodiscard]] std::optional<Padding> padding() const;

  [[nodiscard]] const TokenizerParts& parts() const { return *parts_; }

 private:
  [[nodiscard]] Encoding finish(Encoding first, std::optional<Encoding> second, const EncodeOptions& options) const;

  std::shared_ptr<const TokenizerParts> parts_;
  std::optional<Truncation> truncation_;
  std::optional<Padding> padding_;
  bool truncation_set_ = false, padding_set_ = false;
};

// Text from tokens as they come: each call returns what has become certain, which may be nothing yet (half a
// character).
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens = true)
      : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}
  [[nodiscard]] std::string add(std::int64_t id);

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::vector<std::int64_t> ids_;  // those whose text may still depend on each other
  std::string prefix_;             // the text of the first prefix_count_ of them
  std::size_t prefix_count_ = 0;
};

// A folder with tokenizer.json, tokenizer.model, vocab.json and merges.txt, or vocab.txt (the first of them that is
// there; tokenizer_config.json is heeded), or one such file. Errors: FileError, FormatError, UnsupportedError.
[[nodiscard]] Tokenizer load_tokenizer(const std::filesystem::path& path);

// The formats, from memory. `where` names them in errors.
[[nodiscard]] Tokenizer read_tokenizer_json(std::string_view json, std::string_view where);
// A SentencePiece model of the kinds Unigram and BPE. Its own tokens (<s>, </s>) are added as asked.
struct SentencePieceReadOptions {
  bool add_bos = false, add_eos = false;
};
[[nodiscard]] Tokenizer read_sentencepiece(std::string_view model, std::string_view where,
                                           const SentencePieceReadOptions& options = {});
// GPT-2's two files.
struct BpeFilesOptions {
  bool add_prefix_space = false;
  std::vector<std::string> special_tokens{"<|endoftext|>"};  // found in the text if they are in the vocabulary
  bool roberta = false;                                      // <s> … </s> around a text
};
[[nodiscard]] Tokenizer read_bpe_files(std::string_view vocabulary_json, std::string_view merges,
                                       std::string_view where, const BpeFilesOptions& options = {});
// BERT's file: a token a line.
struct WordPieceFileOptions {
  bool lowercase = true;
  bool chinese_characters = true;
  std::optional<bool> strip_accents;  // as lowercase, unless set
};
[[nodiscard]] Tokenizer read_wordpiece_file(std::string_view vocabulary, std::string_view where,
                                            const WordPieceFileOptions& options = {});
// tiktoken's: a line for each token, its bytes in base64 and its rank. What cuts the text into words is not in the
// file.
[[nodiscard]] Tokenizer read_tiktoken(std::string_view ranks, std::string_view pattern,
                                      const std::map<std::string, std::int64_t>& special_tokens,
                                      std::string_view where);

}  // namespace tenon::text
