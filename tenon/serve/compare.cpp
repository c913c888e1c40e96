#include "tenon/serve/compare.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::serve {
namespace {

bool agree(double a, double b, const Tolerance& t) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return true;
  return std::isfinite(a) && std::isfinite(b) && std::abs(a - b) <= t.absolute + t.relative * std::abs(a);
}

std::string tensors(const std::string& name, const Tensor& a, const Tensor& b, const Tolerance& tolerance) {
  const auto left = bytes_of(a), right = bytes_of(b);
  if (left.size() == right.size() && std::memcmp(left.data(), right.data(), left.size()) == 0) return {};
  const ConstView x = view(a), y = view(b);
  const bool real = is_float(a.dtype());
  if (!real && !is_integer(a.dtype())) return fmt::format("'{}' differs", name);  // other dtypes: by their bytes
  for (int64_t i = 0; i < a.size(); ++i) {
    if (real) {
      const double p = load_real(x, x.offset + i), q = load_real(y, y.offset + i);
      if (!agree(p, q, tolerance)) return fmt::format("'{}'[{}] is {}, was {}", name, i, q, p);
    } else if (const auto p = load_integer(x, x.offset + i), q = load_integer(y, y.offset + i); p != q) {
      return fmt::format("'{}'[{}] is {}, was {}", name, i, q, p);
    }
  }
  return {};
}

std::string strings(const std::string& name, const Strings& a, const Strings& b) {
  for (size_t i = 0; i < a.values.size(); ++i) {
    if (a.values[i] != b.values[i]) return fmt::format("'{}'[{}] is another text", name, i);
  }
  return {};
}

}  // namespace

std::string difference(const std::vector<NamedValue>& expected, const std::vector<NamedValue>& got,
                       const Tolerance& tolerance) {
  for (const auto& [name, value] : expected) {
    const auto found = std::find_if(got.begin(), got.end(), [&, &n = name](const auto& v) { return v.name == n; });
    if (found == got.end()) return fmt::format("'{}' is missing", name);
    const Value& other = found->value;
    if (!(type_of(value) == type_of(other)))
      return fmt::format("'{}' is {}, was {}", name, v2_name(type_of(other)), v2_name(type_of(value)));
    const Shape& shape = shape_of(value);
    const Shape& shape_got = shape_of(other);
    if (!(shape == shape_got))
      return fmt::format("'{}' has the shape [{}], had [{}]", name, fmt::join(shape_got.begin(), shape_got.end(), ","),
                         fmt::join(shape.begin(), shape.end(), ","));
    if (numel(shape) == 0) continue;
    std::string text = std::holds_alternative<Tensor>(value)
                           ? tensors(name, std::get<Tensor>(value), std::get<Tensor>(other), tolerance)
                           : strings(name, std::get<Strings>(value), std::get<Strings>(other));
    if (!text.empty()) return text;
  }
  return {};
}

}  // namespace tenon::serve
