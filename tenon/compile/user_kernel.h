// A kernel of one's own, written in C++ on the loop IR: an op that runs eagerly and in compiled functions.
//
//   struct Scale {
//     static constexpr const char* kName = "scale";
//     static constexpr size_t kInputs = 1;                                // may be left out: then infer must check
//     static constexpr int64_t kTiles[] = {16, 64};                       // tried on the first call of each shape
//     static std::vector<TensorType> infer(const ops::InferArgs& a) { return {a.in[0]}; }
//     static void body(kernel::Builder& k) {
//       const auto x = k.input(0), y = k.output(0);
//       k.parallel(x.size() / 64, [&](kernel::Place row) {
//         k.each(64, [&](kernel::Place j) { y.store(row * 64 + j, x.load(row * 64 + j) * 2.0); });
//       });
//     }
//     static Tensors vjp(const ops::VjpArgs& a) { return {a.ct[0] * 2.0}; }  // left out: not differentiable
//     static constexpr uint32_t kSavesInputs = 0, kSavesOutputs = 0;         // what vjp reads
//   };
//   Tensor y = kernel::call<Scale>({x})[0];
//
// Inputs are seen contiguous, outputs are. `each` runs in vectors, in blocks of tile() iterations; `fold` has one
// order, the same on every machine and for every tile. So no tile changes a bit: the first call of each shape takes the
// time of all tiles, compares their results and keeps the fastest; a kernel that uses tile() in its own arithmetic and
// so gets other bits is an error, unless it says kTilesChangeBits = true: then the first tile is taken and nothing is
// timed.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tenon/compile/loop_ir.h"
#include "tenon/ops/call.h"
#include "tenon/ops/opdef.h"

namespace tenon::kernel {

// A place in a buffer: a sum of loop variables times constants.
class Place {
 public:
  Place() = default;
  Place(int64_t constant) { index_.constant = constant; }  // NOLINT: a number is a place
  explicit Place(compiler::Index index) : index_(std::move(index)) {}
  friend Place operator+(Place a, const Place& b);
  friend Place operator*(Place a, int64_t factor);
  [[nodiscard]] const compiler::Index& index() const { return index_; }

 private:
  compiler::Index index_;
};

class Builder;

// A scalar in a register. Arithmetic between two of one dtype; numbers take the dtype of the other side. bf16 and f16
// are computed in f32, with each result rounded; a fold of them is in f32 and is rounded once.
struct Value {
  Builder* builder = nullptr;
  int32_t reg = -1;
  DType dtype = DType::F32;
};
Value operator+(Value a, Value b);
Value operator-(Value a, Value b);
Value operator*(Value a, Value b);
Value operator/(Value a, Value b);
Value operator+(Value a, double b);
Value operator-(Value a, double b);
Value operator*(Value a, double b);
Value operator/(Value a, double b);
Value operator-(double a, Value b);
Value operator/(double a, Value b);
Value operator<(Value a, Value b);
Value operator>(Value a, Value b);
Value max(Value a, Value b);
Value min(Value a, Value b);
Value select(Value condition, Value a, Value b);
Value cast(Value a, DType to);
// Any scalar instruction of one operand: unary(ir::ScalarOp::Sqrt, x).
Value unary(ir::ScalarOp op, Value a);
inline Value exp(Value a) { return unary(ir::ScalarOp::Exp, a); }
inline Value log(Value a) { return unary(ir::ScalarOp::Log, a); }
inline Value tanh(Value a) { return unary(ir::ScalarOp::Tanh, a); }
inline Value sqrt(Value a) { return unary(ir::ScalarOp::Sqrt, a); }
inline Value abs(Value a) { return unary(ir::ScalarOp::Abs, a); }

// An input or an output, contiguous.
struct Array {
  Builder* builder = nullptr;
  int32_t buffer = -1;
  TensorType type;
  [[nodiscard]] int64_t size() const { return numel(type.shape); }
  [[nodiscard]] int64_t extent(int64_t axis) const;  // negative: from the end
  [[nodiscard]] Value load(const Place& at) const;
  void store(const Place& at, Value value) const;
};

enum class Fold : uint8_t { Sum, Prod, Max, Min };

// Writes the loops of one kernel. Errors: ValueError for what is no kernel (two parallel loops, a store to an input).
class Builder {
 public:
  Builder(std::span<const TensorType> inputs, std::span<const TensorType> outputs, int64_t tile);
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  [[nodiscard]] Array input(size_t i);
  [[nodiscard]] Array output(size_t i);
  [[nodiscard]] int64_t tile() const { return tile_; }
  Value constant(double value, DType dtype);

