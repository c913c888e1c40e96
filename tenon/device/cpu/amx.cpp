#include "tenon/device/cpu/amx.h"

#include <cstdlib>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "tenon/device/cpu/level.h"

namespace tenon::cpu::amx {
namespace {

bool detected() {
#if defined(__x86_64__) && defined(__linux__) && (defined(__GNUC__) || defined(__clang__))
  constexpr unsigned kTile = 1U << 24, kBf16 = 1U << 22, kAvx512Bf16 = 1U << 5;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (best_level() < 4 || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d & kTile) == 0 || (d & kBf16) == 0) return false;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a & kAvx512Bf16) == 0) return false;
  // The registers are large, so Linux hands them out on request, once for all threads of a process.
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool level_is_named() {
  const char* wish = std::getenv("TENON_CPU_LEVEL");
  return wish != nullptr && *wish != '\0';
}

bool detected_int8() {
#if defined(__x86_64__) && defined(__linux__) && (defined(__GNUC__) || defined(__clang__))
  constexpr unsigned kInt8 = 1U << 25;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kInt8) != 0;
#else
  return false;
#endif
}

}  // namespace

bool available() {
  static const bool yes = !level_is_named() && detected();
  return yes;
}

bool has_int8() {
  static const bool yes = available() && detected_int8();
  return yes;
}

}  // namespace tenon::cpu::amx
