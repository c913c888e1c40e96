// Device: where kernels run. One interface, a CPU behind it today.
//
// The families below cover every op whose meaning is elementwise, a reduction or a move, so a device
// needs to know no op for them. What remains (contractions, sorting, factorisations, fused composites)
// are claims: entries "this op, when the types are so, by this function". A claim is an acceleration
// only; it must equal the op's own meaning within the op's tolerance, and the conformance tests check it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/ir/attr.h"
#include "tenon/ir/precision.h"
#include "tenon/ir/scalar.h"
#include "tenon/tensor/buffer.h"
#include "tenon/tensor/view.h"

namespace tenon {

namespace ops {
struct OpDef;
enum class ReduceKind : uint8_t;
}  // namespace ops

// What a claimed kernel is called with. An optional input that is absent has data == nullptr.
struct KernelArgs {
  std::span<const ConstView> inputs;
  std::span<const View> outputs;  // contiguous; apart from the inputs, or one of those that op->takes names
  const ir::Attrs& attrs;
  ThreadPool& pool;
};

// What calls that are made ready keep of their constants, in a form of their own: programs of the same constants share
// it. To be called from several threads.
class KeptConstants {
 public:
  // Memory whose elements never change and that lives as long as this. What is made of any other memory is no program's
  // to share: somebody else's numbers may lie there once its constant is gone.
  void hold(Ref<Buffer> source);
  [[nodiscard]] bool holds(const Buffer& source) const;
  // What `make` gave for this key the first time. The key says whose form it is, and of which elements.
  Ref<Buffer> get(const std::vector<int64_t>& key, const std::function<Ref<Buffer>()>& make);
  [[nodiscard]] int64_t bytes() const;

 private:
  mutable std::mutex mutex_;
  std::map<const Buffer*, Ref<Buffer>> sources_;
  std::map<std::vector<int64_t>, Ref<Buffer>> kept_;
};

// A call made ready to run many times: what a program (exec/program.h) keeps of it.
struct PrepareArgs {
  std::span<const ConstView> inputs;  // as they will lie; those with data never change (what is kept of it is copied)
  const TensorType& result;           // the first; only calls of which no other is wanted are made ready
  const ir::Attrs& attrs;
  const ir::ScalarProgram* after;           // null, or what is computed of each element at once: input 0 is the result
  KeptConstants& kept;                      // of constants that live as long as this
  Precision precision = Precision::Strict;  // Fast: the result may reach `after` before it is rounded
};
class PreparedKernel {
 public:
  virtual ~PreparedKernel() = default;
  // The result's axes from the outermost to the innermost in memory, as this kernel writes best. Empty: row-major.
  [[nodiscard]] virtual Ints order() const = 0;
  // Whether this took over `next`, which reads this one's result as its first input and is the only one to read it,
  // because both gain by running together. From then on it is both: its inputs are its own and then those of `next`
  // but the first, its operands likewise, and its result is that of `next`. What is between exists nowhere.
  virtual bool continue_with(std::unique_ptr<PreparedKernel>& /*next*/) { return false; }
  // Whether `run` takes fewer examples than this was made for: extents of the first axis of the result, of the inputs
  // that change and of the operands, with the bits that these examples have among the others.
  [[nodiscard]] virtual bool examples_apart() const { return false; }
  // Whether `out` may be a part of a larger tensor, whose strides it then has.
  [[nodiscard]] virtual bool writes_parts() const { return false; }
  // The axis along which the result is the inputs one after the other, if it is nothing else: an input that lies where
  // its part of `out` does is left there.
  [[nodiscard]] virtual std::optional<size_t> joins_along() const { return std::nullopt; }
  // `operands` are the inputs of `after` but the first, broadcast to the shape of the result that they meet. `out` is
  // dense, in any order of axes, but for writes_parts(). The bits are those of the claim's `run`, then of the scalar
  // program, whatever the layouts.
  virtual void run(std::span<const ConstView> inputs, std::span<const ConstView> operands, const View& out,
                   ThreadPool& pool) const = 0;
};

struct Claim {
  const ops::OpDef* op = nullptr;
  // Whether this call is taken; a null pointer takes all.
  bool (*accepts)(std::span<const TensorType> inputs, const ir::Attrs& attrs) = nullptr;
  void (*run)(const KernelArgs& args) = nullptr;
  // Null for kernels that gain nothing by it, and null in answer where this call does not.
  std::unique_ptr<PreparedKernel> (*prepare)(const PrepareArgs& args) = nullptr;
  // Whether `prepare` takes this program as `after`; null: none.
  bool (*follows)(const ir::ScalarProgram& program) = nullptr;
  // Whether input 1 is the weights of filters along its first axis, the result has one of each along its second, and
  // input 2, if it is there, a number for each that is added: then a factor of a filter may go into its weights.
  bool filters = false;
  // What `prepare` would answer if the inputs but the first were constants, for who has to know before they are there:
  // PreparedKernel::order(), or nothing. The views have no data. Null: unknown.
  std::optional<Ints> (*ready)(std::span<const ConstView> inputs) = nullptr;
  // Whether the result is rows of its last axis, however the axes before it are cut: what is prepared may be told
  // another shape of as many rows as its result's.
  bool rows = false;
};

// A scalar program made ready for a device: what is looked up once for an op and its dtypes, not in every call.
class ElementwiseKernel {
 public:
  virtual ~ElementwiseKernel() = default;
  // As Device::elementwise.
  virtual void run(std::span<const ConstView> in, const View& out, ThreadPool& pool) const = 0;
  // The short way for small calls: `n` elements one after the other in `out` and in the inputs whose bit in `along` is
  // set; the others have one element. False, and nothing is done, where it has no kernel for that.
  virtual bool run_flat(std::span<const std::byte* const> in, uint32_t along, std::byte* out, int64_t n) const = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;

  [[nodiscard]] virtual std::unique_ptr<ElementwiseKernel> prepare(const ir::ScalarProgram& program) const = 0;

  // out[i] = program(in0[i], in1[i], …); inputs are already broadcast to out's shape (zero strides).
  // `out` may be the very same memory as an input of the same layout.
  // Who runs a program again keeps what prepare() gives.
  void elementwise(const ir::ScalarProgram& program, std::span<const ConstView> in, const View& out,
                   ThreadPool& pool) const {
    prepare(program)->run(in, out, pool);
  }
  // Combines over `axes` (sorted, not empty) of `in`; `out` has the remaining axes. For arg-reductions
  // `out` is i64. The order of combination is fixed by the shape alone: same bits for any number of threads.
  virtual void reduce(ops::ReduceKind kind, const ConstView& in, const Ints& axes, const View& out,
                      ThreadPool& pool) = 0;
  // Relayout: out[i] = in[i], same dtype and shape.
  virtual void copy(const ConstView& in, const View& out, ThreadPool& pool) = 0;
  // The claim that takes this call, or nullptr.
  [[nodiscard]] virtual const Claim* claim(const ops::OpDef& op, std::span<const TensorType> inputs,
                                           const ir::Attrs& attrs) const = 0;
};

}  // namespace tenon
