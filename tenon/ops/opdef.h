// OpDef: everything Tenon knows of an op, said once.
//
// Readers loop over the table (ops/table.h) and never name an op: if a reader needs a fact, the fact becomes
// a slot here. Every rule is a sum type whose "absent" alternative carries a reason, so "forgot it" is
// not a state. To add an op: one definition in the family's file, one line in that family's list.
//
// The slots, in the order in which a call uses them:
//   inputs, attrs   names, kinds, defaults           promote    which inputs are brought to one dtype
//   autocast        precision under an Autocast      infer      result types from input types
//   meaning         what is computed                 flops      operations of a call, for profiles
//   takes           inputs whose buffer may be reused
//   gradient        vector-Jacobian product           batching   the rule under vmap
//   samples, invalid_samples, tolerance               for the conformance tests
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tenon/ir/attr.h"
#include "tenon/ir/graph.h"
#include "tenon/ir/scalar.h"
#include "tenon/tensor/tensor.h"
#include "tenon/tensor/view.h"

namespace tenon::ops {

// ---- arguments -----------------------------------------------------------------------------
// A set of dtypes, by bit.
struct DTypeSet {
  uint32_t bits = 0;
  constexpr DTypeSet() = default;
  constexpr DTypeSet(std::initializer_list<DType> list) {
    for (DType t : list) bits |= 1u << static_cast<int>(t);
  }
  [[nodiscard]] constexpr bool has(DType t) const { return (bits >> static_cast<int>(t)) & 1u; }
  constexpr DTypeSet operator|(DTypeSet o) const {
    DTypeSet r;
    r.bits = bits | o.bits;
    return r;
  }
};
inline constexpr DTypeSet kFloats{DType::F16, DType::BF16, DType::F32, DType::F64};
inline constexpr DTypeSet kFullFloats{DType::F32, DType::F64};
inline constexpr DTypeSet kInts{DType::U8, DType::U16, DType::U32, DType::U64,
                                DType::I8, DType::I16, DType::I32, DType::I64};
inline constexpr DTypeSet kIndex{DType::I32, DType::I64};
inline constexpr DTypeSet kBool{DType::Bool};
inline constexpr DTypeSet kNumbers = kFloats | kInts;
inline constexpr DTypeSet kCompute = kNumbers | kBool;  // everything but the storage types
inline constexpr DTypeSet kStorage{DType::F8E4M3, DType::F8E5M2, DType::I4, DType::U4, DType::I2};
inline constexpr DTypeSet kAny = kCompute | kStorage;

enum class ArgKind : uint8_t { Required, Optional, Variadic };  // Variadic: any number, last input only

struct Arg {
  std::string_view name;
  DTypeSet dtypes = kCompute;
  ArgKind kind = ArgKind::Required;
  std::string_view doc = {};
};

struct AttrSpec {
  std::string_view name;
  int field;  // stable number in saved files; never reused
  ir::AttrType type;
  std::string_view doc = {};
};

// Which inputs are brought to a common dtype before anything else (bit i: input i; -1: all).
struct Promote {
  int32_t mask = 0;
  bool to_float = false;  // and integers and bools become f32
};
inline constexpr Promote kPromoteAll{-1, false};
inline constexpr Promote kPromoteToFloat{-1, true};
inline constexpr Promote kNoPromotion{0, false};

// What becomes of the float inputs (f16, bf16, f32; never f64) in an Autocast scope (trace/autocast.h).
enum class AutocastRule : uint8_t {
  Keep,   // as they are; ops that promote take the widest
  Lower,  // to the scope's dtype: where the time goes and a wide sum inside makes up for short operands
  Full    // f16 and bf16 to f32: where the range or the rounding of short floats hurts
};

struct InferArgs {
  const struct OpDef& op;
  std::span<const TensorType> in;  // absent optional inputs have present[i] == false
  std::span<const bool> present;
  const ir::Attrs& attrs;
};
using Infer = std::vector<TensorType> (*)(const InferArgs&);  // throws ShapeError etc. naming op.name

// ---- meaning -------------------------------------------------------------------------------
using Scalars = std::span<const ir::Scalar>;

// out[i] depends on the i-th elements only; inputs broadcast. The result dtype is the expression's, unless
// `result` says otherwise (cast).
struct Elementwise {
  ir::Scalar (*expression)(Scalars x, const ir::Attrs& attrs) = nullptr;
  DType (*result)(std::span<const DType> in, const ir::Attrs& attrs) = nullptr;
};

// Attributes of every reduction: 0 axes (IntList, empty means all), 1 keepdims (Flag).
enum class ReduceKind : uint8_t { Sum, Prod, Max, Min, Any, All, ArgMax, ArgMin };
struct Reduction {
  ReduceKind kind;
};

// Only moves the window: the result shares the input's buffer. Returns shape, strides and offset.
struct Window {
  Shape shape;
  Shape strides;
  int64_t offset = 0;
};
struct Relayout {
  // False: this layout needs a contiguous input (reshape of a transposed tensor).
  bool (*window)(const Window& in, const ir::Attrs& attrs, const Shape& out, Window& result) = nullptr;
};

// The obviously right loop, for any layout; slow. Devices claim it for speed. Outputs are contiguous.
struct ReferenceArgs {
  std::span<const ConstView> inputs;  // absent optional: data == nullptr
  std::span<const View> outputs;
  const ir::Attrs& attrs;
};
struct Primitive {
  void (*reference)(const ReferenceArgs&) = nullptr;
};

// A body of other ops. Stays one node until a pass expands it; a device may claim it.
struct Composite {
  Tensors (*body)(std::span<const Tensor> in, const ir::Attrs& attrs) = nullptr;
};

// Runs sub-graphs held in attributes; ops/control.h says what each kind's attributes and inputs are.
enum class ControlKind : uint8_t { Cond, While, Scan };
struct ControlFlow {
  ControlKind kind;
};

// The number of elements depends on the values (unique, nonzero): eager only.
struct DataDependent {
  Tensors (*execute)(std::span<const Tensor> in, const ir::Attrs& attrs) = nullptr;
};

using Meaning = std::variant<Elementwise, Reduction, Relayout, Primitive, Composite, ControlFlow, DataDependent>;

// ---- gradient ------------------------------------------------------------------------------
struct VjpArgs {
  const OpDef& op;
  std::span<const Tensor> in;   // only those that `saves` names; the others are undefined
  std::span<const Tensor> out;  // likewise
  std::span<const TensorType> in_types;
  std::span<const TensorType> out_types;
  std::span<const Tensor> ct;   // cotangent of each output; undefined if no gradient came in
  std::span<const bool> needs;  // which inputs want a gradient
  const ir::Attrs& attrs;
};
// Returns one cotangent for each input, undefined where there is none. For elementwise ops a cotangent may
// have the output's shape: the caller sums it down over what was broadcast. Dtypes are adapted by the caller.
struct Vjp {
  Tensors (*fn)(const VjpArgs&) = nullptr;
  uint32_t saves_inputs = 0;  // bit i: `fn` reads in[i]. What is not named is freed as soon as it is dead
  uint32_t saves_outputs = 0;
};
struct GradientOfBody {};  // composite, elementwise or control flow: differentiate the body
struct NoGradient {
  std::string_view reason;
};  // the result does not vary with the inputs (or is not real)
struct NotDifferentiable {
  std::string_view reason;
};  // it does vary, but no rule exists: asking is an error
using Gradient = std::variant<Vjp, GradientOfBody, NoGradient, NotDifferentiable>;
inline constexpr uint32_t bit(int i) { return 1u << i; }

// ---- batching ------------------------------------------------------------------------------
struct BatchArgs {
  const OpDef& op;
  std::span<const Tensor> in;  // batched ones carry the batch as axis 0
  std::span<const bool> batched;
  int64_t size;
  const ir::Attrs& attrs;
};
struct Broadcasts {};   // elementwise: align ranks, batch axis first
struct LeadingAxes {};  // the op treats leading axes as a batch already: put it first, expand the unbatched
struct BatchRule {
  Tensors (*fn)(const BatchArgs&) = nullptr;
};  // results carry the batch as axis 0
struct BatchBody {};  // composite or control flow: batch what the body calls
struct Unrolled {
  std::string_view reason;
};  // one call for each example, stacked
struct NoBatching {
  std::string_view reason;
};
using Batching = std::variant<Broadcasts, LeadingAxes, BatchRule, BatchBody, Unrolled, NoBatching>;

// ---- samples -------------------------------------------------------------------------------
struct SampleInput {
  Shape shape;
  double low = -2, high = 2;        // values are drawn uniformly from [low, high]
  std::vector<double> values = {};  // or given
  int dtype = -1;                   // fixed dtype (an index input, say): static_cast<int>(DType)
  bool distinct = false;            // no two values closer than 0.05 (max, sort: keeps the derivative smooth)
  bool differentiable = true;       // false: leave it out of the gradient checks
  bool absent = false;
};
struct Sample {
  std::vector<SampleInput> inputs;
  ir::Attrs attrs = {};
  std::string_view note = {};
};
struct InvalidSample {
  std::vector<SampleInput> inputs;
  ir::Attrs attrs = {};
  std::string_view message;  // a part of the error text
};
// Allowed difference of a kernel from the reference, relative to the largest magnitude involved, in units of
// the dtype's epsilon.
struct Tolerance {
  double epsilons = 4;
  double gradient = 1e-5;  // against central differences in f64, relative
};

struct OpDef {
  std::string_view name;
  std::string_view doc;  // one or more sentences: meaning, shapes, errors; the paper where there is one
  std::vector<Arg> inputs;
  std::vector<AttrSpec> attrs = {};
  int results = 1;  // -1: as many as infer says
  Promote promote = kNoPromotion;
  AutocastRule autocast = AutocastRule::Keep;
  Infer infer = nullptr;  // null for Elementwise and Reduction: the family's rule;
                          // null for Composite: the types that the body gives
  Meaning meaning;
  uint32_t takes = 0;  // inputs whose buffer a result with elements as wide may reuse
  Gradient gradient;
  Batching batching;
  // Samples for the conformance tests. An elementwise op or a reduction may leave `samples` null: the tests then make
  // the family's usual shapes, with values from [sample_low, sample_high] and each of `attr_samples`.
  std::vector<Sample> (*samples)() = nullptr;
  std::vector<InvalidSample> (*invalid_samples)() = nullptr;
  double sample_low = -2, sample_high = 2;
  bool sample_distinct = false;
  std::vector<ir::Attrs> attr_samples = {};
  Tolerance tolerance = {};
  uint32_t differentiable_results = ~0u;  // results through which a gradient flows; the others count as constants
  bool random = false;                    // checked by distribution instead of by value
  int version = 1;  // stands in packages: raise it when saved graphs would mean something else than they did
  // Floating-point operations of a call, a multiply-add as two. Null: the family's count for elementwise ops and
  // reductions, what the body calls for composites, unknown for the others.
  double (*flops)(std::span<const TensorType> in, std::span<const TensorType> out, const ir::Attrs& attrs) = nullptr;
};

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace tenon::ops
