#include "tenon/device/cpu/i8_finish.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tenon/device/cpu/level.h"
#include "tenon/tensor/element.h"

namespace tenon::cpu {
namespace {

using ir::ScalarInstr;
using ir::ScalarOp;

constexpr int64_t kTogether = 1024;  // elements that a program runs over at a time, at least those of a block
constexpr double kLargest = 1e80;    // of a factor, or its inverse: three of them, and a remainder, stay normal numbers
constexpr double kLargestSingle = 1e9;  // likewise, of products that are to be normal in f32
constexpr double kZeroLimit = 1e6;

// Reads a program's instructions one by one, each of which must take the result of the one before it.
class Reader {
 public:
  explicit Reader(const ir::ScalarProgram& program) : code_(program.code) { skip(); }
  // The next instruction's operand besides the value before it if it is `op` in this dtype, and the value is its first
  // argument, or either where they can be turned.
  std::optional<Rescaling::Operand> take(ScalarOp op, DType dtype, bool turns) {
    if (at_ >= code_.size() || code_[at_].op != op || code_[at_].dtype != dtype) return std::nullopt;
    const ScalarInstr& instr = code_[at_];
    const bool first = instr.args[0] == before_;
    if (!first && (!turns || instr.args[1] != before_)) return std::nullopt;
    const int32_t other = instr.args[first ? 1 : 0];
    const ScalarInstr& operand = code_[static_cast<size_t>(other)];
    if (other == before_ || (operand.op != ScalarOp::Const && operand.op != ScalarOp::Input) || other == 0)
      return std::nullopt;
    next();
    if (operand.op == ScalarOp::Input) return Rescaling::Operand{operand.args[0], 0, false};
    const bool real = info(operand.dtype).kind == DTypeKind::Float;
    return Rescaling::Operand{0, real ? operand.real : static_cast<double>(operand.integer), false};
  }
  // An instruction of the value before it alone.
  bool take(ScalarOp op, DType dtype) {
    if (at_ >= code_.size() || code_[at_].op != op || code_[at_].dtype != dtype || code_[at_].args[0] != before_)
      return false;
    next();
    return true;
  }
  [[nodiscard]] bool at_end() const { return at_ == code_.size(); }

