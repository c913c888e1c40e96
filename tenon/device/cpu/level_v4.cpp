// The loops for x86-64-v4. The compiler flags of this file are set in tenon/CMakeLists.txt.
#if defined(__x86_64__)
#define TENON_CPU_LEVEL v4
#include "tenon/device/cpu/level_table.h"

namespace tenon::cpu::v4 {
const LevelTable& table() {
  static constexpr LevelTable kTable = make_table("v4");
  return kTable;
}
}  // namespace tenon::cpu::v4
#endif
