// What goes into a model and comes out of it, and how each protocol calls its type.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tenon/tensor/tensor.h"

namespace tenon::serve {

// A tensor of texts or bytes.
struct Strings {
  Shape shape;
  std::vector<std::string> values;
};
using Value = std::variant<Tensor, Strings>;

struct NamedValue {
  std::string name;
  Value value;
};

// A dtype, or strings.
struct ElementType {
  std::optional<DType> dtype;  // none: strings

  [[nodiscard]] bool strings() const { return !dtype; }
  bool operator==(const ElementType&) const = default;
};
inline constexpr ElementType kStrings{};

struct TensorSpec {
  std::string name;
  ElementType type;
  bool has_rank = true;
  std::vector<int64_t> dims;  // -1: any extent
};

const Shape& shape_of(const Value& value);
ElementType type_of(const Value& value);
// Bytes of the elements (of the texts, for strings).
int64_t byte_size(const Value& value);

// ---- names of the types ----
// "FP32", "BYTES"; UnsupportedError for a dtype that the protocol has no name for.
std::string_view v2_name(ElementType type);
// RequestError for a name that the protocol or Tenon does not have.
ElementType type_from_v2(std::string_view datatype);
// TensorFlow's DataType: 1 is DT_FLOAT. RequestError for a number that Tenon has no dtype for.
int tf_number(ElementType type);
ElementType type_from_tf(int number);
// "DT_FLOAT"
std::string_view tf_name(ElementType type);
// "float", as TensorFlow's messages call it.
std::string_view tf_short_name(ElementType type);

// A tensor over memory that somebody owns: nothing is copied if it is aligned for its type.
Tensor tensor_over(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, DType dtype,
                   const Shape& shape);
// The elements, row-major.
std::span<const std::byte> bytes_of(const Tensor& contiguous);
// The number of elements of a shape that came from outside. RequestError if an extent is negative or the product does
// not fit `most`.
int64_t checked_count(std::span<const int64_t> dims, std::string_view input, int64_t most = int64_t{1} << 40);

// Rows [begin, end) of the first axis; shares the memory.
Value rows(const Value& value, int64_t begin, int64_t end);
// One after the other along the first axis, then the first row again until there are `total` rows.
Value concat_rows(std::span<const Value* const> parts, int64_t total);

}  // namespace tenon::serve
