// 8-bit products for x86-64-v4. The compiler flags of this file are set in tenon/CMakeLists.txt.
#if defined(__x86_64__)
#define TENON_CPU_LEVEL v4
#include "tenon/device/cpu/level_i8_loops.h"

namespace tenon::cpu::v4 {
const I8Loops& i8_loops() {
  static constexpr I8Loops kLoops = make_i8_loops("v4");
  return kLoops;
}
}  // namespace tenon::cpu::v4
#endif
