#include <array>
#include <cstring>

#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"
#include "tenon/tensor/element.h"

namespace tenon::cpu {

void run_random_bits(const KernelArgs& a) {
  const ConstView& keys = a.inputs[0];
  const View& out = a.outputs[0];
  const Shape batch(keys.shape.begin(), keys.shape.end() - 1);
  const int64_t each = numel(a.attrs.ints(0)), groups = (each + kRandomWords - 1) / kRandomWords;
  const auto words = level_table(best_level()).random_words;
  ElementCursor key(batch, Shape(keys.strides.begin(), keys.strides.end() - 1), keys.offset);
  uint32_t* bits = out.as<uint32_t>() + out.offset;
  for (int64_t n = numel(batch); n > 0; --n, key.next(), bits += each) {
    const auto k0 = static_cast<uint32_t>(load_integer(keys, key.element()));
    const auto k1 = static_cast<uint32_t>(load_integer(keys, key.element() + keys.strides.back()));
    for_units(a.pool, groups, kRandomWords, [&](int64_t g) {
      const int64_t from = g * kRandomWords, count = std::min<int64_t>(kRandomWords, each - from);
      const auto block = static_cast<uint64_t>(from / 4);
      if (count == kRandomWords) return words(bits + from, block, k0, k1);
      std::array<uint32_t, kRandomWords> last{};
      words(last.data(), block, k0, k1);
      std::memcpy(bits + from, last.data(), static_cast<size_t>(count) * sizeof(uint32_t));
    });
  }
}

}  // namespace tenon::cpu
