#include "tenon/device/cpu/tile_program.h"

#include <algorithm>

#include "tenon/base/error.h"

namespace tenon::cpu {

using ir::ScalarInstr;
using ir::ScalarOp;

bool TileProgram::accepts(const ir::ScalarProgram& program) {
  constexpr size_t kMost = 48;
  if (program.inputs == 0 || program.code.size() > kMost || program.result() != DType::F32) return false;
  return program.input(0) == DType::F32 && program.code.back().op != ScalarOp::Input &&
         std::all_of(program.code.begin(), program.code.end(), [](const ScalarInstr& i) {
           return i.op != ScalarOp::Bitcast &&
                  (i.dtype == DType::F32 || (i.dtype == DType::Bool && i.op != ScalarOp::Input));
         });
}

TileProgram::TileProgram(const LevelTable& level, ir::ScalarProgram program) : program_(std::move(program)) {
  if (!accepts(program_)) throw InternalError("a scalar program that does not run on tiles: " + to_string(program_));
  const auto& code = program_.code;
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

TileProgram::Room::Room(const TileProgram& program, int64_t most)
    : program_(program),
      most_((most + 15) / 16 * 16),
      memory_(static_cast<size_t>(most_ * program.slots_)),
      values_(program.steps_.size(), nullptr) {
  for (size_t i = 0; i < values_.size(); ++i) {
    const ScalarInstr& instr = program.program_.code[i];
    values_[i] = slot(program.steps_[i].slot);
    if (instr.op != ScalarOp::Const) continue;
    if (instr.dtype == DType::F32)
      std::fill_n(values_[i], most_, static_cast<float>(instr.real));
    else
      std::fill_n(reinterpret_cast<uint8_t*>(values_[i]), most_, static_cast<uint8_t>(instr.integer));
  }
}

void TileProgram::Room::point(int i, const float* data) {
  for (size_t v = 0; v < values_.size(); ++v) {
    const ScalarInstr& instr = program_.program_.code[v];
    if (instr.op == ScalarOp::Input && instr.args[0] == i) values_[v] = const_cast<float*>(data);
  }
}

float* TileProgram::run(Room& room, float* tile, int64_t n) const {
  const auto at = [&](int32_t value) -> float* {
    if (value < 0) return nullptr;
    const auto i = static_cast<size_t>(value);
    return steps_[i].slot == 0 ? tile : room.values_[i];
  };
  const auto last = static_cast<int32_t>(steps_.size()) - 1;
  for (int32_t i = 0; i <= last; ++i) {
    const Step& step = steps_[static_cast<size_t>(i)];
    if (step.run != nullptr) step.run(at(i), at(step.args[0]), at(step.args[1]), at(step.args[2]), n);
  }
  return at(last);
}

}  // namespace tenon::cpu
