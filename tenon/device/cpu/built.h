// Elementwise kernels that were made when Tenon was built.
//
// tools/make_kernels.cpp walks common_programs(), gives each to the compiler's emitter for each CPU level and layout,
// and the objects become a part of the library with an index: built_kernels(). A library that was built without LLVM
// has an empty one (no_kernels.cpp), and what is not in the index runs block by block (elementwise.h), with the same
// bits.
//
// A kernel is one for all sizes and all values of the program's constants. It computes rows [begin, end) of a
// two-dimensional loop over (rows, n):
//   kernel(buffers, numbers, begin, end), buffers: the inputs, then the output;
//   numbers: n; for each input 0 and its stride from row to row; the constants, in order (floats by the bits of a
//   double); 0 and the output's stride.
// Within a row the output and the inputs whose bit in `layout` is set lie one element after the other; the other inputs
// have one element for the row.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tenon/base/hash.h"
#include "tenon/base/thread_pool.h"
#include "tenon/ir/scalar.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

using BuiltFn = void (*)(std::byte* const* buffers, const int64_t* numbers, int64_t begin, int64_t end);

// Sorted by hash and layout.
struct BuiltRow {
  Hash128 program;
  uint32_t layout = 0;
  BuiltFn levels[3] = {};  // v2, v3, v4
};
std::span<const BuiltRow> built_kernels();

inline constexpr int kMostBuiltInputs = 3;
inline constexpr size_t kMostBuiltConstants = 16;

// The program with its kernels for one CPU level.
struct BuiltProgram {
  std::array<BuiltFn, 1 << kMostBuiltInputs> by_layout{};  // null: there is none
  std::vector<int64_t> constants;
};
BuiltProgram find_built(const ir::ScalarProgram& program, int level);

// Runs a call with a kernel if there is one for how the operands lie; false: there is none, and nothing was done.
bool run_built(const BuiltProgram& built, std::span<const ConstView> in, const View& out, ThreadPool& pool);
// The same for small calls whose operands lie in one piece, or have one element (bit of `along` not set).
// `constants` may be others than the program's own.
inline constexpr int64_t kMostFlat = 32768;  // elements; more are cut into parts
inline bool run_built_flat(const BuiltProgram& built, std::span<const int64_t> constants,
                           std::span<const std::byte* const> in, uint32_t along, std::byte* out, int64_t n) {
  if (n > kMostFlat || in.size() > kMostBuiltInputs) return false;
  const BuiltFn run = built.by_layout[along];
  if (run == nullptr) return false;
  // No strides: all numbers but n and the constants are zeros.
  int64_t numbers[1 + 2 * (kMostBuiltInputs + 1) + kMostBuiltConstants];
  for (int i = 1; i <= 2 * (kMostBuiltInputs + 1); ++i) numbers[i] = 0;
  numbers[0] = n;
  if (!constants.empty()) {
    size_t at = 1 + 2 * in.size();
    for (int64_t constant : constants) numbers[at++] = constant;
    numbers[at] = numbers[at + 1] = 0;
  }
  std::byte* buffers[kMostBuiltInputs + 1];
  for (size_t k = 0; k < in.size(); ++k) buffers[k] = const_cast<std::byte*>(in[k]);
  buffers[in.size()] = out;
  run(buffers, numbers, 0, 1);
  return true;
}

// Of the program without the values of its constants.
Hash128 structure_of(const ir::ScalarProgram& program);
// As a kernel wants it.
int64_t constant_bits(const ir::ScalarInstr& constant);

// The programs that eager calls of the elementwise ops of the table have, for the common dtypes, and the three below;
// each structure once.
std::vector<ir::ScalarProgram> common_programs();
// What the device's own row kernels call (rows.cpp): exp(x - shift), and, with numbers for a to d,
// exp((x - a) - b) * c + d and (x - a) - b, of f32.
ir::ScalarProgram exp_shift_program();
ir::ScalarProgram exp_affine_program();
// (x - a) - b
ir::ScalarProgram shift_twice_program();
// The layouts for which a program gets kernels.
std::vector<uint32_t> built_layouts(const ir::ScalarProgram& program);

}  // namespace tenon::cpu
