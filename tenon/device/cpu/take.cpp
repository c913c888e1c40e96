#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/device/cpu/around.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"
#include "tenon/ops/interpolate.h"
#include "tenon/tensor/element.h"

namespace tenon::cpu {
namespace {

// All positions, checked and counted from the front.
std::vector<int64_t> positions(const char* op, const ConstView& indices, const Around& x) {
  std::vector<int64_t> result(static_cast<size_t>(numel(indices.shape)));
  ElementCursor cursor(indices);
  for (int64_t& to : result) {
    const int64_t i = load_integer(indices, cursor.element());
    if (i < -x.extent || i >= x.extent) {
      throw IndexError({.where = op,
                        .problem = "index out of range on axis " + std::to_string(x.number),
                        .expected = x.extent == 0 ? "no index at all, the axis is empty"
                                                  : std::to_string(-x.extent) + " to " + std::to_string(x.extent - 1),
                        .got = std::to_string(i),
                        .hint = {}});
    }
    to = i < 0 ? i + x.extent : i;
    cursor.next();
  }
  return result;
}

// Single elements, for which a call of memcpy or of a loop each would take longer than they do.
template <class T>
void take_singles(const std::byte* from, std::byte* to, const std::vector<int64_t>& at) {
  const T* source = reinterpret_cast<const T*>(from);
  T* target = reinterpret_cast<T*>(to);
  for (size_t i = 0; i < at.size(); ++i) target[i] = source[at[i]];
}
template <class T>
void add_singles(std::byte* to, const std::byte* from, const std::vector<int64_t>& at) {
  T* target = reinterpret_cast<T*>(to);
  const T* values = reinterpret_cast<const T*>(from);
  for (size_t i = 0; i < at.size(); ++i) target[at[i]] += values[i];
}

using TakeSinglesFn = void (*)(const std::byte*, std::byte*, const std::vector<int64_t>&);
TakeSinglesFn take_singles_of(int bytes) {
  switch (bytes) {
    case 1:
      return take_singles<uint8_t>;
    case 2:
      return take_singles<uint16_t>;
    case 4:
      return take_singles<uint32_t>;
    default:
      return take_singles<uint64_t>;
  }
}

// out[o, i, :] = x[o, at[i], :]
void take_slices(const ConstView& x, const std::vector<int64_t>& at, int64_t axis, const View& out, ThreadPool& pool) {
  const Around shape(x.shape, axis);
  const Contiguous source(x, pool);
  const int64_t slice = shape.inner * element_size(x.dtype);
  const auto count = static_cast<int64_t>(at.size());
  std::byte* to = out.first();
  if (shape.inner == 1) {
    const TakeSinglesFn take = take_singles_of(element_size(x.dtype));
    for_units(pool, shape.outer, count,
              [&](int64_t o) { take(source.data() + o * shape.extent * slice, to + o * count * slice, at); });
    return;
  }
  for_units(pool, shape.outer * count, shape.inner, [&](int64_t u) {
    const int64_t row = u / count * shape.extent + at[static_cast<size_t>(u % count)];
    std::memcpy(to + u * slice, source.data() + row * slice, static_cast<size_t>(slice));
  });
}

template <class T>
void take_elements(const std::byte* from, std::byte* to, const int64_t* at, const Around& x, int64_t count) {
  const T* source = reinterpret_cast<const T*>(from);
  T* target = reinterpret_cast<T*>(to);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < x.inner; ++j) target[i * x.inner + j] = source[at[i * x.inner + j] * x.inner + j];
  }
}

enum class Mode : uint8_t { Set, Add, Min, Max };
Mode mode_of(const std::string& name) {
  return name == "set" ? Mode::Set : name == "add" ? Mode::Add : name == "min" ? Mode::Min : Mode::Max;
}

template <class T>
void combine(T& to, T value, Mode mode) {
  switch (mode) {
    case Mode::Set:
      to = value;
      return;
    case Mode::Add:
      to = static_cast<T>(to + value);
      return;
    case Mode::Min:
      to = value < to || value != value ? value : to;
      return;
    case Mode::Max:
      to = value > to || value != value ? value : to;
      return;
  }
}
template <class T>
void scatter_elements(const std::byte* from, std::byte* to, const int64_t* at, const Around& x, int64_t count,
                      Mode mode) {
  const T* values = reinterpret_cast<const T*>(from);
  T* target = reinterpret_cast<T*>(to);
  for (int64_t i = 0; i < count * x.inner; ++i) combine(target[at[i] * x.inner + i % x.inner], values[i], mode);
}

