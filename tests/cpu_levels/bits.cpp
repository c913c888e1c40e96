// Prints the CPU level that was chosen and the bits of a few ops, which are the same on every level. Exit code 3: the
// CPU is not supported.
#include <cstdio>

#include "tenon/base/error.h"
#include "tenon/base/hash.h"
#include "tenon/device/cpu/level.h"
#include "tenon/tenon.h"

int main() {
  using namespace tenon;
  try {
    const Tensor x = sin(reshape(arange(12 * 20), {12, 20}) * 0.37), w = cos(reshape(arange(20 * 9), {20, 9}) * 0.11);
    const Tensors results{softmax(exp(x) - tanh(x)), matmul(x, w), sum(x, {0}), cast(cast(x, f16) * 3.0, f32),
                          cast(cast(x, bf16) + 1.0, f32)};
    Hasher hash;
    for (const Tensor& y : results) {
      const auto bytes = contiguous(y).to_vector<float>();
      for (float v : bytes) hash.real(static_cast<double>(v));
    }
    std::printf("level %d\nbits %s\n", cpu::best_level(), to_string(hash.finish()).c_str());
    return 0;
  } catch (const UnsupportedError& e) {
    std::printf("%s\n", e.what());
    return 3;
  }
}
