// The engine behind compile(fn): looks segments up by their structure, compiles what is new, runs it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tenon/compile/kernel_store.h"
#include "tenon/compile/program.h"
#include "tenon/ir/precision.h"
#include "tenon/trace/lazy.h"

namespace tenon {

struct CompileOptions {
  bool fuse = true;        // false: one kernel for each op
  bool interpret = false;  // kernels by the interpreter of the loop IR: slow, for tests
  bool verify = false;     // check the loop IR after every pass
  bool keep_text = false;  // explain() shows the loop IR
  // Values of at least so many bytes that are cheap to make are computed again where they are read late, if that lowers
  // the peak of memory (compile/recompute.h); below 0: none.
  int64_t recompute_from = 1 << 16;
  // Fast: kernels round less often than an eager run does (ir/precision.h); what is no kernel of ours is as there.
  Precision precision = Precision::Strict;
  // Programs to keep (at least one). Beyond that the least recently used goes, and explain() counts it; its machine
  // code stays, so that making it again takes the passes alone.
  int most_programs = 256;
  DiskCache disk = {};  // of machine code
};

// What explain() gives: numbers for programs, to_string for people.
struct Explanation {
  int64_t calls = 0;                        // of the function
  int64_t segments = 0;                     // that were run
  int64_t found = 0;                        // of them: compiled before
  int64_t dropped = 0;                      // programs that made room for others (most_programs)
  int64_t compilations = 0;                 // programs for which there was machine code to make
  std::map<std::string, int64_t> warnings;  // what did not work, and how often; results are right all the same
  std::vector<compiler::ProgramReport> programs;
};
std::string to_string(const Explanation& explanation);

namespace compiler {

class Engine final : public trace::LazyEngine {
 public:
  explicit Engine(CompileOptions options);
  ~Engine() override;
  Tensors run(trace::Segment& segment) override;
  std::shared_ptr<const ir::Graph> predict(size_t before) override;
  void give_back(const Buffer& memory) override;
  void count_call();
  [[nodiscard]] Explanation explain() const;

 private:
  Tensors look_up(trace::Segment& segment);
  struct State;
  std::unique_ptr<State> state_;
};

// Records on this thread while it lives, unless an outer compiled function does so already.
class Recording {
 public:
  explicit Recording(Engine& engine);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  // Computes what is still lazy. Errors: what a kernel says of the values.
  void finish();

 private:
  std::unique_ptr<trace::LazyRecorder> recorder_;
};

}  // namespace compiler
}  // namespace tenon