using ScatterFn = void (*)(const std::byte*, std::byte*, const int64_t*, const Around&, int64_t, Mode);
// Null where a sum would have to be rounded at each step. Sums of integers need no sign.
ScatterFn scatter_of(DType dtype, Mode mode) {
  if (mode == Mode::Set) {
    switch (element_size(dtype)) {
      case 1:
        return scatter_elements<uint8_t>;
      case 2:
        return scatter_elements<uint16_t>;
      case 4:
        return scatter_elements<uint32_t>;
      default:
        return scatter_elements<uint64_t>;
    }
  }
  switch (dtype) {
    case DType::F32:
      return scatter_elements<float>;
    case DType::F64:
      return scatter_elements<double>;
    case DType::I32:
      return mode == Mode::Add ? scatter_elements<uint32_t> : scatter_elements<int32_t>;
    case DType::I64:
      return mode == Mode::Add ? scatter_elements<uint64_t> : scatter_elements<int64_t>;
    default:
      return nullptr;
  }
}

}  // namespace

namespace {

void take_slices(const char* op, const KernelArgs& a, int64_t axis) {
  const ConstView& x = a.inputs[0];
  take_slices(x, positions(op, a.inputs[1], Around(x.shape, axis)), axis, a.outputs[0], a.pool);
}

// Slices of a tensor whose axes lie in this order, as those of the result do.
class PreparedSlices final : public PreparedKernel {
 public:
  PreparedSlices(std::vector<int64_t> at, size_t axis, Ints order)
      : at_(std::move(at)), axis_(axis), order_(std::move(order)) {}
  [[nodiscard]] Ints order() const override { return order_; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView>, const View& out,
           ThreadPool& pool) const override {
    if (order_.empty()) {
      take_slices(inputs[0], at_, static_cast<int64_t>(axis_), out, pool);
      return;
    }
    const auto place = std::find(order_.begin(), order_.end(), static_cast<int64_t>(axis_)) - order_.begin();
    take_slices(turned(inputs[0]), at_, place, turned(out), pool);
  }

 private:
  template <class V>
  [[nodiscard]] V turned(V v) const {
    const Shape shape = v.shape, strides = v.strides;
    for (size_t i = 0; i < order_.size(); ++i) {
      v.shape[i] = shape[static_cast<size_t>(order_[i])];
      v.strides[i] = strides[static_cast<size_t>(order_[i])];
    }
    return v;
  }
  std::vector<int64_t> at_;
  size_t axis_;
  Ints order_;
};

}  // namespace

void run_take(const KernelArgs& a) { take_slices("take", a, a.attrs.integer(0)); }
void run_embedding(const KernelArgs& a) { take_slices("embedding", a, 0); }

bool accepts_interpolate(Types in, const ir::Attrs& attrs) {
  return info(in[0].dtype).bits >= 8 && attrs.text(2) == "nearest";
}
void run_interpolate(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const Around shape(x.shape, a.attrs.integer(0));
  take_slices(x, *ops::interpolate_positions(shape.extent, a.attrs), shape.number, a.outputs[0], a.pool);
}
std::unique_ptr<PreparedKernel> prepare_interpolate(const PrepareArgs& args) {
  const ConstView& x = args.inputs[0];
  if (x.data != nullptr || numel(args.result.shape) == 0) return nullptr;
  const Around shape(x.shape, args.attrs.integer(0));
  const Ints last = x.shape.size() > 2 ? channels_last_order(x.shape.size()) : Ints{};
  return std::make_unique<PreparedSlices>(*ops::interpolate_positions(shape.extent, args.attrs),
                                          static_cast<size_t>(shape.number), lies_in(x, last) ? last : Ints{});
}

