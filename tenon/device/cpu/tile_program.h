// A scalar program over a tile that lies in the first cache: what follows a convolution element by element, done before
// the tile goes to memory. Each instruction is the level's own loop, so the bits are those of the op by itself.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "tenon/device/cpu/level.h"
#include "tenon/ir/scalar.h"

namespace tenon::cpu {

// The loop that computes one instruction. InternalError if the level has none.
LoopFn loop_for(const LevelTable& level, const ir::ScalarProgram& program, const ir::ScalarInstr& instr);

class TileProgram {
 public:
  // Every value an f32, f16, bf16 or a bool, the inputs and the result f32 or, if the first input is an f16 or a bf16,
  // of that dtype.
  static bool accepts(const ir::ScalarProgram& program);
  // The first input an i32, all else of any dtype of whole bytes.
  static bool accepts_sums(const ir::ScalarProgram& program);
  // InternalError unless one of them takes the program.
  TileProgram(const LevelTable& level, ir::ScalarProgram program);

  // What a thread needs for tiles of up to `most` elements. `input(i)` is where operand i > 0 is to be put.
  class Room {
   public:
    Room(const TileProgram& program, int64_t most);
    [[nodiscard]] float* input(int i) { return reinterpret_cast<float*>(slot(i)); }
    // Operand i > 0, of any dtype, for n elements: data[first], data[first + step], …. Not copied where step is 1.
    void load(int i, const std::byte* data, int64_t first, int64_t step, int64_t n);
    // … for `rows` rows of n elements: data[first + r * row + j * step], copied.
    void load_rows(int i, const std::byte* data, int64_t first, int64_t row, int64_t step, int64_t rows, int64_t n);

   private:
    friend class TileProgram;
    [[nodiscard]] std::byte* slot(int i) { return memory_.data() + i * most_ * program_.width_; }
    void point(int i, const void* data);
    const TileProgram& program_;
    int64_t most_;
    std::vector<std::byte> memory_;
    std::vector<void*> values_;
  };
  [[nodiscard]] DType result() const { return program_.result(); }
  // The result for n elements of `tile` (input 0), which may be overwritten: in `out`, which may be the tile or null;
  // then in `tile` or in the room. Says where.
  void* run(Room& room, void* tile, int64_t n, void* out) const;
  // … of f32.
  float* run(Room& room, float* tile, int64_t n) const { return static_cast<float*>(run(room, tile, n, nullptr)); }

 private:
  struct Step {
    LoopFn run = nullptr;  // null: an input or a constant
    int32_t args[3] = {-1, -1, -1};
    int32_t slot = 0;
  };
  ir::ScalarProgram program_;
  std::vector<Step> steps_;
  int slots_ = 0;
  int64_t width_ = 4;  // bytes of an element of a slot
};

// A program that is a chain: each instruction takes the result of the one before it, and an operand, a number or one
// earlier result that is kept (as in x * sigmoid(x)), or rounds it to f16 or bf16 and goes on in f32. Such a one can
// run over vectors in registers (TileFinish), with the same bits.
struct ChainStep {
  static constexpr int kKept = -1;
  TileOp op;
  int input;  // 0: the number
  float number;
};
std::optional<std::vector<ChainStep>> chain_of(const ir::ScalarProgram& program);

}  // namespace tenon::cpu
