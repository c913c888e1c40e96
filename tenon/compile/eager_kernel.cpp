#include "tenon/compile/eager_kernel.h"

namespace tenon::compiler {

Kernel eager_kernel(const ir::ScalarProgram& program, uint32_t layout) {
  constexpr int64_t kAny = 2;  // an argument of the code, whatever it is
  Kernel k;
  k.loops = 2;
  Stmt row;
  row.kind = StmtKind::For;
  row.loop = 1;
  row.extent = kAny;
  row.vec = true;
  const auto place = [&](int32_t buffer, bool along) {
    Stmt s;
    s.buffer = buffer;
    s.dtype = k.buffers[static_cast<size_t>(buffer)].dtype;
    s.index.add(0, kAny);
    if (along) s.index.add(1, 1);
    return s;
  };
  for (const ir::ScalarInstr& i : program.code) {
    Stmt s;
    if (i.op == ir::ScalarOp::Input) {
      k.buffers.push_back({i.dtype, kAny, false});
      s = place(i.args[0], ((layout >> i.args[0]) & 1U) != 0);
      s.kind = StmtKind::Load;
    } else {
      s.op = i.op;
      s.dtype = i.dtype;
      s.real = i.real;
      s.integer = i.integer;
      s.number = i.op == ir::ScalarOp::Const;
      for (int a = 0; a < 3; ++a) s.args[a] = i.args[a];
    }
    s.result = k.registers++;
    row.body.push_back(std::move(s));
  }
  k.buffers.push_back({program.result(), kAny, true});
  Stmt store = place(program.inputs, true);
  store.kind = StmtKind::Store;
  store.args[0] = k.registers - 1;
  row.body.push_back(std::move(store));
  k.root.kind = StmtKind::For;
  k.root.loop = 0;
  k.root.extent = kAny;
  k.root.parallel = true;
  k.root.body.push_back(std::move(row));
  expand_functions(k);
  return k;
}

}  // namespace tenon::compiler