bool accepts_index_add(Types in, const ir::Attrs& /*attrs*/) {
  const DType t = in[0].dtype;
  return t == in[2].dtype && (t == DType::F32 || t == DType::F64 || is_integer(t)) && info(t).bits >= 8;
}
void run_index_add(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const View& out = a.outputs[0];
  const Around shape(x.shape, a.attrs.integer(0));
  const std::vector<int64_t> at = positions("index_add", a.inputs[1], shape);
  const Contiguous values(a.inputs[2], a.pool);
  copy(x, out, a.pool);
  const int bytes = element_size(x.dtype);
  const LoopFn add =
      level_table(best_level()).loop[static_cast<size_t>(ir::ScalarOp::Add)][static_cast<size_t>(x.dtype)];
  std::byte* to = out.data + out.offset * bytes;
  const auto count = static_cast<int64_t>(at.size());
  if (shape.inner == 1 && is_float(x.dtype)) {
    const auto add_all = x.dtype == DType::F32 ? add_singles<float> : add_singles<double>;
    for_units(a.pool, shape.outer, count,
              [&](int64_t o) { add_all(to + o * shape.extent * bytes, values.data() + o * count * bytes, at); });
    return;
  }
  // In order for every element: parts differ in their columns.
  constexpr int64_t kTile = 256;
  const int64_t tiles = (shape.inner + kTile - 1) / kTile;
  for_units(a.pool, shape.outer * tiles, count * std::min(kTile, shape.inner), [&](int64_t u) {
    const int64_t j = u % tiles * kTile;
    const int64_t n = std::min(kTile, shape.inner - j);
    const int64_t o = u / tiles;
    for (int64_t i = 0; i < count; ++i) {
      std::byte* row = to + ((o * shape.extent + at[static_cast<size_t>(i)]) * shape.inner + j) * bytes;
      add(row, row, values.data() + ((o * count + i) * shape.inner + j) * bytes, nullptr, n);
    }
  });
}

void run_take_along_axis(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const Around shape(x.shape, a.attrs.integer(0));
  const std::vector<int64_t> at = positions("take_along_axis", a.inputs[1], shape);
  const Contiguous source(x, a.pool);
  const int bytes = element_size(x.dtype);
  const int64_t count = a.inputs[1].shape[static_cast<size_t>(shape.number)];
  std::byte* to = a.outputs[0].data + a.outputs[0].offset * bytes;
  for_units(a.pool, shape.outer, count * shape.inner, [&](int64_t o) {
    const std::byte* from = source.data() + o * shape.extent * shape.inner * bytes;
    std::byte* target = to + o * count * shape.inner * bytes;
    const int64_t* where = at.data() + o * count * shape.inner;
    switch (bytes) {
      case 1:
        return take_elements<uint8_t>(from, target, where, shape, count);
      case 2:
        return take_elements<uint16_t>(from, target, where, shape, count);
      case 4:
        return take_elements<uint32_t>(from, target, where, shape, count);
      default:
        return take_elements<uint64_t>(from, target, where, shape, count);
    }
  });
}

bool accepts_scatter(Types in, const ir::Attrs& attrs) {
  return in[0].dtype == in[2].dtype && info(in[0].dtype).bits >= 8 &&
         scatter_of(in[0].dtype, mode_of(attrs.text(1))) != nullptr;
}
void run_scatter(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const View& out = a.outputs[0];
  const Around shape(x.shape, a.attrs.integer(0));
  const std::vector<int64_t> at = positions("scatter_along_axis", a.inputs[1], shape);
  const Contiguous values(a.inputs[2], a.pool);
  copy(x, out, a.pool);
  const Mode mode = mode_of(a.attrs.text(1));
  const ScatterFn scatter = scatter_of(x.dtype, mode);
  const int bytes = element_size(x.dtype);
  const int64_t count = a.inputs[1].shape[static_cast<size_t>(shape.number)];
  std::byte* to = out.data + out.offset * bytes;
  for_units(a.pool, shape.outer, count * shape.inner, [&](int64_t o) {
    scatter(values.data() + o * count * shape.inner * bytes, to + o * shape.extent * shape.inner * bytes,
            at.data() + o * count * shape.inner, shape, count, mode);
  });
}

}  // namespace tenon::cpu
