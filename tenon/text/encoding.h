// Encoding: what a tokenizer makes of a text, ready for a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tenon::text {

// [begin, end) of the input, in the unit that EncodeOptions says; {0, 0} for tokens that were added.
struct Offset {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool operator==(const Offset&) const = default;
};

// All lists are of one length.
struct Encoding {
  std::vector<std::int64_t> ids;
  std::vector<std::int64_t> type_ids;  // 0, or 1 for the second text of a pair
  std::vector<Offset> offsets;
  std::vector<std::int64_t> words;           // the number of the word; -1 for tokens that were added
  std::vector<std::int64_t> special_mask;    // 1 for tokens that were added
  std::vector<std::int64_t> attention_mask;  // 0 for padding
  std::vector<Encoding> overflowing;         // what truncation cut off, in pieces of the same length

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(ids.size()); }
  bool operator==(const Encoding&) const = default;
};

enum class Side : std::uint8_t { Left, Right };

struct Truncation {
  enum class Strategy : std::uint8_t { LongestFirst, OnlyFirst, OnlySecond };
  std::int64_t max_length = 512;  // with the tokens that are added
  std::int64_t stride = 0;        // how many tokens the pieces in `overflowing` share with the one before
  Strategy strategy = Strategy::LongestFirst;
  Side side = Side::Right;
};

struct Padding {
  std::int64_t length = 0;  // 0: as long as the longest of a batch
  std::int64_t multiple_of = 0;
  Side side = Side::Right;
  std::int64_t id = 0;
  std::int64_t type_id = 0;
};

void pad(Encoding& encoding, std::int64_t length, const Padding& padding);
// Each to the length that `padding` says.
void pad_all(std::vector<Encoding>& encodings, const Padding& padding);
// Appends `next`; what overflowed of either is combined with the other.
void merge(Encoding& encoding, const Encoding& next);
// Cuts `encoding` to `length`, the rest goes to its `overflowing`.
// Errors: ValueError unless stride is below length.
void truncate(Encoding& encoding, std::int64_t length, std::int64_t stride, Side side);
// As above, for a text or a pair that together may have `max_length` tokens.
// Errors: ValueError if the text that may be cut is too short, or is not there.
void truncate(Encoding& first, Encoding* second, std::int64_t max_length, const Truncation& truncation);

}  // namespace tenon::text
