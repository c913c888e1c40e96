// The loop IR: one kernel as loops over buffers. What fused graphs become, and what every target is made from.
//
// Semantics:
//  - A kernel is one parallel loop, called for a part [begin, end) of its iterations; parts may run in any order and at
//    the same time. All other loops run from 0 to their extent, which may be 0, in order, with these two freedoms:
//    iterations of a `vec` loop are independent of each other, and `unroll` says only how to emit.
//  - A register is assigned once in each iteration of the loops around it. Its type is a dtype of memory or a scalar
//    program's (ir/scalar.h). Scalar instructions mean what ir/scalar.h says (wrap-around, NaN, saturation), each
//    rounded by itself: nothing is contracted or reordered. The order of a sum is therefore the order written here.
//  - Indices are sums of a constant and loop variables times constants, in elements; they are within their buffer.
//    A bool in memory is a byte, 0 or not.
//  - Buffers of a kernel do not overlap, except that an output may be an input that is read at the same index only,
//    before it is written. Scratch belongs to one call, has no first value and starts anew with each iteration of the
//    parallel loop.
//
//  - `streams` is advice (stream.h): 1 if what is only written need not stay in the caches.
//
//   kernel "add" (b0: f32[640], b1: f32[1], out b2: f32[640]) {
//     for i0 in 640 parallel vec {
//       %0: f32 = load b0[i0]
//       %1: f32 = load b1[0]
//       %2: f32 = add %0, %1
//       store b2[i0], %2
//     }
//   }
// Scratch stands after the buffers: (…) scratch (s0: f32[64]), and "streams" at the end of that line. Constants: "%3:
// f32 = const 0.5" (floats by their shortest exact decimal form, inf, -inf, nan; integers in decimal); "number 0.5" is
// a constant that is an argument of the code (numbers_of).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tenon/base/hash.h"
#include "tenon/ir/scalar.h"

namespace tenon::compiler {

struct IndexTerm {
  int32_t loop = 0;  // the number of the loop
  int64_t factor = 1;
  bool operator==(const IndexTerm&) const = default;
};
// constant + sum of factor * loop variable; terms by rising loop, factors not zero.
struct Index {
  int64_t constant = 0;
  std::vector<IndexTerm> terms;
  [[nodiscard]] int64_t factor(int32_t loop) const;
  void add(int32_t loop, int64_t factor);
  bool operator==(const Index&) const = default;
};

// Buffers come first, then scratch.
struct LoopBuffer {
  DType dtype = DType::F32;
  int64_t size = 0;  // elements
  bool output = false;
  bool operator==(const LoopBuffer&) const = default;
};

enum class StmtKind : uint8_t { Scalar, Load, Store, For };

struct Stmt {
  StmtKind kind = StmtKind::Scalar;
  // Scalar: result = op(args). Load: result = buffer[index]. Store: buffer[index] = args[0].
  ir::ScalarOp op = ir::ScalarOp::Const;
  DType dtype = DType::F32;  // of the result (of a store: of what is stored)
  int32_t result = -1;
  int32_t args[3] = {-1, -1, -1};
  double real = 0;  // constants
  int64_t integer = 0;
  bool number = false;  // a constant that follows the sizes of the graph (the n of a mean): an argument of the code
  int32_t buffer = -1;
  Index index;
  // For
  int32_t loop = -1;
  int64_t extent = 0;
  bool parallel = false, vec = false, unroll = false;
  std::vector<Stmt> body;
};

struct Kernel {
  std::string name;
  std::vector<LoopBuffer> buffers;  // the arguments of a call, in order
  std::vector<LoopBuffer> scratch;  // numbered on from the buffers
  Stmt root;                        // the parallel loop
  int32_t registers = 0;
  int32_t loops = 0;
  int64_t streams = 0;  // 0 or 1
  [[nodiscard]] const LoopBuffer& buffer(int32_t i) const {
    const auto n = static_cast<size_t>(i);
    return n < buffers.size() ? buffers[n] : scratch[n - buffers.size()];
  }
};

std::string to_text(const Kernel& kernel);
// Errors: FormatError with the line.
Kernel parse_kernel(std::string_view text);
// The first thing that is wrong, or an empty text.
std::string verify(const Kernel& kernel);
// Of everything but the name.
Hash128 hash(const Kernel& kernel);

// Machine code does not depend on how long loops are and where elements lie: numbers, extents of loops that are not
// unrolled, and in indices (not of scratch that may become registers) the constants and the factors other than 1, are
// arguments of the code, and last `streams`. So kernels that differ in these numbers only share it: updates of
// parameters of many sizes, the same block at another batch size.
std::vector<int64_t> numbers_of(const Kernel& kernel);  // floats by the bits of a double
// In the same order, the members of the kernel; of a constant always `integer`.
std::vector<const int64_t*> number_places(const Kernel& kernel);
// The kernel with 2 for each of its numbers, no sizes of buffers and no name: equal for kernels that share code. It
// keeps `streams`: code made with 1 knows both ways, code made with 0 is shorter, and each serves every kernel.
Kernel without_numbers(const Kernel& kernel);

// Replaces the elementary functions that have a formula of their own (exp, log, tanh, erf of f32) by it: the formulas
// of device/cpu/level_math.h, instruction by instruction, so the bits are the same.
void expand_functions(Kernel& kernel);

// Precision::Fast: what is rounded to f16 or bf16 and read as f32 again is not rounded; with `contract` a product that
// only one addition reads and that addition are one fused multiply-add.
void relax(Kernel& kernel, bool contract);

}  // namespace tenon::compiler
