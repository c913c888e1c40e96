// 8-bit products for x86-64-v4 with AVX512-VNNI. The compiler flags of this file are set in tenon/CMakeLists.txt.
#if defined(__x86_64__)
#define TENON_CPU_LEVEL vnni
#include "tenon/device/cpu/level_i8_loops.h"

namespace tenon::cpu::vnni {
const I8Loops& i8_loops() {
  static constexpr I8Loops kLoops = make_i8_loops("vnni");
  return kLoops;
}
}  // namespace tenon::cpu::vnni
#endif
