#include "tenon/device/cpu/elementwise.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/nest.h"
#include "tenon/device/cpu/tile_program.h"

namespace tenon::cpu {

LoopFn loop_for(const LevelTable& level, const ir::ScalarProgram& program, const ir::ScalarInstr& instr) {
  using ir::ScalarOp;
  const auto type_of = [&](int a) { return program.code[static_cast<size_t>(instr.args[a])].dtype; };
  LoopFn fn = nullptr;
  const DType operand = type_of(instr.op == ScalarOp::Select ? 1 : 0);
  const auto row = static_cast<size_t>(operand);
  if (instr.op == ScalarOp::Cast) {
    fn = level.cast[row][static_cast<size_t>(instr.dtype)];
  } else if (instr.op == ScalarOp::Bitcast) {
    constexpr DType kBySize[] = {DType::U8, DType::U16, DType::U32, DType::U64};
    int size = 0;
    while ((8 << size) < info(operand).bits) ++size;
    const auto plain = static_cast<size_t>(kBySize[size]);
    fn = info(operand).bits < 8 ? level.cast[row][static_cast<size_t>(instr.dtype)] : level.cast[plain][plain];
  } else {
    fn = level.loop[static_cast<size_t>(instr.op)][row];
  }
  if (fn == nullptr) {
    throw InternalError(fmt::format("the CPU has no loop for {} on {} (result {})", info(instr.op).name, name(operand),
                                    name(instr.dtype)));
  }
  return fn;
}

namespace {

using ir::ScalarInstr;
using ir::ScalarOp;

constexpr int64_t kBlock = 1024;          // elements of a block
constexpr int64_t kChunk = 32768;         // elements of one part of a parallel run, about
constexpr int64_t kScratch = 64 * 1024;   // bytes of block registers, on the stack
constexpr int64_t kLongRow = kBlock / 4;  // rows at least so long are cut into blocks, shorter ones gathered

int register_bytes(DType dtype) { return std::max(1, element_size(dtype)); }

// How an operand comes to a block.
enum class Access : uint8_t {
  Direct,    // the block lies in memory as it is
  Uniform,   // one value for the whole tensor
  Periodic,  // the same row again and again
  Gathered
};

struct Operand {
  std::byte* data;  // the first element (dtypes below 8 bits: the buffer)
  int64_t first;    // element number of the first element, for dtypes below 8 bits
  DType dtype;
  int bytes;  // of an element in a register
  bool packed;
  Access access = Access::Direct;
  int slot = -1;
};

struct Step {
  LoopFn run = nullptr;
  std::array<int32_t, 3> args{-1, -1, -1};
  int slot = -1;  // -1: an input in memory, or the output
  bool uniform = false;
};

class Run {
 public:
  Run(const LevelTable& level, const ir::ScalarProgram& program, std::span<const ConstView> in, const View& out)
      : program_(program), transpose_(level.tiles.transpose) {
    std::vector<const Shape*> strides{&out.strides};
    operands_.reserve(in.size() + 1);
    add_operand(const_cast<std::byte*>(out.data), out.dtype, out.offset);
    for (int i = 0; i < program.inputs; ++i) {
      const ConstView& view = in[static_cast<size_t>(i)];
      strides.push_back(&view.strides);
      add_operand(const_cast<std::byte*>(view.data), view.dtype, view.offset);
    }
    nest_ = make_nest(out.shape, strides);
    rows_ = nest_.rows();
    by_piece_ = rows_ == 1 || nest_.inner() >= kLongRow;
    for (size_t k = 0; k < operands_.size(); ++k) operands_[k].access = access_of(k);
    plan_registers(level);
    choose_block();
  }

  void execute(ThreadPool& pool) {
    const int64_t units = by_piece_ ? rows_ * pieces_ : (rows_ + rows_per_unit_ - 1) / rows_per_unit_;
    const int64_t unit_size = by_piece_ ? std::min(block_, nest_.inner()) : rows_per_unit_ * nest_.inner();
    // Neighbours of a packed result share bytes: one thread.
    const int64_t wanted = operands_[0].packed ? units : std::max<int64_t>(1, kChunk / unit_size);
    const int64_t parts = (units + wanted - 1) / wanted;
    if (parts == 1) {
      run_units(0, units);
    } else {
      pool.run(parts, [&](int64_t p) { run_units(p * wanted, std::min(units, (p + 1) * wanted)); });
    }
  }

