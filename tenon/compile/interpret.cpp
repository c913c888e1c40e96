#include "tenon/compile/interpret.h"

#include <fmt/format.h>

#include <cstring>

#include "tenon/base/error.h"

namespace tenon::compiler {

cpu::LoopFn loop_of(const cpu::LevelTable& level, ir::ScalarOp op, DType operand, DType result) {
  const auto row = static_cast<size_t>(operand);
  if (op == ir::ScalarOp::Cast) return level.cast[row][static_cast<size_t>(result)];
  if (op == ir::ScalarOp::Bitcast) {
    constexpr DType kBySize[] = {DType::U8, DType::U16, DType::U32, DType::U64};
    int size = 0;
    while ((8 << size) < info(operand).bits) ++size;
    const auto plain = static_cast<size_t>(kBySize[size]);
    return level.cast[plain][plain];
  }
  return level.loop[static_cast<size_t>(op)][row];
}

namespace {

struct Cell {
  alignas(8) std::byte bytes[8] = {};
};

class Interpreter {
 public:
  Interpreter(const Kernel& k, std::span<std::byte* const> buffers)
      : k_(k), level_(cpu::level_table(cpu::best_level())), buffers_(buffers.begin(), buffers.end()) {
    registers_.resize(static_cast<size_t>(k.registers));
    types_.resize(registers_.size());
    loops_.resize(static_cast<size_t>(k.loops));
    for (const auto& s : k.scratch) {
      scratch_.emplace_back(static_cast<size_t>(s.size * info(s.dtype).bits / 8));
      buffers_.push_back(scratch_.back().data());
    }
  }

  void run(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (auto& s : scratch_) std::memset(s.data(), 0xff, s.size());
      loops_[static_cast<size_t>(k_.root.loop)] = i;
      for (const Stmt& s : k_.root.body) statement(s);
    }
  }

 private:
  [[nodiscard]] std::byte* place(const Stmt& s) const {
    int64_t i = s.index.constant;
    for (const auto& term : s.index.terms) i += term.factor * loops_[static_cast<size_t>(term.loop)];
    return buffers_[static_cast<size_t>(s.buffer)] + i * info(k_.buffer(s.buffer).dtype).bits / 8;
  }
  std::byte* reg(int32_t r) { return registers_[static_cast<size_t>(r)].bytes; }

  void statement(const Stmt& s) {
    const auto size = static_cast<size_t>(info(s.dtype).bits / 8);
    switch (s.kind) {
      case StmtKind::For:
        for (int64_t i = 0; i < s.extent; ++i) {
          loops_[static_cast<size_t>(s.loop)] = i;
          for (const Stmt& inner : s.body) statement(inner);
        }
        return;
      case StmtKind::Load:
        std::memcpy(reg(s.result), place(s), size);
        types_[static_cast<size_t>(s.result)] = s.dtype;
        return;
      case StmtKind::Store:
        std::memcpy(place(s), reg(s.args[0]), size);
        return;
      case StmtKind::Scalar:
        scalar(s);
        return;
    }
  }

  void scalar(const Stmt& s) {
    types_[static_cast<size_t>(s.result)] = s.dtype;
    if (s.op == ir::ScalarOp::Const) {
      const auto single = static_cast<float>(s.real);
      if (s.dtype == DType::F32) {
        std::memcpy(reg(s.result), &single, 4);
      } else if (s.dtype == DType::F64) {
        std::memcpy(reg(s.result), &s.real, 8);
      } else {
        std::memcpy(reg(s.result), &s.integer, 8);  // little-endian: the low bytes come first
      }
      return;
    }
    const DType operand = types_[static_cast<size_t>(s.args[s.op == ir::ScalarOp::Select ? 1 : 0])];
    const cpu::LoopFn run = loop_of(level_, s.op, operand, s.dtype);
    if (run == nullptr) throw InternalError(fmt::format("no loop for {} on {}", info(s.op).name, name(operand)));
    const auto arg = [&](int a) -> const void* { return s.args[a] < 0 ? nullptr : reg(s.args[a]); };
    Cell result;
    run(result.bytes, arg(0), arg(1), arg(2), 1);
    registers_[static_cast<size_t>(s.result)] = result;
  }

  const Kernel& k_;
  const cpu::LevelTable& level_;
  std::vector<std::byte*> buffers_;
  std::vector<std::vector<std::byte>> scratch_;
  std::vector<Cell> registers_;
  std::vector<DType> types_;
  std::vector<int64_t> loops_;
};

}  // namespace

void interpret(const Kernel& kernel, std::span<std::byte* const> buffers, int64_t begin, int64_t end) {
  Interpreter(kernel, buffers).run(begin, end);
}

}  // namespace tenon::compiler
