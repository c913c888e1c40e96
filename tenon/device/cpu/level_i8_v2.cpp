// 8-bit products for x86-64-v2, and in plain C++ for other processors.
#define TENON_CPU_LEVEL v2
#include "tenon/device/cpu/level_i8_loops.h"

namespace tenon::cpu::v2 {
const I8Loops& i8_loops() {
  static constexpr I8Loops kLoops = make_i8_loops("v2");
  return kLoops;
}
}  // namespace tenon::cpu::v2
