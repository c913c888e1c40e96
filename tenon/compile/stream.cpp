#include "tenon/compile/stream.h"

namespace tenon::compiler {
namespace {

struct OnlyWritten {
  std::vector<char> fits;  // by buffer: no access yet that would not

  void visit(const Stmt& loop) {
    for (const Stmt& s : loop.body) {
      if (s.kind == StmtKind::For) visit(s);
      const bool touches = s.kind == StmtKind::Load || s.kind == StmtKind::Store;
      if (!touches || static_cast<size_t>(s.buffer) >= fits.size()) continue;
      const bool lines = loop.vec && !loop.unroll && s.index.factor(loop.loop) == 1;
      if (s.kind == StmtKind::Load || !lines) fits[static_cast<size_t>(s.buffer)] = 0;
    }
  }
};

}  // namespace

std::vector<char> only_written(const Kernel& kernel) {
  OnlyWritten walk;
  for (const LoopBuffer& b : kernel.buffers) walk.fits.push_back(b.output ? 1 : 0);
  walk.visit(kernel.root);
  return walk.fits;
}

void mark_streams(Kernel& kernel) {
  const std::vector<char> fits = only_written(kernel);
  for (size_t i = 0; i < fits.size(); ++i) {
    const LoopBuffer& b = kernel.buffers[i];
    if (fits[i] != 0 && byte_size(b.dtype, b.size) >= kStreamBytes) kernel.streams = 1;
  }
}

}  // namespace tenon::compiler
