#include "tenon/ops/window.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/ops/infer.h"
#include "tenon/tensor/element.h"

namespace tenon::ops {

Windows make_windows(const Ints& in, const Ints& out, const Ints& window, const Ints& strides, const Ints& low,
                     const Ints& dilations) {
  Windows w;
  const size_t first = 3 - in.size();
  const auto put = [&](Windows::Extents& to, const Ints& from) { std::copy(from.begin(), from.end(), &to[first]); };
  put(w.in, in);
  put(w.out, out);
  put(w.window, window);
  put(w.stride, strides);
  put(w.low, low);
  if (!dilations.empty()) put(w.dilation, dilations);
  return w;
}

int64_t window_count(int64_t extent, int64_t window, int64_t stride, int64_t low, int64_t high, int64_t dilation,
                     bool ceil_mode) {
  const int64_t room = extent + low + high - dilation * (window - 1) - 1;
  if (room < 0) return 0;
  int64_t count = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (count - 1) * stride >= extent + low) --count;
  return count;
}

void check_window_attr(const InferArgs& a, size_t which, size_t rank, int64_t minimum) {
  const Ints& values = a.attrs.ints(which);
  const std::string_view name = a.op.attrs[which].name;
  if (values.size() != rank)
    fail_value(a, fmt::format("'{}' must have one number for each spatial axis", name), std::to_string(rank),
               to_string(values));
  if (std::any_of(values.begin(), values.end(), [&](int64_t v) { return v < minimum; }))
    fail_value(a, fmt::format("'{}' is too small", name), fmt::format("at least {}", minimum), to_string(values));
  // So that sums and products of two of them are numbers.
  constexpr int64_t kMost = INT32_MAX;
  if (std::any_of(values.begin(), values.end(), [&](int64_t v) { return v > kMost; }))
    fail_value(a, fmt::format("'{}' is too large", name), fmt::format("at most {}", kMost), to_string(values));
}

Ints for_each_axis(std::string_view where, std::string_view option, const Ints& values, size_t rank) {
  if (values.size() == rank) return values;
  if (values.size() == 1) return Ints(rank, values[0]);
  throw ValueError({std::string(where),
                    fmt::format("'{}' does not fit {} spatial axes", option, rank),
                    rank == 1 ? std::string("1 number") : fmt::format("1 or {} numbers", rank),
                    to_string(values),
                    {}});
}

std::vector<double> to_reals(const ConstView& from) {
  const auto n = static_cast<size_t>(numel(from.shape));
  std::vector<double> values(n);
  ElementCursor cursor(from);
  for (size_t i = 0; i < n; ++i, cursor.next()) values[i] = load_real(from, cursor.element());
  return values;
}

void store_reals(const std::vector<double>& values, const View& to) {
  ElementCursor cursor(to);
  for (const double value : values) {
    store_real(to, cursor.element(), value);
    cursor.next();
  }
}

}  // namespace tenon::ops