 private:
  void add_operand(std::byte* data, DType dtype, int64_t offset) {
    const bool packed = info(dtype).bits < 8;
    const int bytes = register_bytes(dtype);
    operands_.push_back({packed ? data : data + offset * bytes, offset, dtype, bytes, packed});
  }

  [[nodiscard]] Access access_of(size_t k) const {
    const Shape& strides = nest_.strides[k];
    const size_t last = strides.size() - 1;
    const bool outer_zero = std::all_of(strides.begin(), strides.end() - 1, [](int64_t s) { return s == 0; });
    if (outer_zero && (strides[last] == 0 || numel(nest_.shape) == 1)) {
      if (k != 0) return Access::Uniform;
    }
    if (operands_[k].packed) return Access::Gathered;
    if (by_piece_) return strides[last] == 1 ? Access::Direct : Access::Gathered;
    bool linear = strides[last] == 1;
    for (size_t d = 0; d < last; ++d) linear = linear && strides[d] == strides[d + 1] * nest_.shape[d + 1];
    if (linear) return Access::Direct;
    return outer_zero && k != 0 ? Access::Periodic : Access::Gathered;
  }

  int new_slot() {
    if (!free_slots_.empty()) {
      const int slot = free_slots_.back();
      free_slots_.pop_back();
      return slot;
    }
    return slots_++;
  }

  void plan_registers(const LevelTable& level) {
    const auto& code = program_.code;
    steps_.resize(code.size());
    std::vector<size_t> last_use(code.size(), 0);
    for (size_t i = 0; i < code.size(); ++i) {
      for (int a = 0; a < arity(code[i]); ++a) last_use[static_cast<size_t>(code[i].args[a])] = i;
    }
    for (Operand& operand : operands_) {
      if (operand.access != Access::Direct) operand.slot = slots_++;
    }
    for (size_t i = 0; i < code.size(); ++i) {
      Step& step = steps_[i];
      const ScalarInstr& instr = code[i];
      if (instr.op == ScalarOp::Input) {
        const Operand& operand = operands_[static_cast<size_t>(instr.args[0]) + 1];
        step.slot = operand.slot;
        step.uniform = operand.access == Access::Uniform;
        continue;
      }
      step.uniform = true;
      for (int a = 0; a < arity(instr); ++a) {
        step.args[static_cast<size_t>(a)] = instr.args[a];
        step.uniform = step.uniform && steps_[static_cast<size_t>(instr.args[a])].uniform;
      }
      if (instr.op != ScalarOp::Const) step.run = loop_for(level, program_, instr);
      const bool last = i + 1 == code.size();
      if (step.uniform) {
        step.slot = slots_++;
      } else {
        step.slot = last ? operands_[0].slot : new_slot();
        for (int a = 0; a < arity(instr); ++a) free_after(static_cast<size_t>(instr.args[a]), i, last_use);
      }
    }
  }
  static int arity(const ScalarInstr& instr) { return info(instr.op).arity; }
  // A register is free again after the last instruction that reads it; inputs and uniform values keep theirs.
  void free_after(size_t value, size_t at, std::vector<size_t>& last_use) {
    const Step& step = steps_[value];
    if (last_use[value] != at || step.uniform || step.run == nullptr) return;
    last_use[value] = SIZE_MAX;  // an operand that comes twice is freed once
    free_slots_.push_back(step.slot);
  }

  void choose_block() {
    int64_t block = kBlock;
    if (slots_ == 0) block = kChunk;
    while (slots_ * block * 8 > kScratch && block > 16) block /= 2;
    if (slots_ * block * 8 > kScratch) throw InternalError("a scalar program with too many values for one block");
    if (by_piece_) {
      block_ = std::min(block, nest_.inner());
      pieces_ = (nest_.inner() + block_ - 1) / block_;
    } else {
      rows_per_unit_ = std::max<int64_t>(1, block / nest_.inner());
      block_ = rows_per_unit_ * nest_.inner();
      if (block_ > block && slots_ > 0) {  // many registers, so blocks shorter than a row: rows are cut after all
        by_piece_ = true;
        for (auto& operand : operands_) {
          if (operand.access == Access::Periodic) operand.access = Access::Gathered;
        }
        rows_per_unit_ = 1;
        block_ = std::min(block, nest_.inner());
        pieces_ = (nest_.inner() + block_ - 1) / block_;
      }
    }
  }

  std::byte* slot_data(std::byte* scratch, int slot) const { return scratch + slot * block_ * 8; }

