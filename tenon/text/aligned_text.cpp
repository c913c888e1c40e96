#include "tenon/text/aligned_text.h"

#include "tenon/data/utf8.h"

namespace tenon::text {

void append_code_point(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else {
    data::append_utf8(text, c);
  }
}

Span AlignedText::character_at(std::size_t at) const {
  std::size_t begin = at;
  while (begin > 0 && is_continuation(text_[begin])) --begin;
  return {origin_ + static_cast<std::uint32_t>(begin),
          origin_ + static_cast<std::uint32_t>(begin + code_point_length(text_[begin]))};
}

void AlignedText::keep_table() {
  if (!alignment_.empty()) return;
  alignment_.reserve(text_.size());
  for (std::size_t at = 0; at < text_.size(); ++at) alignment_.push_back(character_at(at));
}

Span AlignedText::original(std::size_t begin, std::size_t end) const {
  if (begin >= end) {
    const std::uint32_t at = text_.empty()          ? origin_
                             : begin < text_.size() ? original(begin).begin
                                                    : original(text_.size() - 1).end;
    return {at, at};
  }
  return {original(begin).begin, original(end - 1).end};
}

AlignedText AlignedText::slice(std::size_t begin, std::size_t end) const {
  AlignedText part(std::string_view(text_).substr(begin, end - begin));
  part.origin_ = original(begin, end).begin;
  if (!alignment_.empty())
    part.alignment_.assign(alignment_.begin() + static_cast<std::ptrdiff_t>(begin),
                           alignment_.begin() + static_cast<std::ptrdiff_t>(end));
  return part;
}

void AlignedText::transform(std::span<const Change> changes) {
  keep_table();
  std::string text;
  std::vector<Span> table;
  text.reserve(text_.size());
  table.reserve(text_.size());
  std::size_t at = 0;  // the next character to be replaced
  const auto skip = [&] {
    if (at < text_.size()) at += code_point_length(text_[at]);
  };
  for (const auto& [character, change] : changes) {
    const std::size_t written = text.size();
    append_code_point(text, character);
    Span what{origin_, origin_};
    if (change > 0) {
      if (at > 0) what = alignment_[at - 1];
    } else if (at < text_.size()) {
      what = alignment_[at];
    } else if (at > 0) {
      what = alignment_[at - 1];
    }
    table.insert(table.end(), text.size() - written, what);
    if (change <= 0) skip();
    for (std::int32_t dropped = change; dropped < 0; ++dropped) skip();
  }
  text_ = std::move(text);
  alignment_ = std::move(table);
}

void AlignedText::replace(std::span<const Span> matches, std::string_view content) {
  if (matches.empty()) return;
  bool same_layout = alignment_.empty();
  for (const auto& match : matches)
    same_layout &= match.end - match.begin == content.size() && !content.empty() &&
                   code_point_length(content[0]) == content.size() &&
                   code_point_length(text_[match.begin]) == content.size();
  if (same_layout) {
    for (const auto& match : matches) text_.replace(match.begin, content.size(), content);
    return;
  }
  keep_table();
  std::string text;
  std::vector<Span> table;
  text.reserve(text_.size() + matches.size() * content.size());
  table.reserve(text.capacity());
  std::size_t at = 0;
  const auto copy_until = [&](std::size_t end) {
    text.append(text_, at, end - at);
    table.insert(table.end(), alignment_.begin() + static_cast<std::ptrdiff_t>(at),
                 alignment_.begin() + static_cast<std::ptrdiff_t>(end));
  };
  for (const auto& match : matches) {
    copy_until(match.begin);
    text += content;
    table.insert(table.end(), content.size(), match.end == 0 ? Span{origin_, origin_} : alignment_[match.end - 1]);
    at = match.end;
  }
  copy_until(text_.size());
  text_ = std::move(text);
  alignment_ = std::move(table);
}

void AlignedText::prepend(std::string_view content) {
  if (text_.empty() || content.empty()) return;
  keep_table();
  alignment_.insert(alignment_.begin(), content.size(), alignment_.front());
  text_.insert(0, content);
}

void AlignedText::crop(std::size_t begin, std::size_t end) {
  if (begin == 0 && end == text_.size()) return;
  *this = slice(begin, end);
}

void AlignedText::append(const AlignedText& from, std::size_t begin, std::size_t end) {
  keep_table();
  text_.append(from.text_, begin, end - begin);
  for (std::size_t at = begin; at < end; ++at) alignment_.push_back(from.original(at));
}

void AlignedText::append(std::string_view content, Span what) {
  keep_table();
  text_ += content;
  alignment_.insert(alignment_.end(), content.size(), what);
}

}  // namespace tenon::text
