// What elements are: the datatype and dataspace messages.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tenon/formats/hdf5/bytes.h"
#include "tenon/tensor/dtype.h"

namespace tenon::formats::hdf5 {

struct Datatype {
  // Numbers that tensors hold, texts of a fixed size or in the global heap, numbers of a form that no tensor has,
  // and everything else (compounds, references, ...).
  enum class Kind : std::uint8_t { Number, FixedText, HeapText, OddNumber, Other };
  Kind kind = Kind::Other;
  DType dtype = DType::U8;  // of a Number
  bool big_endian = false;
  std::uint64_t size = 0;  // bytes of an element in the file
};
Datatype read_datatype(Cursor body);

inline constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};
// The extents; nothing for a null dataspace, which has no elements. A FormatError if they are more than 63 bits count.
struct Dataspace {
  bool null = false;
  std::vector<std::int64_t> extents;
  std::vector<std::uint64_t> largest;  // what they may grow to; kUnlimited
  std::uint64_t count = 1;
};
Dataspace read_dataspace(Cursor body);

}  // namespace tenon::formats::hdf5
