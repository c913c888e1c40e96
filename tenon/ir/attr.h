// Attributes: the constants of an op call (axes, kernel sizes, flags, sub-graphs).
//
// An op declares them in order with stable field numbers (ops/opdef.h); a call carries the values in that
// order. Values are plain data, so they print, parse, hash and compare.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tenon/tensor/dtype.h"
#include "tenon/tensor/shape.h"

namespace tenon::ir {

struct Graph;
using GraphPtr = std::shared_ptr<const Graph>;

enum class AttrType : uint8_t { Flag, Int, Real, Text, Dtype, IntList, Subgraph };
// In the order of AttrType.
using AttrValue = std::variant<bool, int64_t, double, std::string, DType, Ints, GraphPtr>;

inline AttrType type_of(const AttrValue& value) { return static_cast<AttrType>(value.index()); }
std::string_view name(AttrType type);
// "true", "3", "0.1", "\"same\"", "f32", "[1, 2]", "graph (…) {…}"
std::string to_string(const AttrValue& value);

class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<AttrValue> values) : values_(values) {}
  explicit Attrs(std::vector<AttrValue> values) : values_(std::move(values)) {}
  [[nodiscard]] size_t size() const { return values_.size(); }
  [[nodiscard]] bool empty() const { return values_.empty(); }
  const AttrValue& operator[](size_t i) const { return values_[i]; }
  AttrValue& operator[](size_t i) { return values_[i]; }
  [[nodiscard]] auto begin() const { return values_.begin(); }
  [[nodiscard]] auto end() const { return values_.end(); }

  // The i-th value, which the op's definition says is of this type.
  [[nodiscard]] bool flag(size_t i) const { return std::get<bool>(values_[i]); }
  [[nodiscard]] int64_t integer(size_t i) const { return std::get<int64_t>(values_[i]); }
  [[nodiscard]] double real(size_t i) const { return std::get<double>(values_[i]); }
  [[nodiscard]] const std::string& text(size_t i) const { return std::get<std::string>(values_[i]); }
  [[nodiscard]] DType dtype(size_t i) const { return std::get<DType>(values_[i]); }
  [[nodiscard]] const Ints& ints(size_t i) const { return std::get<Ints>(values_[i]); }
  [[nodiscard]] const GraphPtr& graph(size_t i) const { return std::get<GraphPtr>(values_[i]); }

  // Sub-graphs compare by identity, everything else by value.
  bool operator==(const Attrs&) const = default;

 private:
  std::vector<AttrValue> values_;
};

}  // namespace tenon::ir
