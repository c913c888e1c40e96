#include "tenon/device/cpu/level.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "tenon/base/error.h"

namespace tenon::cpu {
namespace {

int detected_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx2) return avx512 ? 4 : 3;
#endif
  return 2;
}

int wanted_level() {
  const char* wish = std::getenv("TENON_CPU_LEVEL");
  const std::string_view text = wish != nullptr ? wish : "";
  if (text.empty() || text == "v4") return 4;
  if (text == "v3") return 3;
  if (text == "v2") return 2;
  throw ValueError({.where = "TENON_CPU_LEVEL",
                    .problem = "unknown CPU level in the environment",
                    .expected = "v2, v3 or v4",
                    .got = std::string(text),
                    .hint = "unset TENON_CPU_LEVEL"});
}

}  // namespace

int best_level(int limit) { return std::max(2, std::min({limit, wanted_level(), detected_level()})); }

const LevelTable& level_table(int level) {
#if defined(__x86_64__)
  if (level >= 4) return v4::table();
  if (level == 3) return v3::table();
#endif
  (void)level;
  return v2::table();
}

}  // namespace tenon::cpu
