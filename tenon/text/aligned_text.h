// AlignedText: a text that has been normalised and still knows where each byte came from.
//
// For every byte it holds the range of the original text (bytes) that the byte stands for. While nothing has changed
// that range is the character that the byte belongs to, and no table is kept. The meaning of each change is that of the
// `tokenizers` package (its NormalizedString), so that offsets agree:
//   rewrite    each character becomes any number of characters, all of which stand for what it stood for
//   transform  a list of characters with a change each: 0 replaces a character, +1 is new and stands for what the one
//              before it stands for, -n replaces one and drops the n that follow
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/text/utf8_walk.h"

namespace tenon::text {

// Bytes [begin, end).
struct Span {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool operator==(const Span&) const = default;
};

struct Change {
  char32_t character = 0;
  std::int32_t change = 0;
};

void append_code_point(std::string& text, char32_t c);

class AlignedText {
 public:
  // `text` stands at byte `origin` of the original text.
  explicit AlignedText(std::string_view text = {}, std::uint32_t origin = 0) : text_(text), origin_(origin) {}

  [[nodiscard]] const std::string& str() const { return text_; }
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(text_.size()); }
  // What the byte at `at` stands for.
  [[nodiscard]] Span original(std::size_t at) const { return alignment_.empty() ? character_at(at) : alignment_[at]; }
  // What [begin, end) stands for.
  [[nodiscard]] Span original(std::size_t begin, std::size_t end) const;
  [[nodiscard]] AlignedText slice(std::size_t begin, std::size_t end) const;

  // emit(char32_t) is given to fn(char32_t character, emit).
  template <class Fn>
  void rewrite(Fn&& fn);
  void transform(std::span<const Change> changes);
  // Each of the spans, which are in order, becomes `content`.
  void replace(std::span<const Span> matches, std::string_view content);
  // The new characters stand for what the first one stands for. Does nothing to an empty text.
  void prepend(std::string_view content);
  // Only [begin, end) is kept.
  void crop(std::size_t begin, std::size_t end);

  // To put a text together from parts: bytes [begin, end) of another one, and new text that stands for `what`.
  void append(const AlignedText& from, std::size_t begin, std::size_t end);
  void append(std::string_view content, Span what);

 private:
  [[nodiscard]] Span character_at(std::size_t at) const;
  void keep_table();

  std::string text_;
  std::uint32_t origin_ = 0;
  std::vector<Span> alignment_;  // empty: every character stands for itself, counted from origin_
};

template <class Fn>
void AlignedText::rewrite(Fn&& fn) {
  std::string text;
  text.reserve(text_.size());
  std::vector<Span> table;
  bool plain = alignment_.empty();  // so far every character became one of the same size
  for (std::size_t at = 0; at < text_.size();) {
    const std::size_t begin = at, written = text.size();
    const char32_t c = next_code_point(text_, at);
    int emitted = 0;
    fn(c, [&](char32_t out) {
      append_code_point(text, out);
      ++emitted;
    });
    if (plain && (emitted != 1 || text.size() - written != at - begin)) {
      plain = false;
      table.reserve(text_.size());
      for (std::size_t i = 0; i < begin; ++i) table.push_back(character_at(i));
    }
    if (!plain) table.insert(table.end(), text.size() - written, original(begin));
  }
  if (plain) {
    text_ = std::move(text);
  } else {
    text_ = std::move(text);
    alignment_ = std::move(table);
    if (text_.empty()) alignment_.clear();
  }
}

}  // namespace tenon::text
