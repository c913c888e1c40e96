// Program: a graph made ready to run many times. What packages run.
//
// Made once: what depends on constants alone is computed if it is small or at most half as large, calls whose claim can
// be made ready are (their weights are packed), chains of elementwise ops behind them become a part of the call where
// the claim takes them, and values between such calls stay in the layout that these like, in one block of memory whose
// places are planned. The layout of every value is decided here. Results are bit for bit those of exec::run on the same
// graph, which runs node by node, unless `precision` is Fast (ir/precision.h).
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "tenon/device/device.h"
#include "tenon/ir/graph.h"

namespace tenon::exec {

class Program {
 public:
  // For the session in force on this thread. The graph has no named sizes. Programs of the same constants (a graph at
  // several sizes) share `kept`, which holds the memory of those constants.
  explicit Program(std::shared_ptr<const ir::Graph> graph, std::shared_ptr<KeptConstants> kept = {},
                   Precision precision = Precision::Strict);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // May be called from several threads at once. A session without claims, or with the reference evaluator, runs the
  // graph instead. Errors: those of exec::run.
  [[nodiscard]] Tensors run(Tensors inputs) const;

  // What became of the graph's nodes.
  struct Summary {
    int folded = 0;           // computed when the program was made
    int prepared = 0;         // calls made ready
    int joined = 0;           // of these, run together with the one before
    int fused = 0;            // ops behind such a call that are a part of it
    int scaled = 0;           // of these, multiplications that went into weights (Precision::Fast)
    int others = 0;           // evaluated as in exec::run
    int parts = 0;            // results written where the concat behind them has them
    int by_example = 0;       // steps that run for some examples at a time
    int64_t arena_bytes = 0;  // of the block that holds what only prepared calls read, for each run at a time
  };
  [[nodiscard]] const Summary& summary() const { return summary_; }

 private:
  struct Step;
  struct Maker;
  // Steps that run together for some examples, then for the next: what is between them stays in the second cache.
  struct Section {
    size_t first, end;           // steps
    int64_t examples, together;  // all, and at a time
  };
  void find_last_uses();
  void find_sections();
  struct Uses;
  struct Part;
  [[nodiscard]] Uses uses();
  [[nodiscard]] std::vector<Part> put_together(Uses& uses) const;
  void plan();
  [[nodiscard]] int64_t changing_bytes(const Step& step) const;
  [[nodiscard]] Tensors run_step(const Step& step, Tensors& values, const Ref<Buffer>& arena) const;
  [[nodiscard]] static Tensor result_of(const Step& step, const TensorType& type, const Ref<Buffer>& arena);
  [[nodiscard]] Tensors run_kernel(const Step& step, Tensors in, Tensor y) const;
  [[nodiscard]] bool is_constant(ir::ValueId id) const { return constants_[static_cast<size_t>(id)].defined(); }
  void run_section(const Section& section, Tensors& values, const Ref<Buffer>& arena) const;

  std::shared_ptr<const ir::Graph> graph_;
  Precision precision_;
  std::shared_ptr<KeptConstants> kept_;  // of constants that others have too
  KeptConstants own_;                    // of all others
  Tensors constants_;                    // by value; undefined where a value is none
  std::vector<uint8_t> ordered_;         // by value: whether it lies in another order than row-major
  std::vector<Step> steps_;
  std::vector<Section> sections_;
  Summary summary_;
  mutable std::mutex mutex_;
  mutable std::vector<Ref<Buffer>> arenas_;  // those that no run uses now
};

}  // namespace tenon::exec
