// The loops for x86-64-v3. The compiler flags of this file are set in tenon/CMakeLists.txt.
#if defined(__x86_64__)
#define TENON_CPU_LEVEL v3
#include "tenon/device/cpu/level_table.h"

namespace tenon::cpu::v3 {
const LevelTable& table() {
  static constexpr LevelTable kTable = make_table("v3");
  return kTable;
}
}  // namespace tenon::cpu::v3
#endif
