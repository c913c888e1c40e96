// The loops for the baseline: x86-64-v2, or whatever another processor has. Flags are set in tenon/CMakeLists.txt.
#define TENON_CPU_LEVEL v2
#include "tenon/device/cpu/level_table.h"

namespace tenon::cpu::v2 {
const LevelTable& table() {
  static constexpr LevelTable kTable = make_table("v2");
  return kTable;
}
}  // namespace tenon::cpu::v2
