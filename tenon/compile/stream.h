// Results that are written past the caches. A store first reads its line into the cache; a result of which the
// beginning has left the caches before its end is written is better sent to memory at once, which moves a third less of
// what a map moves. The compiler marks kernels that have such a result (mark_streams), llvm/emit.cpp makes their
// stores, where lines are whole, and the code still asks a number of the call whether to: so it serves small sizes too.
// Nothing that is computed depends on it.
#pragma once

#include <vector>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {

// From which size in bytes on a result is gone from the caches before anybody reads it: twice the last cache that a
// core has to itself or with a few others on the processors where this is done (32 MiB on Zen).
inline constexpr int64_t kStreamBytes = int64_t{64} << 20;

// For each buffer: an output that the kernel only writes, in loops of vectors and element beside element.
std::vector<char> only_written(const Kernel& kernel);
// Sets kernel.streams if such an output has kStreamBytes.
void mark_streams(Kernel& kernel);

}  // namespace tenon::compiler
