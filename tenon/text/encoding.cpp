#include "tenon/text/encoding.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"

namespace tenon::text {
namespace {

template <class T>
void pad_list(std::vector<T>& list, std::int64_t count, T value, Side side) {
  list.insert(side == Side::Left ? list.begin() : list.end(), static_cast<std::size_t>(count), value);
}

Encoding part_of(const Encoding& whole, std::int64_t begin, std::int64_t end) {
  const auto cut = [&](const auto& list) {
    return std::decay_t<decltype(list)>(list.begin() + begin, list.begin() + end);
  };
  Encoding part;
  part.ids = cut(whole.ids);
  part.type_ids = cut(whole.type_ids);
  part.offsets = cut(whole.offsets);
  part.words = cut(whole.words);
  part.special_mask = cut(whole.special_mask);
  part.attention_mask = cut(whole.attention_mask);
  return part;
}

template <class T>
void append(std::vector<T>& list, const std::vector<T>& more) {
  list.insert(list.end(), more.begin(), more.end());
}

}  // namespace

void pad(Encoding& encoding, std::int64_t length, const Padding& padding) {
  for (auto& part : encoding.overflowing) pad(part, length, padding);
  const std::int64_t count = length - encoding.size();
  if (count <= 0) return;
  pad_list(encoding.ids, count, padding.id, padding.side);
  pad_list(encoding.type_ids, count, padding.type_id, padding.side);
  pad_list(encoding.offsets, count, Offset{}, padding.side);
  pad_list(encoding.words, count, std::int64_t{-1}, padding.side);
  pad_list(encoding.special_mask, count, std::int64_t{1}, padding.side);
  pad_list(encoding.attention_mask, count, std::int64_t{0}, padding.side);
}

void pad_all(std::vector<Encoding>& encodings, const Padding& padding) {
  std::int64_t length = padding.length;
  if (length == 0)
    for (const auto& encoding : encodings) length = std::max(length, encoding.size());
  if (padding.multiple_of > 0 && length % padding.multiple_of != 0)
    length += padding.multiple_of - length % padding.multiple_of;
  for (auto& encoding : encodings) pad(encoding, length, padding);
}

void merge(Encoding& encoding, const Encoding& next) {
  std::vector<Encoding> overflowing;
  const auto combine = [&](const Encoding& left, const Encoding& right) {
    Encoding both = part_of(left, 0, left.size());
    Encoding plain = part_of(right, 0, right.size());
    merge(both, plain);
    overflowing.push_back(std::move(both));
  };
  for (const auto& mine : encoding.overflowing) {
    combine(mine, next);
    for (const auto& theirs : next.overflowing) combine(mine, theirs);
  }
  for (const auto& theirs : next.overflowing) combine(encoding, theirs);
  append(encoding.ids, next.ids);
  append(encoding.type_ids, next.type_ids);
  append(encoding.offsets, next.offsets);
  append(encoding.words, next.words);
  append(encoding.special_mask, next.special_mask);
  append(encoding.attention_mask, next.attention_mask);
  encoding.overflowing = std::move(overflowing);
}

void truncate(Encoding& encoding, std::int64_t length, std::int64_t stride, Side side) {
  const std::int64_t size = encoding.size();
  if (length >= size) return;
  if (length <= 0) {
    Encoding whole = std::move(encoding);
    encoding = {};
    encoding.overflowing.push_back(std::move(whole));
    return;
  }
  if (stride >= length || stride < 0)
    throw ValueError({.where = "tokenizer",
                      .problem = "the stride does not fit the length",
                      .expected = fmt::format("0 to {} (the largest length less the added tokens, less 1)", length - 1),
                      .got = std::to_string(stride)});
  std::vector<Encoding> parts;
  if (side == Side::Right) {
    for (std::int64_t begin = 0;; begin += length - stride) {
      const std::int64_t end = std::min(begin + length, size);
      parts.push_back(part_of(encoding, begin, end));
      if (end == size) break;
    }
  } else {
    for (std::int64_t end = size; end > 0; end -= length - stride) {
      const std::int64_t begin = std::max<std::int64_t>(end - length, 0);
      parts.push_back(part_of(encoding, begin, end));
      if (begin == 0) break;
    }
  }
  encoding = std::move(parts.front());
  encoding.overflowing.assign(std::make_move_iterator(parts.begin() + 1), std::make_move_iterator(parts.end()));
}

void truncate(Encoding& first, Encoding* second, std::int64_t max_length, const Truncation& truncation) {
  using enum Truncation::Strategy;
  const std::int64_t stride = truncation.stride;
  if (max_length <= 0) {
    truncate(first, 0, stride, truncation.side);
    if (second != nullptr) truncate(*second, 0, stride, truncation.side);
    return;
  }
  const std::int64_t total = first.size() + (second == nullptr ? 0 : second->size());
  if (total <= max_length) return;
  if (truncation.strategy == LongestFirst) {
    if (second == nullptr) return truncate(first, max_length, stride, truncation.side);
    std::int64_t shorter = std::min(first.size(), second->size());
    std::int64_t longer = shorter > max_length ? shorter : std::max(shorter, max_length - shorter);
    if (shorter + longer > max_length) {
      shorter = max_length / 2;
      longer = shorter + max_length % 2;
    }
    const bool swap = first.size() > second->size();
    truncate(first, swap ? longer : shorter, stride, truncation.side);
    truncate(*second, swap ? shorter : longer, stride, truncation.side);
    return;
  }
  Encoding* cut = truncation.strategy == OnlyFirst ? &first : second;
  if (cut == nullptr)
    throw ValueError({.where = "tokenizer", .problem = "only the second text may be truncated, but there is none"});
  const std::int64_t left = cut->size() - (total - max_length);
  if (left <= 0)
    throw ValueError({.where = "tokenizer",
                      .problem = "the text that may be truncated is too short for the largest length",
                      .expected = fmt::format("more than {} tokens", total - max_length),
                      .got = std::to_string(cut->size())});
  truncate(*cut, left, stride, truncation.side);
}

}  // namespace tenon::text