  // Elements [j, j + n) of the row to which `offset` points, or n / inner whole rows.
  void load(const Operand& operand, const Shape& strides, int64_t row, int64_t offset, int64_t j, int64_t n,
            std::byte* to) const {
    const int64_t stride = strides.back();
    const auto piece = [&](std::byte* target, int64_t from, int64_t count) {
      if (operand.packed) {
        gather_packed(target, operand.data, operand.first + from, stride, count, operand.dtype);
      } else {
        gather(target, operand.data + from * operand.bytes, stride, count, operand.bytes);
      }
    };
    if (by_piece_) {
      piece(to, offset + j * stride, n);
      return;
    }
    if (strides.size() == 2 && strides[0] == 1 && operand.bytes == 4 && !operand.packed) {
      transpose_(reinterpret_cast<const float*>(operand.data) + row, stride, nest_.inner(), n / nest_.inner(),
                 reinterpret_cast<float*>(to), nest_.inner());
      return;
    }
    RowCursor cursor(nest_.shape, strides, row);
    for (int64_t done = 0; done < n; done += nest_.inner(), cursor.next()) {
      piece(to + done * operand.bytes, cursor.offset(), nest_.inner());
    }
  }
  void store(const std::byte* from, int64_t row, int64_t offset, int64_t j, int64_t n) const {
    const Operand& out = operands_[0];
    const int64_t stride = nest_.strides[0].back();
    const auto piece = [&](const std::byte* source, int64_t to, int64_t count) {
      if (out.packed) {
        scatter_packed(out.data, out.first + to, stride, source, count, out.dtype);
      } else {
        scatter(out.data + to * out.bytes, stride, source, count, out.bytes);
      }
    };
    if (by_piece_) {
      piece(from, offset + j * stride, n);
      return;
    }
    RowCursor cursor(nest_.shape, nest_.strides[0], row);
    for (int64_t done = 0; done < n; done += nest_.inner(), cursor.next()) {
      piece(from + done * out.bytes, cursor.offset(), nest_.inner());
    }
  }

  // What does not change from block to block: constants, single values, repeated rows, and what is made of them.
  void prepare(std::byte* scratch, std::vector<std::byte*>& values) const {
    for (size_t k = 1; k < operands_.size(); ++k) {
      const Operand& operand = operands_[k];
      std::byte* to = operand.slot < 0 ? nullptr : slot_data(scratch, operand.slot);
      if (operand.access == Access::Uniform) {
        if (operand.packed) {
          gather_packed(to, operand.data, operand.first, 0, block_, operand.dtype);
        } else {
          gather(to, operand.data, 0, block_, operand.bytes);
        }
      } else if (operand.access == Access::Periodic) {
        load(operand, nest_.strides[k], 0, 0, 0, block_, to);
      }
    }
    for (size_t i = 0; i < steps_.size(); ++i) {
      const Step& step = steps_[i];
      if (step.slot >= 0) values[i] = slot_data(scratch, step.slot);
      if (!step.uniform) continue;
      if (program_.code[i].op == ScalarOp::Const) {
        fill_constant(program_.code[i], values[i]);
      } else if (step.run != nullptr) {
        call(step, values, values[i], block_);
      }
    }
  }

  void fill_constant(const ScalarInstr& instr, std::byte* to) const {
    std::byte value[8];
    if (instr.dtype == DType::F32) {
      const auto single = static_cast<float>(instr.real);
      std::memcpy(value, &single, 4);
    } else if (instr.dtype == DType::F64) {
      std::memcpy(value, &instr.real, 8);
    } else {
      std::memcpy(value, &instr.integer, 8);  // little-endian: the low bytes come first
    }
    gather(to, value, 0, block_, register_bytes(instr.dtype));
  }

  static void call(const Step& step, const std::vector<std::byte*>& values, std::byte* out, int64_t n) {
    const auto arg = [&](size_t a) -> const void* {
      return step.args[a] < 0 ? nullptr : values[static_cast<size_t>(step.args[a])];
    };
    step.run(out, arg(0), arg(1), arg(2), n);
  }

