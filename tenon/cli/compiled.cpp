#include "tenon/cli/compiled.h"

#include "tenon/base/error.h"
#ifdef TENON_HAS_COMPILER
#include "tenon/compile.h"
#endif

namespace tenon::cli {

#ifdef TENON_HAS_COMPILER
std::function<Tensors()> compiled(std::function<Tensors()> run, Precision precision) {
  return compile(std::move(run), {.precision = precision});
}
#else
std::function<Tensors()> compiled(std::function<Tensors()>, Precision) {
  throw UnsupportedError({.where = "tenon run",
                          .problem = "this program was built without the compiler",
                          .hint = "build it where LLVM 19 (llvm-19-dev) is installed, or leave out --compile"});
}
#endif

}  // namespace tenon::cli
