// Arrays for device tests: a dtype, a layout and values, in plain memory.
#pragma once

#include <array>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/cpu_device.h"
#include "tenon/ir/scalar.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/low_precision.h"
#include "tenon/tensor/view.h"

namespace tenon::test {

// Bytes of which every fifth is one of the ends, where shifts of signs and saturation would show.
inline std::vector<uint8_t> draw_bytes(int64_t n, uint64_t seed) {
  std::mt19937_64 generator(seed);
  constexpr std::array<uint8_t, 4> kEnds{0x00, 0x7f, 0x80, 0xff};
  std::vector<uint8_t> list;
  for (int64_t i = 0; i < n; ++i)
    list.push_back(generator() % 5 == 0 ? kEnds[generator() % 4] : static_cast<uint8_t>(generator()));
  return list;
}

struct Array {
  std::vector<std::byte> memory;
  TensorType type;
  Shape strides;
  int64_t offset = 0;

  Array(DType dtype, const Shape& shape) : Array(dtype, shape, contiguous_strides(shape), 0, numel(shape)) {}
  // `extent`: elements of memory.
  Array(DType dtype, const Shape& shape, const Shape& strides_in, int64_t offset_in, int64_t extent)
      : memory(static_cast<size_t>(byte_size(dtype, extent) + 8)),
        type{dtype, shape},
        strides(strides_in),
        offset(offset_in) {}
  template <class T>
  static Array of(const std::vector<T>& values, const Shape& shape) {
    Array a(dtype_of<T>, shape);
    for (size_t i = 0; i < values.size(); ++i) reinterpret_cast<T*>(a.memory.data())[i] = values[i];
    return a;
  }

  [[nodiscard]] ConstView in() const { return {memory.data(), type.dtype, type.shape, strides, offset}; }
  [[nodiscard]] View out() { return {memory.data(), type.dtype, type.shape, strides, offset}; }
  template <class T>
  [[nodiscard]] const T* data() const {
    return reinterpret_cast<const T*>(memory.data());
  }
  template <class T>
  [[nodiscard]] T* data() {
    return reinterpret_cast<T*>(memory.data());
  }
  // Elements in row-major order.
  [[nodiscard]] std::vector<double> reals() const {
    std::vector<double> values;
    ElementCursor cursor(in());
    for (int64_t i = numel(type.shape); i-- > 0; cursor.next()) values.push_back(load_real(in(), cursor.element()));
    return values;
  }
  void fill(const std::function<double(int64_t)>& value) {
    ElementCursor cursor(in());
    for (int64_t i = 0; i < numel(type.shape); ++i, cursor.next()) store_real(out(), cursor.element(), value(i));
  }
  void fill_random(uint64_t seed, double low = -2, double high = 2) {
    std::mt19937_64 generator(seed);
    std::uniform_real_distribution<double> uniform(low, high);
    fill([&](int64_t) { return uniform(generator); });
  }
};

// Strides of [n, channels, spatial…] with the channels side by side.
inline Shape channels_last_strides(const Shape& shape) {
  Shape strides(shape.size(), 1);
  int64_t next = shape[1];
  for (size_t d = shape.size(); d-- > 2; next *= shape[d]) strides[d] = next;
  strides[0] = next;
  return strides;
}

// Numbers of bf16 between -1 and 1.
inline std::vector<uint16_t> draw_bf16(int64_t n, uint64_t seed) {
  Array a(DType::F32, {n});
  a.fill_random(seed, -1, 1);
  std::vector<uint16_t> list;
  for (int64_t i = 0; i < n; ++i) list.push_back(f32_to_bf16(a.data<float>()[i]));
  return list;
}

// The program `f` of inputs of these dtypes.
inline ir::ScalarProgram program_of(const std::vector<DType>& in,
                                    const std::function<ir::Scalar(std::span<const ir::Scalar>)>& f, DType out) {
  ir::ScalarBuilder builder;
  std::vector<ir::Scalar> inputs;
  inputs.reserve(in.size());
  for (DType t : in) inputs.push_back(builder.input(t));
  return builder.finish(f(inputs), out);
}
inline ir::ScalarProgram program_of(const std::vector<DType>& in,
                                    const std::function<ir::Scalar(std::span<const ir::Scalar>)>& f) {
  ir::ScalarBuilder builder;
  std::vector<ir::Scalar> inputs;
  inputs.reserve(in.size());
  for (DType t : in) inputs.push_back(builder.input(t));
  const ir::Scalar result = f(inputs);
  return builder.finish(result, result.dtype());
}

}  // namespace tenon::test
