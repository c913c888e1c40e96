// Shape and dtype rules that several ops share, and helpers to write rules and meanings with.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon::ops {

// The result types of a call: op.infer, or the rule of the op's family. Inputs are already promoted.
// A composite without a rule of its own has none until its body runs: `composite_types_unknown`.
bool has_infer(const OpDef& op);
std::vector<TensorType> infer_types(const InferArgs& args);

std::vector<TensorType> infer_elementwise(const InferArgs& args);
std::vector<TensorType> infer_reduction(const InferArgs& args);
// The first input's type, unchanged.
std::vector<TensorType> infer_same(const InferArgs& args);

// Shape of a reduction's result; `axes` normalised, empty means all.
Shape reduced_shape(const Shape& shape, const Ints& axes, bool keepdims);
// `axes` normalised and sorted; all axes if the list is empty.
Ints reduction_axes(std::string_view where, const Ints& axes, int64_t rank);

// The program of an elementwise op for these input dtypes.
ir::ScalarProgram build_program(const OpDef& op, std::span<const DType> in, const ir::Attrs& attrs, DType result);

// ---- for writing rules ----
const Shape& shape_of(const InferArgs& a, size_t i);
// Throws ShapeError if a shape, of a result or of what a body makes on the way, has more elements than any memory
// holds. Composites whose attributes say how large a result is ask before their bodies count to it.
void expect_countable(const InferArgs& a, const Shape& shape);
// Throws ShapeError unless the rank is in [low, high].
void expect_rank(const InferArgs& a, size_t i, size_t low, size_t high = 64);
[[noreturn]] void fail_shape(const InferArgs& a, std::string problem, std::string expected = {}, std::string got = {},
                             std::string hint = {});
[[noreturn]] void fail_value(const InferArgs& a, std::string problem, std::string expected = {}, std::string got = {},
                             std::string hint = {});

// ---- for writing meanings ----
// The position along `axis` that an element of `indices` names, negative ones counted from the end. Throws IndexError
// if there is none.
int64_t checked_index(std::string_view op, const ConstView& indices, int64_t element, const Shape& shape, size_t axis);

}  // namespace tenon::ops
