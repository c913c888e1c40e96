// Philox4x32-10 (Salmon et al., SC 2011), several blocks side by side: counters that follow each other differ in their
// first words only.
#include <array>
#include <cstring>

#include "tenon/device/cpu/kernels.h"
#include "tenon/tensor/element.h"

namespace tenon::cpu {
namespace {

constexpr int kSide = 16;  // blocks side by side, of four words each
constexpr int64_t kWords = 4 * kSide;

using Lane = std::array<uint32_t, kSide>;

// The words of blocks first … first + kSide - 1 under the key.
void blocks(uint64_t first, uint32_t k0, uint32_t k1, uint32_t* out) {
  Lane x0, x1, x2{}, x3{};
  for (int i = 0; i < kSide; ++i) {
    const uint64_t block = first + static_cast<uint64_t>(i);
    x0[i] = static_cast<uint32_t>(block);
    x1[i] = static_cast<uint32_t>(block >> 32);
  }
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kSide; ++i) {
      const uint64_t a = uint64_t{0xD2511F53u} * x0[i], b = uint64_t{0xCD9E8D57u} * x2[i];
      x0[i] = static_cast<uint32_t>(b >> 32) ^ x1[i] ^ k0;
      x1[i] = static_cast<uint32_t>(b);
      x2[i] = static_cast<uint32_t>(a >> 32) ^ x3[i] ^ k1;
      x3[i] = static_cast<uint32_t>(a);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kSide; ++i) {
    out[4 * i] = x0[i];
    out[4 * i + 1] = x1[i];
    out[4 * i + 2] = x2[i];
    out[4 * i + 3] = x3[i];
  }
}

}  // namespace

void run_random_bits(const KernelArgs& a) {
  const ConstView& keys = a.inputs[0];
  const View& out = a.outputs[0];
  const Shape batch(keys.shape.begin(), keys.shape.end() - 1);
  const int64_t each = numel(a.attrs.ints(0)), groups = (each + kWords - 1) / kWords;
  ElementCursor key(batch, Shape(keys.strides.begin(), keys.strides.end() - 1), keys.offset);
  uint32_t* bits = out.as<uint32_t>() + out.offset;
  for (int64_t n = numel(batch); n > 0; --n, key.next(), bits += each) {
    const auto k0 = static_cast<uint32_t>(load_integer(keys, key.element()));
    const auto k1 = static_cast<uint32_t>(load_integer(keys, key.element() + keys.strides.back()));
    for_units(a.pool, groups, kWords, [&](int64_t g) {
      const int64_t from = g * kWords, count = std::min(kWords, each - from);
      const auto first = static_cast<uint64_t>(g) * kSide;
      if (count == kWords) return blocks(first, k0, k1, bits + from);
      std::array<uint32_t, kWords> words;
      blocks(first, k0, k1, words.data());
      std::memcpy(bits + from, words.data(), static_cast<size_t>(count) * sizeof(uint32_t));
    });
  }
}

}  // namespace tenon::cpu
