// CharText: a text file as data for a character-level language model.
//
// The first part of the text is for training, the rest for validation. An example is a window of `context`
// characters and the same window one character on: "input" i64 [context], "label" i64 [context].
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/data/dataset.h"
#include "tenon/data/vocabulary.h"

namespace tenon::data {

// Windows of a list of tokens, which is kept as long as a dataset uses it.
using Tokens = std::shared_ptr<const std::vector<std::int64_t>>;
// `count` windows, each at a random place: example i of an epoch is a function of the loader's seed, the epoch
// and i (as nanoGPT draws its batches). Errors: ValueError if the tokens are not more than `context`.
Dataset random_windows(Tokens tokens, std::int64_t context, std::int64_t count);
// One window after the other without overlap; a remainder that does not fill a window is left out.
Dataset sequential_windows(Tokens tokens, std::int64_t context);

struct CharTextOptions {
  double validation_fraction = 0.1;               // the end of the text
  std::optional<CharVocabulary> vocabulary = {};  // of a model trained before; default: the text's own
};

class CharText {
 public:
  // Errors: FileError; FormatError unless UTF-8; ValueError if a part is too short for one window or a
  // character is not in the given vocabulary.
  CharText(const std::filesystem::path& path, std::int64_t context, const CharTextOptions& options = {});
  // A text in memory; `where` names it in errors.
  static CharText from_text(std::string_view text, std::int64_t context, const CharTextOptions& options = {},
                            std::string_view where = "text");

  [[nodiscard]] const CharVocabulary& vocabulary() const { return vocabulary_; }
  [[nodiscard]] std::int64_t context() const { return context_; }
  [[nodiscard]] const Tokens& train_tokens() const { return train_; }
  [[nodiscard]] const Tokens& validation_tokens() const { return validation_; }

  // `count` random windows of the training part per epoch; of the validation part.
  [[nodiscard]] Dataset train(std::int64_t count) const { return random_windows(train_, context_, count); }
  [[nodiscard]] Dataset validation(std::int64_t count) const { return random_windows(validation_, context_, count); }
  // The whole validation part, in order.
  [[nodiscard]] Dataset validation() const { return sequential_windows(validation_, context_); }

 private:
  CharText() = default;
  CharVocabulary vocabulary_;
  std::int64_t context_ = 0;
  Tokens train_;
  Tokens validation_;
};

}  // namespace tenon::data
