#include "tenon/ir/compose.h"

#include <algorithm>

namespace tenon::ir {

ScalarProgram compose(const ScalarProgram& first, const ScalarProgram& second, std::span<const int> joined) {
  const auto is_joined = [&](int input) { return std::find(joined.begin(), joined.end(), input) != joined.end(); };
  ScalarProgram out;
  std::vector<int32_t> of_first(first.code.size()), of_second(second.code.size());
  const auto append = [&](ScalarInstr instr, const std::vector<int32_t>& places) {
    for (int a = 0; a < info(instr.op).arity; ++a) instr.args[a] = places[static_cast<size_t>(instr.args[a])];
    out.code.push_back(instr);
    return static_cast<int32_t>(out.code.size()) - 1;
  };
  const auto append_input = [&](ScalarInstr instr) {
    instr.args[0] = out.inputs++;
    out.code.push_back(instr);
    return out.inputs - 1;
  };
  const auto count = [](const ScalarProgram& p) { return static_cast<size_t>(p.inputs); };
  for (size_t i = 0; i < count(first); ++i) of_first[i] = append_input(first.code[i]);
  for (size_t i = 0; i < count(second); ++i) {
    if (!is_joined(static_cast<int>(i))) of_second[i] = append_input(second.code[i]);
  }
  for (size_t i = count(first); i < first.code.size(); ++i) of_first[i] = append(first.code[i], of_first);
  for (const int i : joined) of_second[static_cast<size_t>(i)] = of_first.back();
  for (size_t i = count(second); i < second.code.size(); ++i) of_second[i] = append(second.code[i], of_second);
  return out;
}

ScalarProgram identity(DType dtype) {
  ScalarProgram p;
  p.inputs = 1;
  p.code.push_back({.op = ScalarOp::Input, .dtype = dtype, .args = {0, -1, -1}});
  return p;
}

}  // namespace tenon::ir
