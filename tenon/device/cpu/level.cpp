#include "tenon/device/cpu/level.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "tenon/base/error.h"

namespace tenon::cpu {
namespace {

// All of a level's features, and that the system keeps their registers: level_v3.cpp may use any of them. 1: not even
// v2.
int detected_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("x86-64-v2")) return 1;
  if (!__builtin_cpu_supports("x86-64-v3")) return 2;
  return __builtin_cpu_supports("x86-64-v4") ? 4 : 3;
#else
  return 2;
#endif
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

int best_level(int limit) {
  static const int detected = detected_level();
  if (detected < 2)
    throw UnsupportedError({.where = "tenon",
                            .problem = "this CPU is too old: Tenon's kernels are made for x86-64-v2 and newer",
                            .expected = "a CPU with SSE4.2 and POPCNT (x86-64-v2, Intel since 2008, AMD since 2011)",
                            .hint = "under an emulator, choose a newer CPU, as in qemu-x86_64 -cpu Nehalem"});
  return std::max(2, std::min({limit, wanted_level(), detected}));
}

bool writes_past_caches() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("amd") != 0;
#else
  return false;
#endif
}

const LevelTable& level_table(int level) {
#if defined(__x86_64__)
  if (level >= 4) return v4::table();
  if (level == 3) return v3::table();
#endif
  (void)level;
  return v2::table();
}

}  // namespace tenon::cpu
