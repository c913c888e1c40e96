// Products of bf16 matrices in blocks (bf16_blocks.h). Each element is summed up in f32 over all of k and rounded once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/bf16_blocks.h"
#include "tenon/device/cpu/tile_program.h"
#include "tenon/ir/precision.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {

// Rows [first, first + count) of a block that are rows from `row` on of the result.
struct Bf16Run {
  int64_t first, count, row;
};
// A left-hand side that is no matrix in memory, in blocks of bf16_blocks::kSide rows. Rows of a block that are in no
// run, as what is beside an image, are computed and forgotten.
class Bf16Rows {
 public:
  virtual ~Bf16Rows() = default;
  [[nodiscard]] virtual int64_t blocks() const = 0;
  // What a block reads, in bytes, about.
  [[nodiscard]] virtual int64_t block_bytes() const = 0;
  // Elements of the room that a block needs to be packed; 0: it never is.
  [[nodiscard]] virtual int64_t room() const = 0;
  // Where tile registers find a block.
  virtual bf16_blocks::Left block(int64_t i, uint16_t* room) const = 0;
  // Its runs; how many.
  virtual int runs(int64_t i, std::span<Bf16Run, bf16_blocks::kSide> to) const = 0;
};

// c[m, n] = a[m, k] b[k, n]. Steps are in elements, and any step is allowed for a and b.
struct Bf16Product {
  int64_t m = 0, n = 0, k = 0;
  const uint16_t* a = nullptr;
  int64_t a_row = 0, a_k = 0;
  const Bf16Rows* rows = nullptr;  // instead of a
  const uint16_t* b = nullptr;
  int64_t b_k = 0, b_column = 0;
  const uint16_t* packed = nullptr;  // what pack_right_bf16 gave of b: instead of b
  const float* bias = nullptr;       // n numbers that are added to each row before it is rounded, or null
  uint16_t* c = nullptr;
  int64_t c_row = 0;
};

// A scalar program over the elements of a product, rounded unless `precision` is Fast and it runs in registers; as
// steps in registers where it is a chain of such.
class Bf16After {
 public:
  explicit Bf16After(const ir::ScalarProgram& program, Precision precision = Precision::Strict);
  [[nodiscard]] const TileProgram& program() const { return program_; }
  // The operands' dtypes and the steps, if there are.
  [[nodiscard]] const std::optional<std::vector<ChainStep>>& chain() const { return chain_; }
  [[nodiscard]] bool rounds_first() const { return rounds_first_; }
  [[nodiscard]] bool narrow(int operand) const { return narrow_[static_cast<size_t>(operand)] != 0; }

 private:
  TileProgram program_;
  std::vector<uint8_t> narrow_;  // by operand: whether it is of bf16
  std::optional<std::vector<ChainStep>> chain_;
  bool rounds_first_;
};

// What happens to each element while it is in the cache. Its result goes to `out`, and nothing to c.
struct Bf16Follow {
  struct Operand {
    const std::byte* data;  // of the program's input
    int64_t row, column;    // steps in elements
  };
  const Bf16After& after;  // input 0 is the element
  std::span<const Operand> operands;
  std::byte* out;
  int64_t out_row;  // in elements
  // Whether it is done in registers: then rows of the left side may come in any runs.
  [[nodiscard]] bool in_registers() const;
};

// Blocks of the result on the threads of the pool. Only where bf16_blocks::available(). `follow` may be null.
void product(const Bf16Product& p, ThreadPool& pool, const Bf16Follow* follow = nullptr);
// On the calling thread.
void product(const Bf16Product& p);

Ref<Buffer> pack_right_bf16(const uint16_t* b, int64_t b_k, int64_t b_column, int64_t k, int64_t n, ThreadPool& pool);

}  // namespace tenon::cpu
