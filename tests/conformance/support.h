// The conformance driver: every check of conformance/*_test.cpp runs on every op of the table.
//
// No op is named here. What a check needs to know of an op is a slot of its definition (ops/opdef.h). A case is one
// of the op's samples, or, for an elementwise op or a reduction without samples, one of the family's usual shapes.
// To add a check: a TEST_P(Conformance, Name), and Name in CMakeLists.txt.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tenon/exec/session.h"
#include "tenon/ops/opdef.h"

namespace tenon::test {

class Conformance : public testing::TestWithParam<const ops::OpDef*> {
 protected:
  static const ops::OpDef& op() { return *GetParam(); }
};

struct Case {
  size_t number;
  ops::Sample sample;
};
std::vector<Case> cases(const ops::OpDef& op);
// The dtypes to try for the inputs whose dtype the sample leaves open; one, which nothing reads, if it leaves none.
std::vector<DType> dtype_choices(const ops::OpDef& op, const ops::Sample& sample);
// f64 if the sample may have it, then f32, then what comes first.
DType best_choice(const ops::OpDef& op, const ops::Sample& sample);
// The dtype of input i: the sample's; the choice if it is accepted; a usual one that is.
DType input_dtype(const ops::OpDef& op, const ops::SampleInput& input, size_t i, DType choice);

enum class Layout : uint8_t { Contiguous, Transposed, Strided, Reversed };
inline constexpr Layout kViews[] = {Layout::Transposed, Layout::Strided, Layout::Reversed};
const char* name(Layout layout);
// The same values in every layout.
Tensor lay_out(const std::vector<double>& values, const TensorType& type, Layout layout);
std::vector<double> draw(const ops::SampleInput& input, DType dtype, uint64_t seed);
// Fresh inputs of the case; the same values for the same draw.
Tensors make_inputs(const ops::OpDef& op, const Case& c, DType choice, Layout layout = Layout::Contiguous,
                    uint64_t draw_number = 0);

// What a call gave: results, or the text of a tenon::Error. Anything else that is thrown fails the test.
struct Outcome {
  Tensors out;
  std::string error;
};
Outcome run(const exec::SessionOptions& options, const ops::OpDef& op, Tensors in, const ir::Attrs& attrs);
// What can be had from outside: a session that lives as long as the program, one for each set of options.
exec::Session& session_with(const exec::SessionOptions& options);
inline const exec::SessionOptions kKernels{.threads = 1};
inline const exec::SessionOptions kReference{.threads = 1, .reference = true};

// Empty if equal: else the type, or the first element that differs.
std::string difference_in_bits(const Tensor& got, const Tensor& want);
std::string difference_in_bits(const Outcome& got, const Outcome& want);
// Relative to max(|want|, floor), in units of `unit`. Not floating: in bits.
std::string difference(const Tensor& got, const Tensor& want, double unit, double floor);
// As the op's tolerance says: relative to the largest result, or for elementwise ops to max(|want|, 1).
std::string difference_within_tolerance(const ops::OpDef& op, const Outcome& got, const Outcome& want,
                                        double factor = 1);
double epsilon(DType dtype);
double largest(const Tensor& x);

// ---- graphs ----
// Without the absent ones.
Tensors present(const Tensors& in);
// The call as a graph of its inputs, x0, x1 …
ir::Graph graph_of(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs);

// "op add, sample 2, f32, transposed"
std::string where(const ops::OpDef& op, const Case& c, DType choice, std::string_view more = {});

// ---- derivatives ----
// The op as a function of the inputs that are differentiable in f64, giving the results that are.
struct Differentiable {
  std::function<Tensors(const Tensors&)> fn;
  Tensors at;
};
// None: `at` is empty.
Differentiable differentiable_part(const ops::OpDef& op, const Case& c, uint64_t draw_number = 0);
bool has_gradient(const ops::OpDef& op);
// f64 numbers in [-1, 1].
Tensor random_like(const Tensor& x, uint64_t seed);

}  // namespace tenon::test
