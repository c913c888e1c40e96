#include "tenon/text/pre_tokenizer.h"

#include <string_view>

#include "tenon/text/bytes_as_characters.h"
#include "tenon/text/scripts.h"
#include "tenon/text/unicode.h"

namespace tenon::text {
namespace {

// Parts of one word from left to right, separators and what lies between, made into words as Separator says.
class Cutter {
 public:
  Cutter(Separator separator, std::vector<Span>& words) : separator_(separator), words_(words) {}

  void begin_word() { first_ = words_.size(), previous_ = false, pending_ = {}; }
  void part(std::uint32_t begin, std::uint32_t end, bool is_separator) {
    const bool has_last = words_.size() > first_;
    switch (separator_) {
      case Separator::Removed:
        if (!is_separator) words_.push_back({begin, end});
        break;
      case Separator::Isolated:
        words_.push_back({begin, end});
        break;
      case Separator::Contiguous:
        if (is_separator == previous_ && has_last) {
          words_.back().end = end;
        } else {
          words_.push_back({begin, end});
        }
        break;
      case Separator::MergedWithPrevious:
        if (is_separator && !previous_ && has_last) {
          words_.back().end = end;
        } else {
          words_.push_back({begin, end});
        }
        break;
      case Separator::MergedWithNext:
        // A separator waits for what follows; of several in a row only the last is joined to it.
        if (pending_.end != pending_.begin) {
          if (is_separator) {
            words_.push_back(pending_);
          } else {
            begin = pending_.begin;
          }
          pending_ = {};
        }
        if (is_separator) {
          pending_ = {begin, end};
        } else {
          words_.push_back({begin, end});
        }
        break;
    }
    previous_ = is_separator;
  }
  void end_word() {
    if (pending_.end != pending_.begin) words_.push_back(pending_);
    pending_ = {};
  }

