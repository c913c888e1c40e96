// What a thread does between two looks at a value that another one is about to write: it leaves the core to its
// sibling.
#pragma once

namespace tenon {

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__("yield");
#endif
}

}  // namespace tenon