  void run_units(int64_t begin, int64_t end) const {
    alignas(64) std::byte scratch[kScratch];
    std::vector<std::byte*> values(steps_.size(), nullptr);
    prepare(scratch, values);
    std::vector<RowCursor> cursors;
    int64_t row = by_piece_ ? begin / pieces_ : begin * rows_per_unit_;
    cursors.reserve(operands_.size());
    for (size_t k = 0; k < operands_.size(); ++k) cursors.emplace_back(nest_.shape, nest_.strides[k], row);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t j = by_piece_ ? unit % pieces_ * block_ : 0;
      if (!by_piece_) row = unit * rows_per_unit_;
      const int64_t n =
          by_piece_ ? std::min(block_, nest_.inner() - j) : std::min(rows_per_unit_, rows_ - row) * nest_.inner();
      run_block(scratch, values, cursors, row, j, n);
      if (by_piece_ && (unit + 1) % pieces_ == 0) {
        ++row;
        for (RowCursor& cursor : cursors) cursor.next();
      }
    }
  }

  void run_block(std::byte* scratch, std::vector<std::byte*>& values, const std::vector<RowCursor>& cursors,
                 int64_t row, int64_t j, int64_t n) const {
    const auto in_memory = [&](size_t k) {
      const int64_t element = by_piece_ ? cursors[k].offset() + j : row * nest_.inner();
      return operands_[k].data + element * operands_[k].bytes;
    };
    const size_t last = steps_.size() - 1;
    for (size_t i = 0; i <= last; ++i) {
      const Step& step = steps_[i];
      if (program_.code[i].op == ScalarOp::Input) {
        const auto k = static_cast<size_t>(program_.code[i].args[0]) + 1;
        if (operands_[k].access == Access::Direct) {
          values[i] = in_memory(k);
        } else if (operands_[k].access == Access::Gathered) {
          load(operands_[k], nest_.strides[k], row, cursors[k].offset(), j, n, values[i]);
        }
      } else if (!step.uniform) {
        if (i == last && operands_[0].access == Access::Direct) values[i] = in_memory(0);
        call(step, values, values[i], n);
      }
    }
    if (operands_[0].access != Access::Direct) {
      store(values[last], row, cursors[0].offset(), j, n);
    } else if (steps_[last].uniform) {
      std::memcpy(in_memory(0), values[last], static_cast<size_t>(n * operands_[0].bytes));
    }
    (void)scratch;
  }

  const ir::ScalarProgram& program_;
  decltype(TileLoops::transpose) transpose_;  // moves 4 bytes, whatever they are
  std::vector<Operand> operands_;             // the output, then the inputs
  Nest nest_;
  std::vector<Step> steps_;
  std::vector<int> free_slots_;
  int slots_ = 0;
  int64_t rows_ = 1;
  int64_t block_ = 1;          // elements of a register
  int64_t pieces_ = 1;         // blocks of a row
  int64_t rows_per_unit_ = 1;  // rows of a block
  bool by_piece_ = true;       // rows are cut into blocks; otherwise blocks hold whole rows
};

// One instruction over small operands that lie alike, which most eager calls of small models are: the loop itself,
// without a plan. Returns whether it was that.
bool run_single(const LevelTable& level, const ir::ScalarProgram& program, std::span<const ConstView> in,
                const View& out) {
  const ScalarInstr& instr = program.code.back();
  if (program.code.size() != static_cast<size_t>(program.inputs) + 1 || instr.op == ScalarOp::Const) return false;
  int64_t n = 1;
  for (size_t d = out.shape.size(); d-- > 0;) {
    if (out.strides[d] != n) return false;
    n *= out.shape[d];
  }
  if (n > kChunk || info(out.dtype).bits < 8) return false;
  std::array<const std::byte*, 3> args{};
  for (int a = 0; a < info(instr.op).arity; ++a) {
    const ConstView& view = in[static_cast<size_t>(instr.args[a])];
    const int bits = info(view.dtype).bits;
    if (bits < 8 || !(view.strides == out.strides)) return false;
    args[static_cast<size_t>(a)] = view.data + view.offset * (bits / 8);
  }
  const LoopFn loop = loop_for(level, program, instr);
  loop(out.first(), args[0], args[1], args[2], n);
  return true;
}

}  // namespace

void elementwise(const LevelTable& level, const ir::ScalarProgram& program, std::span<const ConstView> in,
                 const View& out, ThreadPool& pool) {
  if (numel(out.shape) == 0) return;
  const ScalarInstr& last = program.code.back();
  if (last.op == ScalarOp::Input) {
    copy(in[static_cast<size_t>(last.args[0])], out, pool);
    return;
  }
  if (!run_single(level, program, in, out)) Run(level, program, in, out).execute(pool);
}

}  // namespace tenon::cpu
