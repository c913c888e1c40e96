#include "tenon/device/cpu/tile_program.h"

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/half.h"

namespace tenon::cpu {

using ir::ScalarInstr;
using ir::ScalarOp;

namespace {
constexpr size_t kMost = 48;  // instructions
}  // namespace

bool TileProgram::accepts(const ir::ScalarProgram& program) {
  if (program.inputs == 0 || program.code.size() > kMost || program.code.back().op == ScalarOp::Input) return false;
  const DType first = program.input(0);
  const auto comes_and_goes = [&](DType d) { return d == DType::F32 || (is_half(d) && d == first); };
  return comes_and_goes(first) && comes_and_goes(program.result()) &&
         std::all_of(program.code.begin(), program.code.end(), [&](const ScalarInstr& i) {
           if (i.op == ScalarOp::Input) return comes_and_goes(i.dtype);
           return i.op != ScalarOp::Bitcast && (i.dtype == DType::F32 || i.dtype == DType::Bool || is_half(i.dtype));
         });
}

bool TileProgram::accepts_sums(const ir::ScalarProgram& program) {
  return program.inputs > 0 && program.code.size() <= kMost && program.code.back().op != ScalarOp::Input &&
         program.input(0) == DType::I32 && std::all_of(program.code.begin(), program.code.end(), [](const auto& i) {
           return i.op != ScalarOp::Bitcast && info(i.dtype).bits >= 8;
         });
}

TileProgram::TileProgram(const LevelTable& level, ir::ScalarProgram program) : program_(std::move(program)) {
  if (!accepts(program_) && !accepts_sums(program_))
    throw InternalError("a scalar program that does not run on tiles: " + to_string(program_));
  const auto& code = program_.code;
  for (const ScalarInstr& instr : code) width_ = std::max<int64_t>(width_, element_size(instr.dtype));
  slots_ = program_.inputs;  // slot 0 is the tile itself
  std::vector<size_t> last_use(code.size(), 0);
  for (size_t i = 0; i < code.size(); ++i) {
    for (int a = 0; a < info(code[i].op).arity; ++a) last_use[static_cast<size_t>(code[i].args[a])] = i;
  }
  for (size_t i = 0; i < code.size(); ++i) {
    Step step;
    const ScalarInstr& instr = code[i];
    if (instr.op == ScalarOp::Input) {
      step.slot = instr.args[0];
    } else if (instr.op == ScalarOp::Const) {
      step.slot = slots_++;
    } else {
      step.run = loop_for(level, program_, instr);
      step.slot = -1;
      for (int a = 0; a < info(instr.op).arity; ++a) {
        step.args[a] = instr.args[a];
        const auto from = static_cast<size_t>(instr.args[a]);
        // In place where the operand is dead and this tile's own: the tile or a value in between, of the same width.
        const bool own = steps_[from].run != nullptr || steps_[from].slot == 0;
        if (own && last_use[from] == i && step.slot < 0 && code[from].dtype == instr.dtype)
          step.slot = steps_[from].slot;
      }
      if (step.slot < 0) step.slot = slots_++;
    }
    steps_.push_back(step);
  }
}

namespace {

template <class T>
void load_as(const std::byte* data, int64_t first, int64_t step, int64_t n, std::byte* to) {
  const T* from = reinterpret_cast<const T*>(data) + first;
  T* out = reinterpret_cast<T*>(to);
  if (step == 0) {
    std::fill_n(out, n, *from);
  } else if (step == 1) {
    std::copy_n(from, n, out);
  } else {
    for (int64_t j = 0; j < n; ++j) out[j] = from[j * step];
  }
}
// Elements of so many bytes.
void load_bytes(int bytes, const std::byte* data, int64_t first, int64_t step, int64_t n, std::byte* to) {
  switch (bytes) {
    case 1:
      return load_as<uint8_t>(data, first, step, n, to);
    case 2:
      return load_as<uint16_t>(data, first, step, n, to);
    case 4:
      return load_as<uint32_t>(data, first, step, n, to);
    default:
      return load_as<uint64_t>(data, first, step, n, to);
  }
}

}  // namespace

TileProgram::Room::Room(const TileProgram& program, int64_t most)
    : program_(program),
      most_((most + 15) / 16 * 16),
      memory_(static_cast<size_t>(most_ * program.slots_ * program.width_)),
      values_(program.steps_.size(), nullptr) {
  for (size_t i = 0; i < values_.size(); ++i) {
    const ScalarInstr& instr = program.program_.code[i];
    values_[i] = slot(program.steps_[i].slot);
    if (instr.op != ScalarOp::Const) continue;
    alignas(8) std::byte number[8];
    const View one{number, instr.dtype, {}, {}, 0};
    if (info(instr.dtype).kind == DTypeKind::Float)
      store_real(one, 0, instr.real);
    else
      store_integer(one, 0, instr.integer);
    load_bytes(element_size(instr.dtype), number, 0, 0, most_, slot(program.steps_[i].slot));
  }
}

void TileProgram::Room::point(int i, const void* data) {
  for (size_t v = 0; v < values_.size(); ++v) {
    const ScalarInstr& instr = program_.program_.code[v];
    if (instr.op == ScalarOp::Input && instr.args[0] == i) values_[v] = const_cast<void*>(data);
  }
}

void TileProgram::Room::load(int i, const std::byte* data, int64_t first, int64_t step, int64_t n) {
  if (step == 1)
    point(i, data + first * element_size(program_.program_.input(i)));
  else
    load_rows(i, data, first, 0, step, 1, n);
}

void TileProgram::Room::load_rows(int i, const std::byte* data, int64_t first, int64_t row, int64_t step, int64_t rows,
                                  int64_t n) {
  const int bytes = element_size(program_.program_.input(i));
  point(i, slot(i));
  for (int64_t r = 0; r < rows; ++r) load_bytes(bytes, data, first + r * row, step, n, slot(i) + r * n * bytes);
}

void* TileProgram::run(Room& room, void* tile, int64_t n, void* out) const {
  const auto last = static_cast<int32_t>(steps_.size()) - 1;
  const auto at = [&](int32_t value) -> void* {
    if (value < 0) return nullptr;
    if (value == last && out != nullptr) return out;
    const auto i = static_cast<size_t>(value);
    return steps_[i].slot == 0 ? tile : room.values_[i];
  };
  for (int32_t i = 0; i <= last; ++i) {
    const Step& step = steps_[static_cast<size_t>(i)];
    if (step.run != nullptr) step.run(at(i), at(step.args[0]), at(step.args[1]), at(step.args[2]), n);
  }
  return at(last);
}

namespace {

// What an instruction is as a step: on the first argument with the second as operand, and the other way round if it can
// be turned. (Of 0 and -0 the larger is the second.)
struct StepOps {
  ScalarOp instr;
  TileOp first, second;
  bool turns;
};
constexpr StepOps kStepOps[] = {
    {ScalarOp::Add, TileOp::Add, TileOp::Add, true},
    {ScalarOp::Sub, TileOp::Subtract, TileOp::SubtractFrom, true},
    {ScalarOp::Mul, TileOp::Multiply, TileOp::Multiply, true},
    {ScalarOp::Div, TileOp::Divide, TileOp::DivideInto, true},
    {ScalarOp::Max, TileOp::Larger, TileOp::Larger, false},
    {ScalarOp::Min, TileOp::Smaller, TileOp::Smaller, false},
    {ScalarOp::Neg, TileOp::Negate, TileOp::Negate, false},
    {ScalarOp::Exp, TileOp::Exp, TileOp::Exp, false},
};

// A step, and which value it takes besides the one before it if that is an earlier one: its number of steps, -1: none.
struct Draft {
  ChainStep step;
  int64_t kept = -1;
};

// With a step Keep where a value is made that a later step takes. There is one place for such.
std::optional<std::vector<ChainStep>> with_keeps(const std::vector<Draft>& drafts) {
  std::vector<int64_t> keeps;
  int64_t last_use = 0;
  for (size_t i = 0; i < drafts.size(); ++i) {
    const int64_t kept = drafts[i].kept;
    if (kept < 0) continue;
    if (keeps.empty() || keeps.back() != kept) {
      if (!keeps.empty() && kept < last_use) return std::nullopt;
      keeps.push_back(kept);
    }
    last_use = static_cast<int64_t>(i) + 1;
  }
  std::vector<ChainStep> steps;
  for (size_t i = 0, k = 0; i < drafts.size(); ++i) {
    if (k < keeps.size() && keeps[k] == static_cast<int64_t>(i)) {
      steps.push_back({TileOp::Keep, 0, 0.0F});
      ++k;
    }
    steps.push_back(drafts[i].step);
  }
  return steps;
}

}  // namespace

std::optional<std::vector<ChainStep>> chain_of(const ir::ScalarProgram& program) {
  const auto& code = program.code;
  const auto count = static_cast<int32_t>(code.size());
  const auto at = [&](int32_t i) -> const ScalarInstr& { return code[static_cast<size_t>(i)]; };
  std::vector<int64_t> made(code.size(), -1);  // how many steps give this value; -1: it is no part of the chain
  std::vector<Draft> drafts;
  int32_t before = 0;  // inputs come first, in order
  made[0] = 0;
  const auto append = [&](int32_t i, const Draft& draft) {
    drafts.push_back(draft);
    made[static_cast<size_t>(i)] = static_cast<int64_t>(drafts.size());
    before = i;
  };
  for (int32_t i = 0; i < count; ++i) {
    const ScalarInstr& instr = at(i);
    const bool narrows = instr.dtype == DType::F16 || instr.dtype == DType::BF16;
    if (instr.op == ScalarOp::Cast && narrows && instr.args[0] == before && i + 1 < count &&
        at(i + 1).op == ScalarOp::Cast && at(i + 1).dtype == DType::F32 && at(i + 1).args[0] == i) {
      append(++i, {{instr.dtype == DType::F16 ? TileOp::Half : TileOp::Short, 0, 0.0F}});
      continue;
    }
    if (instr.dtype != DType::F32) return std::nullopt;
    if (instr.op == ScalarOp::Input || instr.op == ScalarOp::Const) continue;
    const auto* ops = std::ranges::find(kStepOps, instr.op, &StepOps::instr);
    const bool first = instr.args[0] == before;
    if (ops == std::end(kStepOps) || (!first && (!ops->turns || instr.args[1] != before))) return std::nullopt;
    if (info(instr.op).arity == 1) {
      append(i, {{ops->first, 0, 0.0F}});
      continue;
    }
    const int32_t other = instr.args[first ? 1 : 0];
    const ScalarInstr& operand = at(other);
    Draft draft{{first ? ops->first : ops->second, 0, 0.0F}};
    if (const int64_t steps = made[static_cast<size_t>(other)]; steps >= 0) {
      draft.step.input = ChainStep::kKept;
      draft.kept = steps;
    } else if (operand.op == ScalarOp::Const) {
      draft.step.number = static_cast<float>(operand.real);
    } else {
      draft.step.input = operand.args[0];
    }
    append(i, draft);
  }
  return with_keeps(drafts);
}

}  // namespace tenon::cpu
