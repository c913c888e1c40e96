// What stands between the i32 sums of a block of an 8-bit product and the result: a scalar program, and the way to
// memory. The usual one, to 8 bits with scales and a zero point (QLinearConv, QLinearMatMul), is one pass in registers;
// any other goes instruction by instruction over the block (tile_program.h). The bits are those of the program.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "tenon/device/cpu/level_i8.h"
#include "tenon/device/cpu/tile_program.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

// A program that is: sums and numbers in i32; in f64 times and divided by numbers; rounded to a whole number, plus a
// zero point, at least and at most a number; an i8 or u8.
struct Rescaling {
  struct Operand {
    int input = 0;  // of the program; 0: the number
    double number = 0;
    bool inverse = false;
  };
  std::vector<Operand> of_sums, of_reals;
  std::optional<Operand> zero;
  Operand low, high;
};
std::optional<Rescaling> rescaling_of(const ir::ScalarProgram& program);

// A program after an 8-bit product, made ready once.
class I8Program {
 public:
  static bool accepts(const ir::ScalarProgram& program) { return TileProgram::accepts_sums(program); }
  // InternalError unless accepts(program).
  explicit I8Program(const ir::ScalarProgram& program);
  [[nodiscard]] const TileProgram& program() const { return program_; }
  [[nodiscard]] const std::optional<Rescaling>& rescaling() const { return rescaling_; }

 private:
  TileProgram program_;
  std::optional<Rescaling> rescaling_;
};

// The result of one run: images of rows of columns, one after the other in memory.
class I8Follow {
 public:
  // Steps in elements.
  struct Operand {
    const std::byte* data;
    DType dtype;
    int64_t image, row, column;
  };
  // `operands` are the program's inputs but the first.
  I8Follow(const I8Program& program, std::vector<Operand> operands, std::byte* y, int64_t images, int64_t rows,
           int64_t columns);

 private:
  friend class I8Finish;
  [[nodiscard]] bool reads_once(const Operand& operand) const;
  [[nodiscard]] std::optional<I8Rescale> rescale() const;
  const I8Program& program_;
  std::vector<Operand> operands_;
  std::byte* y_;
  int64_t images_, rows_, columns_;
  int64_t bytes_;                     // of an element of the result
  std::optional<I8Rescale> rescale_;  // of the first row and column, if the operands allow it
};

// Of one thread.
class I8Finish {
 public:
  I8Finish(const I8Follow& follow, const I8Loops& loops);
  // The block's sums, `from` numbers from row to row, less a number for each row if `less` is not null; its first row
  // and column.
  struct Block {
    const int32_t* sums;
    int64_t from;
    const uint32_t* less;
    int64_t image, row, rows, column, columns;
  };
  void operator()(const Block& block);

 private:
  void run_program(const Block& block);
  const I8Follow& follow_;
  const I8Loops& loops_;
  std::optional<TileProgram::Room> room_;  // unless it is one pass
};

}  // namespace tenon::cpu
