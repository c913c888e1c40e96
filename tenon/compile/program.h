// A compiled segment: steps over planned memory. Made by the passes that program.cpp lists.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tenon/compile/kernel_cache.h"
#include "tenon/compile/loop_ir.h"
#include "tenon/exec/session.h"
#include "tenon/ir/precision.h"
#include "tenon/trace/lazy.h"

namespace tenon::compiler {

class Program;

struct ProgramOptions {
  bool lower = true;            // false: every node is a call of the device, as in an eager run
  bool fuse = true;             // false: each lowered node is a kernel of its own
  int64_t recompute_from = -1;  // as in CompileOptions
  Precision precision = Precision::Strict;
  bool general = false;           // kernels for any size, for a graph that is known with other sizes
  const Program* like = nullptr;  // general: of the same graph at other sizes, whose groups are taken if they fit
  bool interpret = false;         // kernels by the interpreter instead of machine code
  bool verify = false;            // check the loop IR after every pass
  bool keep_text = false;         // the report carries the loop IR
  const char* reason = "";        // why it is compiled, for the report
};

// What explain() tells of one program.
struct ProgramReport {
  struct Pass {
    std::string name;
    double seconds = 0;
    std::string note;
  };
  std::string ended;   // why the segment ended where it did
  std::string reason;  // why it was compiled
  int64_t recorded = 0, maps = 0, folds = 0, calls = 0;
  int64_t kernels = 0;           // steps that are compiled kernels
  int64_t distinct_kernels = 0;  // after equal ones are shared
  int64_t launches = 0;          // in which they run: kernels that do not touch each other's results run together
  CodeCounts code;               // machine code for them
  int64_t arena_bytes = 0, output_bytes = 0, input_bytes = 0, unplanned_bytes = 0;
  int64_t peak_bytes = 0;             // inputs, new results and the arena together; without what the device's own
                                      // kernels allocate while they run
  int64_t recomputed = 0;             // values that are computed again later instead of being kept …
  int64_t recompute_saved_bytes = 0;  // … which makes the arena smaller by this
  int64_t donated = 0;                // results written over inputs that nobody else holds
  std::map<std::string, int> called;  // kernels of the device, by op
  std::vector<std::string> fused;     // ops of each kernel with more than one
  std::vector<Pass> passes;
  std::vector<std::string> loop_ir;  // of the distinct kernels, with keep_text
  double seconds = 0;
  int64_t runs = 0;
};

class Program {
 public:
  Program(const trace::Segment& segment, const ProgramOptions& options, KernelCache& cache, KernelStore& store);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // One run at a time; others wait.
  Tensors run(const trace::Segment& segment);
  [[nodiscard]] ProgramReport report() const;
  [[nodiscard]] const std::shared_ptr<const ir::Graph>& graph() const;
  // Whether it was compiled under a session of the same kind.
  [[nodiscard]] bool made_for(const exec::Session& session) const;
  // Whether the segment, whose graph was predicted, is one of this program: also its leaves are as the program's.
  [[nodiscard]] bool fits(const trace::Segment& segment) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tenon::compiler
