// Connectionist temporal classification (Graves, Fernández, Gomez and Schmidhuber, ICML 2006).
//
// The target with a blank before, between and after its labels has 2 S + 1 places. alpha[s] is the logarithm of the
// probability of all paths that end at place s after t steps; one step is a scan's body. Derivatives are those of the
// recursion. "Impossible" is a large negative number instead of minus infinity, so that no derivative is NaN.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/control.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/loss_reduce.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon {
namespace ops {
namespace {

constexpr int kI64 = static_cast<int>(DType::I64);
constexpr double kImpossible = -1e30;

std::vector<TensorType> ctc_types(const InferArgs& a) {
  expect_rank(a, 0, 3, 3);
  expect_rank(a, 1, 2, 2);
  const Shape& x = a.in[0].shape;
  const Shape batch{x[1]};
  if (a.in[1].shape[0] != x[1])
    fail_shape(a, "there is not one row of targets for each example", fmt::format("[{}, S]", x[1]),
               to_string(a.in[1].shape));
  for (const size_t i : {2, 3}) {
    if (a.in[i].shape != batch)
      fail_shape(a, fmt::format("{} does not have one number for each example", a.op.inputs[i].name), to_string(batch),
                 to_string(a.in[i].shape));
  }
  const int64_t blank = a.attrs.integer(0);
  if (blank < 0 || blank >= x[2])
    fail_value(a, "the blank is no class", fmt::format("0 to {}", x[2] - 1), std::to_string(blank));
  return {{a.in[0].dtype, batch}};
}

// The places of each example: blank, label, blank, label, …, blank: [N, 2 S + 1].
Tensor places(const Tensor& targets, const Tensor& target_lengths, int64_t blank) {
  const int64_t n = targets.shape(0), s = targets.shape(1);
  const Tensor inside = less(iota(targets.shape(), 1), unsqueeze(target_lengths, {1}));
  const Tensor labels = where(inside, cast(targets, DType::I64), blank);
  const Tensor gap = full({n, s}, static_cast<double>(blank), DType::I64);
  return concat({reshape(stack({gap, labels}, 2), {n, 2 * s}), full({n, 1}, static_cast<double>(blank), DType::I64)},
                1);
}

Tensors ctc_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const DType dtype = in[0].dtype(), wide = dtype == DType::F64 ? DType::F64 : DType::F32;
  const int64_t blank = attrs.integer(0), steps = in[0].shape(0), n = in[0].shape(1);
  const Tensor input_lengths = cast(in[2], DType::I64), target_lengths = cast(in[3], DType::I64);
  const Tensor place = places(in[1], target_lengths, blank);
  const int64_t count = place.shape(1);
  // A path may jump from a label over the blank to the next label, unless both are the same.
  const Tensor next = narrow(place, 1, std::min<int64_t>(count, 2), std::max<int64_t>(count - 2, 0)),
               before = narrow(place, 1, 0, std::max<int64_t>(count - 2, 0));
  const Tensor jumps = pad(logical_and(not_equal(next, before), not_equal(next, blank)),
                           {0, std::min<int64_t>(count, 2)}, {0, 0}, false);
  const Tensor emitted =
      maximum(take_along_axis(cast(in[0], wide), unsqueeze(place, {0}), 2), kImpossible);  // [T, N, places]
  const Tensor running = less(iota({steps, n, 1}, 0), reshape(input_lengths, {1, n, 1}));
  // Before the first step: at the first place, so that one step reaches the first blank or the first label.
  const Tensor start = where(equal(iota({n, count}, 1), 0), zeros({n, count}, wide), kImpossible);
  const auto step = [&](const Tensors& carry, const Tensors& x) -> ScanStep {
    const Tensor& alpha = carry[0];
    const Tensor shifted = pad(alpha, {0, 2}, {0, 0}, kImpossible);
    const Tensor from_last = narrow(shifted, 1, 1, count),
                 from_label = where(jumps, narrow(shifted, 1, 0, count), kImpossible);
    const Tensor stepped = logaddexp(logaddexp(alpha, from_last), from_label) + x[0];
    return {{where(x[1], stepped, alpha)}, {}};
  };
  const Tensor alpha = scan(step, {start}, {emitted, running}).carry[0];
  // A path ends at the last label or at the blank after it.
  const Tensor last = unsqueeze(target_lengths * 2, {1});
  const Tensor at_blank = take_along_axis(alpha, last, 1),
               at_label = where(last > 0, take_along_axis(alpha, maximum(last - 1, 0), 1), kImpossible);
  const Tensor loss = -squeeze(logaddexp(at_blank, at_label), {1});
  const double instead = attrs.flag(1) ? 0.0 : std::numeric_limits<double>::infinity();
  return {cast(where(loss > -kImpossible / 10, instead, loss), dtype)};
}

}  // namespace