 private:
  Separator separator_;
  std::vector<Span>& words_;
  std::size_t first_ = 0;
  bool previous_ = false;
  Span pending_;
};

template <class IsSeparator>
void cut_by_class(Piece& piece, Separator separator, IsSeparator&& is_separator) {
  std::vector<Span> words;
  words.reserve(piece.words.size() * 2);
  Cutter cutter(separator, words);
  for (const Span word : piece.words) {
    const std::string_view text = std::string_view(piece.text.str()).substr(0, word.end);
    cutter.begin_word();
    std::uint32_t run = word.begin;
    for (std::size_t at = word.begin; at < word.end;) {
      const auto begin = static_cast<std::uint32_t>(at);
      if (!is_separator(next_code_point(text, at))) continue;
      if (run != begin) cutter.part(run, begin, false);
      run = static_cast<std::uint32_t>(at);
      cutter.part(begin, run, true);
    }
    if (run != word.end) cutter.part(run, word.end, false);
    cutter.end_word();
  }
  piece.words = std::move(words);
}

void cut_by_pattern(Piece& piece, const Regex& pattern, Separator separator, bool invert) {
  std::vector<Span> words;
  words.reserve(piece.words.size() + piece.text.size() / 4);
  Cutter cutter(separator, words);
  Regex::Matcher matcher(pattern);
  for (const Span word : piece.words) {
    const std::string_view text = std::string_view(piece.text.str()).substr(word.begin, word.end - word.begin);
    cutter.begin_word();
    std::uint32_t last = 0;
    const auto part = [&](std::uint32_t begin, std::uint32_t end, bool is_match) {
      if (begin != end) cutter.part(word.begin + begin, word.begin + end, is_match != invert);
    };
    matcher.for_each(text, [&](Span match) {
      part(last, match.begin, false);
      part(match.begin, match.end, true);
      last = match.end;
    });
    part(last, static_cast<std::uint32_t>(text.size()), false);
    cutter.end_word();
  }
  piece.words = std::move(words);
}

}  // namespace

void SplitPreTokenizer::apply(Piece& piece) const { cut_by_pattern(piece, pattern, separator, invert); }

void ClassPreTokenizer::apply(Piece& piece) const {
  switch (kind) {
    case Kind::Whitespace:
      return cut_by_class(piece, separator, is_whitespace);
    case Kind::Punctuation:
      return cut_by_class(piece, separator, is_punctuation);
    case Kind::Digits:
      return cut_by_class(piece, separator, is_numeric);
    case Kind::Character:
      return cut_by_class(piece, separator, [this](char32_t c) { return c == character; });
  }
}

Regex ByteLevelPreTokenizer::gpt2_pattern() {
  return {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "ByteLevel"};
}

void ByteLevelPreTokenizer::apply(Piece& piece) const {
  bool needs_prefix = false;
  if (add_prefix_space)
    for (const Span word : piece.words) needs_prefix |= piece.text.str()[word.begin] != ' ';
  if (needs_prefix) {
    AlignedText text;
    for (Span& word : piece.words) {
      const std::uint32_t begin = text.size();
      if (piece.text.str()[word.begin] != ' ') text.append(" ", piece.text.original(word.begin));
      text.append(piece.text, word.begin, word.end);
      word = {begin, text.size()};
    }
    piece.text = std::move(text);
  }
  if (use_regex) cut_by_pattern(piece, pattern, Separator::Isolated, false);
  if (raw) return;
  AlignedText text;
  for (Span& word : piece.words) {
    const std::uint32_t begin = text.size();
    std::string character;
    for (std::size_t at = word.begin; at < word.end; ++at) {
      character.clear();
      append_code_point(character, byte_characters()[static_cast<unsigned char>(piece.text.str()[at])]);
      text.append(character, piece.text.original(at));
    }
    word = {begin, text.size()};
  }
  piece.text = std::move(text);
}

void MetaspacePreTokenizer::apply(Piece& piece) const {
  AlignedText text;
  std::vector<Span> words;
  words.reserve(piece.words.size() + piece.text.size() / 5);
  Cutter cutter(Separator::MergedWithNext, words);
  for (const Span word : piece.words) {
    const std::string_view all = std::string_view(piece.text.str()).substr(0, word.end);
    const std::uint32_t start = text.size();
    const bool has_mark = all[word.begin] == ' ' || all.substr(word.begin).starts_with(replacement);
    const Span first = piece.text.original(word.begin);
    cutter.begin_word();
    std::uint32_t run = start;
    const auto mark = [&](Span what) {
      if (split && run != text.size()) cutter.part(run, text.size(), false);
      const std::uint32_t begin = text.size();
      text.append(replacement, what);
      if (split) cutter.part(begin, text.size(), true), run = text.size();
    };
    if (!has_mark && (prepend == Prepend::Always || (prepend == Prepend::First && first.begin == 0))) mark(first);
    for (std::size_t at = word.begin; at < word.end;) {
      const std::size_t begin = at;
      if (all[at] == ' ') {
        mark(piece.text.original(at++));
      } else if (all.substr(at).starts_with(replacement)) {
        at += replacement.size();
        mark(piece.text.original(begin));
      } else {
        while (at < word.end && all[at] != ' ' && (at == begin || !all.substr(at).starts_with(replacement)))
          at += code_point_length(all[at]);
        text.append(piece.text, begin, at);
      }
    }
    if (!split) {
      words.push_back({start, text.size()});
    } else if (run != text.size()) {
      cutter.part(run, text.size(), false);
    }
    cutter.end_word();
  }
  piece.text = std::move(text);
  piece.words = std::move(words);
}

void UnicodeScriptsPreTokenizer::apply(Piece& piece) const {
  std::vector<Span> words;
  for (const Span word : piece.words) {
    const std::string_view text = std::string_view(piece.text.str()).substr(0, word.end);
    // Unknown until a character that belongs to one script has been seen; spaces belong to any.
    int last = no_script;
    std::uint32_t begin = word.begin;
    bool started = false;
    for (std::size_t at = word.begin; at < word.end;) {
      const auto here = static_cast<std::uint32_t>(at);
      const int script = script_of(next_code_point(text, at));
      if (script == any_script) continue;
      if (script != last) {
        if (started) words.push_back({begin, here});
        started = true;
        begin = here;
      }
      last = script;
    }
    if (started) words.push_back({begin, word.end});
  }
  piece.words = std::move(words);
}

void KnownTextPreTokenizer::apply(Piece& piece) const {
  std::vector<Span> words;
  for (const Span word : piece.words) {
    const std::string_view text = std::string_view(piece.text.str()).substr(0, word.end);
    std::uint32_t begin = word.begin;
    for (std::uint32_t at = word.begin; at < word.end;) {
      const std::uint32_t length = texts->longest(text.substr(at)).length;
      if (length == 0) {
        ++at;
        continue;
      }
      if (begin != at) words.push_back({begin, at});
      words.push_back({at, at + length});
      begin = at += length;
    }
    if (begin != word.end) words.push_back({begin, word.end});
  }
  piece.words = std::move(words);
}

void FixedLengthPreTokenizer::apply(Piece& piece) const {
  std::vector<Span> words;
  for (const Span word : piece.words) {
    std::uint32_t begin = word.begin;
    std::size_t count = 0;
    for (std::size_t at = word.begin; at < word.end;) {
      at += code_point_length(piece.text.str()[at]);
      if (++count == length || at == word.end) {
        words.push_back({begin, static_cast<std::uint32_t>(at)});
        begin = static_cast<std::uint32_t>(at), count = 0;
      }
    }
  }
  piece.words = std::move(words);
}

}  // namespace tenon::text