 private:
  void next() {
    before_ = static_cast<int32_t>(at_++);
    skip();
  }
  void skip() {
    while (at_ < code_.size() && (code_[at_].op == ScalarOp::Input || code_[at_].op == ScalarOp::Const)) ++at_;
  }
  const std::vector<ScalarInstr>& code_;
  size_t at_ = 0;
  int32_t before_ = 0;
};

// Up to kI8Steps of an op and its inverse.
std::vector<Rescaling::Operand> steps_of(Reader& reader, ScalarOp op, ScalarOp inverse, DType dtype) {
  std::vector<Rescaling::Operand> steps;
  while (steps.size() < kI8Steps) {
    auto operand = reader.take(op, dtype, true);
    if (!operand) {
      operand = reader.take(inverse, dtype, false);
      if (!operand) break;
      operand->inverse = true;
    }
    steps.push_back(*operand);
  }
  return steps;
}

int64_t distance(const I8Follow::Operand& o, int64_t image, int64_t row, int64_t column) {
  return image * o.image + row * o.row + column * o.column;
}

}  // namespace

std::optional<Rescaling> rescaling_of(const ir::ScalarProgram& program) {
  Rescaling r;
  Reader reader(program);
  r.of_sums = steps_of(reader, ScalarOp::Add, ScalarOp::Sub, DType::I32);
  if (!reader.take(ScalarOp::Cast, DType::F64)) return std::nullopt;
  r.of_reals = steps_of(reader, ScalarOp::Mul, ScalarOp::Div, DType::F64);
  if (!reader.take(ScalarOp::Round, DType::F64)) return std::nullopt;
  r.zero = reader.take(ScalarOp::Add, DType::F64, true);
  const auto low = reader.take(ScalarOp::Max, DType::F64, true), high = reader.take(ScalarOp::Min, DType::F64, true);
  if (!low || !high) return std::nullopt;
  r.low = *low;
  r.high = *high;
  reader.take(ScalarOp::Cast, DType::F32);  // exact: what is between the limits of a byte
  const bool to_bytes = reader.take(ScalarOp::Cast, DType::U8) || reader.take(ScalarOp::Cast, DType::I8);
  return to_bytes && reader.at_end() ? std::optional(r) : std::nullopt;
}

I8Program::I8Program(const ir::ScalarProgram& program)
    : program_(level_table(best_level()), program), rescaling_(rescaling_of(program)) {}

I8Follow::I8Follow(const I8Program& program, std::vector<Operand> operands, std::byte* y, int64_t images, int64_t rows,
                   int64_t columns)
    : program_(program),
      operands_(std::move(operands)),
      y_(y),
      images_(images),
      rows_(rows),
      columns_(columns),
      bytes_(element_size(program.program().result())) {
  // A step along an axis of one element means nothing.
  for (Operand& o : operands_) {
    if (images_ == 1) o.image = 0;
    if (rows_ == 1) o.row = 0;
    if (columns_ == 1) o.column = 0;
  }
  rescale_ = rescale();
}

// Whether it has at most a number for each row or one for each column.
bool I8Follow::reads_once(const Operand& operand) const {
  return operand.image == 0 && (operand.row == 0 || operand.column == 0) &&
         (operand.column == 0 || operand.column == 1);
}

std::optional<I8Rescale> I8Follow::rescale() const {
  if (!program_.rescaling()) return std::nullopt;
  const Rescaling& r = *program_.rescaling();
  I8Rescale p{};
  p.single = true;
  const auto operand_of = [&](const Rescaling::Operand& o) -> const Operand& {
    return operands_[static_cast<size_t>(o.input) - 1];
  };
  const auto step_of = [&](const Rescaling::Operand& o, const void* number) -> I8Rescale::Step {
    if (o.input == 0) return {number, 0, false, o.inverse};
    const Operand& operand = operand_of(o);
    return {operand.data, operand.row, operand.column != 0, o.inverse};
  };
  for (const Rescaling::Operand& o : r.of_sums) {
    if (o.input == 0 || !reads_once(operand_of(o))) return std::nullopt;
    p.of_sums[p.sum_steps++] = step_of(o, nullptr);
  }
  for (const Rescaling::Operand& o : r.of_reals) {
    if (o.input != 0 && !reads_once(operand_of(o))) return std::nullopt;
    const I8Rescale::Step step = step_of(o, &o.number);
    const int64_t n = o.input == 0 ? 1 : operand_of(o).row != 0 ? rows_ : step.along ? columns_ : 1;
    const int64_t distance = step.along ? 1 : step.row;
    for (int64_t i = 0; i < n; ++i) {
      const double size = std::abs(static_cast<const double*>(step.data)[i * distance]);
      const bool usual = size >= 1 / kLargest && size <= kLargest;
      p.single = p.single && (size == 0 || (size >= 1 / kLargestSingle && size <= kLargestSingle));
      if (!usual && (step.inverse || size != 0)) return std::nullopt;
    }
    p.of_reals[p.real_steps++] = step;
  }
  // Whole numbers, the same for all.
  const auto whole = [&](const Rescaling::Operand& o) -> std::optional<double> {
    double v = o.number;
    if (o.input != 0) {
      const Operand& operand = operand_of(o);
      if (operand.image != 0 || operand.row != 0 || operand.column != 0) return std::nullopt;
      v = *reinterpret_cast<const double*>(operand.data);
    }
    return std::abs(v) <= kZeroLimit && v == std::nearbyint(v) ? std::optional(v) : std::nullopt;
  };
  const auto zero = r.zero ? whole(*r.zero) : std::optional(0.0), low = whole(r.low), high = whole(r.high);
  const bool is_signed = program_.program().result() == DType::I8;
  if (!zero || !low || !high || *low > *high || *low < (is_signed ? -128 : 0) || *high > (is_signed ? 127 : 255))
    return std::nullopt;
  p.low = *low - *zero;
  p.high = *high - *zero;
  p.single = p.single && std::abs(p.low) <= 512 && std::abs(p.high) <= 512;
  p.zero = static_cast<int32_t>(*zero);
  return p;
}

I8Finish::I8Finish(const I8Follow& follow, const I8Loops& loops) : follow_(follow), loops_(loops) {
  if (!follow.rescale_) room_.emplace(follow.program_.program(), std::max(kTogether, loops.rows * loops.columns));
}

void I8Finish::operator()(const Block& block) {
  if (room_) {
    run_program(block);
    return;
  }
  I8Rescale p = *follow_.rescale_;
  const auto move = [&](I8Rescale::Step& step, int64_t bytes) {
    const int64_t at = block.row * step.row + (step.along ? block.column : 0);
    step.data = static_cast<const std::byte*>(step.data) + at * bytes;
  };
  for (int i = 0; i < p.sum_steps; ++i) move(p.of_sums[i], sizeof(int32_t));
  for (int i = 0; i < p.real_steps; ++i) move(p.of_reals[i], sizeof(double));
  p.sums = block.sums;
  p.from = block.from;
  p.less = block.less;
  p.rows = block.rows;
  p.columns = block.columns;
  p.row = follow_.columns_;
  p.to = reinterpret_cast<uint8_t*>(follow_.y_) + (block.image * follow_.rows_ + block.row) * follow_.columns_ +
         block.column;
  loops_.rescale(p);
}

// Some rows at a time, or a part of one.
void I8Finish::run_program(const Block& block) {
  const TileProgram& program = follow_.program_.program();
  const int64_t bytes = follow_.bytes_, columns = std::min(block.columns, kTogether);
  const int64_t together = std::min(block.rows, std::max<int64_t>(1, kTogether / columns));
  int32_t sums[kTogether];
  for (int64_t row = 0; row < block.rows; row += together) {
    for (int64_t column = 0; column < block.columns; column += columns) {
      const int64_t rows = std::min(together, block.rows - row), n = std::min(columns, block.columns - column);
      for (int64_t r = 0; r < rows; ++r) {
        const int32_t* from = block.sums + (row + r) * block.from + column;
        const uint32_t less = block.less == nullptr ? 0 : block.less[row + r];
        for (int64_t c = 0; c < n; ++c) sums[r * n + c] = static_cast<int32_t>(static_cast<uint32_t>(from[c]) - less);
      }
      for (size_t k = 0; k < follow_.operands_.size(); ++k) {
        const I8Follow::Operand& o = follow_.operands_[k];
        room_->load_rows(static_cast<int>(k) + 1, o.data,
                         distance(o, block.image, block.row + row, block.column + column), o.row, o.column, rows, n);
      }
      const auto* made = static_cast<const std::byte*>(program.run(*room_, sums, rows * n, nullptr));
      const int64_t first = (block.image * follow_.rows_ + block.row + row) * follow_.columns_;
      std::byte* to = follow_.y_ + (first + block.column + column) * bytes;
      for (int64_t r = 0; r < rows; ++r)
        std::memcpy(to + r * follow_.columns_ * bytes, made + r * n * bytes, static_cast<size_t>(n * bytes));
    }
  }
}

}  // namespace tenon::cpu