const OpDef& ctc_loss_op() {
  static const OpDef def{
      .name = "ctc_loss",
      .doc =
          "-log of the probability that a path through log_probabilities [T, N, C] spells the target when repeats "
          "and then blanks are dropped (Graves et al., 2006). Infinite, or 0 with zero_infinity, where no path is "
          "long enough.",
      .inputs = {{"log_probabilities", kFloats},
                 {"targets", kIndex, ArgKind::Required, "[N, S]"},
                 {"input_lengths", kIndex},
                 {"target_lengths", kIndex}},
      .attrs = {{"blank", 1, ir::AttrType::Int, "the class that stands for no label"},
                {"zero_infinity", 2, ir::AttrType::Flag, "impossible targets cost nothing"}},
      .autocast = AutocastRule::Full,
      .infer = ctc_types,
      .meaning = Composite{ctc_body},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            const SampleInput targets{{2, 2}, 0, 0, {1, 2, 2, 2}, kI64}, lengths{{2}, 0, 0, {4, 3}, kI64};
            return std::vector<Sample>{
                {{{{4, 2, 3}, -3, -0.2}, targets, lengths, {{2}, 0, 0, {2, 2}, kI64}}, {int64_t{0}, false}},
                {{{{4, 2, 3}, -3, -0.2}, {{2, 2}, 0, 0, {1, 0, 0, 0}, kI64}, lengths, {{2}, 0, 0, {1, 2}, kI64}},
                 {int64_t{2}, true}},
                {{{{2, 1, 3}, -3, -0.2}, {{1, 2}, 0, 0, {1, 1}, kI64}, {{1}, 0, 0, {2}, kI64}, {{1}, 0, 0, {2}, kI64}},
                 {int64_t{0}, true},
                 "no path is long enough"}};
          },
      .invalid_samples =
          [] {
            const SampleInput x{{2, 1, 3}, -3, -0.2}, one{{1}, 0, 0, {1}, kI64}, row{{1, 1}, 0, 0, {1}, kI64};
            return std::vector<InvalidSample>{
                {{{{2, 3}}, row, one, one}, {int64_t{0}, false}, "axes"},
                {{x, {{2, 1}, 0, 0, {1, 1}, kI64}, one, one}, {int64_t{0}, false}, "one row of targets"},
                {{x, row, {{2}, 0, 0, {1, 1}, kI64}, one}, {int64_t{0}, false}, "input_lengths"},
                {{x, row, one, one}, {int64_t{3}, false}, "the blank is no class"},
                {{x, {{1, 1}, 0, 0, {3}, kI64}, one, one}, {int64_t{0}, false}, "out of range"}};
          },
      .tolerance = {64, 1e-5}};
  return def;
}

}  // namespace ops

namespace {

// Targets one after another as rows, padded to the longest.
Tensor rows_of(const Tensor& targets, const std::vector<int64_t>& lengths) {
  int64_t total = 0, longest = 0;
  for (const int64_t length : lengths) {
    total += length;
    longest = std::max(longest, length);
  }
  if (total != targets.size())
    throw ShapeError({"ctc_loss",
                      "the lengths do not sum to the number of targets",
                      std::to_string(targets.size()),
                      std::to_string(total),
                      {}});
  std::vector<int64_t> from;
  int64_t start = 0;
  for (const int64_t length : lengths) {
    for (int64_t k = 0; k < longest; ++k) from.push_back(k < length ? start + k : 0);
    start += length;
  }
  const auto n = static_cast<int64_t>(lengths.size());
  return longest == 0 ? zeros({n, 0}, DType::I64) : take(targets, from_vector(from, {n, longest}));
}

void check_lengths(const char* what, const Tensor& lengths, int64_t most) {
  if (!lengths.is_concrete()) return;
  for (const int64_t length : lengths.to_vector<int64_t>()) {
    if (length < 0 || length > most)
      throw ValueError({"ctc_loss",
                        fmt::format("a number in {} is out of range", what),
                        fmt::format("0 to {}", most),
                        std::to_string(length),
                        {}});
  }
}

}  // namespace

Tensor ctc_loss(const Tensor& log_probabilities, const Tensor& targets, const Tensor& input_lengths,
                const Tensor& target_lengths, const CTCOptions& options) {
  const bool one = log_probabilities.ndim() == 2;
  const Tensor x = one ? unsqueeze(log_probabilities, {1}) : log_probabilities;
  const auto lengths = [&](const Tensor& given) {
    return cast(given.ndim() == 0 ? unsqueeze(given, {0}) : given, i64);
  };
  const Tensor in = lengths(input_lengths), wanted = lengths(target_lengths);
  Tensor rows = targets;
  if (targets.ndim() == 1) rows = one ? unsqueeze(targets, {0}) : rows_of(targets, wanted.to_vector<int64_t>());
  if (x.ndim() == 3 && rows.ndim() == 2) {
    check_lengths("input_lengths", in, x.shape(0));
    check_lengths("target_lengths", wanted, rows.shape(1));
  }
  Tensor losses =
      ops::call1(ops::ctc_loss_op(), {x, cast(rows, i64), in, wanted}, {options.blank, options.zero_infinity});
  const DType dtype = losses.dtype();
  if (options.reduction == LossReduction::Mean) losses = std::move(losses) / cast(maximum(wanted, 1), dtype);
  if (one) losses = squeeze(std::move(losses), {0});
  return ops::reduced(std::move(losses), options.reduction);
}

}  // namespace tenon