  // The outer loop, of which there is one; its iterations run in any order on all threads.
  void parallel(int64_t n, const std::function<void(Place)>& body);
  // n iterations that do not depend on each other, in vectors.
  void each(int64_t n, const std::function<void(Place)>& body);
  // One after the other.
  void loop(int64_t n, const std::function<void(Place)>& body);
  // All n values combined, in 64 lanes and a tree of them.
  Value fold(Fold kind, int64_t n, const std::function<Value(Place)>& body);

  // The kernel, verified, with its name.
  compiler::Kernel finish(std::string name);

 private:
  friend struct Array;
  friend Value emit_as_is(ir::ScalarOp op, DType dtype, std::span<const Value> args);
  Place begin_loop(int64_t n, bool vec, bool unroll);
  void end_loop();
  compiler::Stmt& add(compiler::StmtKind kind, DType dtype);
  void need_loop(const char* what) const;

  compiler::Kernel kernel_;
  std::vector<TensorType> types_;
  size_t inputs_;
  int64_t tile_;
  std::vector<compiler::Stmt> open_;  // the loops around, the outermost first
};

// What `call` needs to know of a kernel.
struct Description {
  const char* name;
  void (*body)(Builder&);
  std::vector<int64_t> tiles;
  bool tiles_change_bits = false;
};
void run(const Description& description, const ops::ReferenceArgs& args);
// Errors: ValueError if another number of inputs was given.
void need_inputs(const char* name, size_t wanted, size_t given);
// The tile that was chosen for these shapes, 0 if it has not run.
int64_t chosen_tile(const char* name, std::span<const TensorType> inputs);

namespace detail {
template <class K>
void reference(const ops::ReferenceArgs& args) {
  Description d{K::kName, &K::body, {}, false};
  if constexpr (requires { K::kTiles; }) d.tiles.assign(std::begin(K::kTiles), std::end(K::kTiles));
  if constexpr (requires { K::kTilesChangeBits; }) d.tiles_change_bits = K::kTilesChangeBits;
  run(d, args);
}
template <class K>
ops::Gradient gradient() {
  if constexpr (requires { &K::vjp; }) {
    return ops::Vjp{&K::vjp, K::kSavesInputs, K::kSavesOutputs};
  } else {
    return ops::NotDifferentiable{"this kernel of the user's has no rule: give it a static vjp"};
  }
}
}  // namespace detail

template <class K>
Tensors call(Tensors inputs) {
  if constexpr (requires { K::kInputs; }) need_inputs(K::kName, K::kInputs, inputs.size());
  static const ops::OpDef op = [] {
    ops::OpDef o;
    o.name = K::kName;
    o.doc = "A kernel of the user's.";
    o.inputs = {{"inputs", ops::kCompute, ops::ArgKind::Variadic}};
    o.results = -1;
    o.infer = &K::infer;
    o.meaning = ops::Primitive{&detail::reference<K>};
    o.gradient = detail::gradient<K>();
    o.batching = ops::Unrolled{"a kernel of the user's knows one example"};
    return o;
  }();
  return ops::call(op, std::move(inputs));
}

}  // namespace tenon::kernel
