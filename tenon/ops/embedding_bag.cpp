// A composite around `embedding`, whose gradient is row-sparse where that is wanted.
#include "tenon/ops/embedding_bag.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon {
namespace ops {
namespace {

constexpr std::array<std::string_view, 3> kModes{"sum", "mean", "max"};
constexpr int kI64 = static_cast<int>(DType::I64);
enum Attr : uint8_t { kMode, kSparse, kPadding, kIncludeLast };

// Values can be checked where there are some: not in a trace, and not before they are computed.
void check_offsets(const Tensor& offsets, int64_t total, bool include_last) {
  if (!offsets.has_elements()) return;
  const auto at = offsets.to_vector<int64_t>();
  const auto fail = [](std::string problem, std::string expected, std::string got) {
    throw ValueError({"embedding_bag", std::move(problem), std::move(expected), std::move(got), {}});
  };
  if (total > 0 && (at.empty() || (include_last && at.size() == 1)))
    fail("there are indices but no bag", "an offset for each bag", "none");
  if (!at.empty() && at[0] != 0) fail("the first bag does not start at 0", "0", std::to_string(at[0]));
  for (size_t i = 1; i < at.size(); ++i) {
    if (at[i] < at[i - 1])
      fail(fmt::format("offset {} falls", i), fmt::format("at least {}", at[i - 1]), std::to_string(at[i]));
  }
  if (!at.empty() && (at.back() > total || (include_last && at.back() != total)))
    fail(include_last ? "the last offset is not the end of the indices" : "a bag starts behind the end of the indices",
         include_last ? std::to_string(total) : fmt::format("at most {}", total), std::to_string(at.back()));
}

// For each index its bag's number: as many bags as have started, less one.
Tensor bag_numbers(const Tensor& starts, int64_t total) {
  const Tensor marks = index_add(zeros({total + 1}, i64), 0, starts, ones({starts.size()}, i64));
  return narrow(cumsum(marks, 0), 0, 0, total) - 1;
}

// A padding row does not count below, so that it may go without a gradient: then a sparse one does not touch it.
Tensor embedding_rows(const Tensor& table, const Tensor& indices, const ir::Attrs& attrs) {
  return call1(embedding_op(), {table, indices}, {attrs.flag(kSparse), attrs.integer(kPadding)});
}

Tensors embedding_bag_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const Tensor &table = in[0], &indices = in[1], &offsets = in[2], &weights = in[3];
  const std::string& mode = attrs.text(kMode);
  const bool largest = mode == "max", bags_are_rows = !offsets.defined();
  const int64_t padding = attrs.integer(kPadding), width = table.shape(1);
  const DType work = table.dtype() == DType::F64 ? DType::F64 : DType::F32;
  Tensor rows = cast(embedding_rows(table, indices, attrs), work);
  if (weights.defined()) rows = std::move(rows) * unsqueeze(cast(weights, work), {-1});
  Tensor counted = ones(indices.shape(), work);  // 1 for each index that counts
  if (padding >= 0) {
    const Tensor counts = not_equal(remainder(indices, table.shape(0)), padding);
    rows = where(unsqueeze(counts, {-1}), std::move(rows), largest ? -std::numeric_limits<double>::infinity() : 0);
    counted = cast(counts, work);
  }
  Tensor y, count;
  if (bags_are_rows) {
    count = sum(counted, {1}, true);
    const bool empty = indices.shape(1) == 0;
    y = !largest ? sum(rows, {1}) : empty ? zeros({indices.shape(0), width}, work) : max(rows, {1});
  } else {
    const int64_t total = indices.size();
    check_offsets(offsets, total, attrs.flag(kIncludeLast));
    const int64_t bags = offsets.size() - (attrs.flag(kIncludeLast) ? 1 : 0);
    const Tensor bag = bag_numbers(narrow(offsets, 0, 0, bags), total);
    count = unsqueeze(index_add(zeros({bags}, work), 0, bag, counted), {1});
    if (largest) {
      const Tensor none = full({bags, width}, -std::numeric_limits<double>::infinity(), work);
      y = scatter_along_axis(none, expand(unsqueeze(bag, {1}), {total, width}), rows, 0, ScatterMode::Max);
    } else {
      y = index_add(zeros({bags, width}, work), 0, bag, rows);
    }
  }
  if (mode == "mean") y = std::move(y) / maximum(count, 1);
  if (largest) y = where(count > 0, std::move(y), 0);
  return {cast(std::move(y), table.dtype())};
}

std::vector<TensorType> infer_embedding_bag(const InferArgs& a) {
  expect_rank(a, 0, 2, 2);
  const bool offsets = a.present[2], weights = a.present[3];
  const std::string& mode = a.attrs.text(kMode);
  expect_rank(a, 1, offsets ? 1 : 2, offsets ? 1 : 2);
  if (offsets) expect_rank(a, 2, 1, 1);
  if (std::find(kModes.begin(), kModes.end(), mode) == kModes.end())
    fail_value(a, "unknown mode", "sum, mean or max", mode);
  if (weights && mode != "sum") fail_value(a, "weights need the mode sum", "sum", mode);
  if (weights && a.in[3].shape != a.in[1].shape)
    fail_shape(a, "there is not one weight for each index", to_string(a.in[1].shape), to_string(a.in[3].shape));
  const int64_t rows = a.in[0].shape[0], padding = a.attrs.integer(kPadding);
  if (padding < -1 || (padding >= rows && rows > 0))
    fail_value(a, "there is no such padding row", fmt::format("-1 to {}", rows - 1), std::to_string(padding));
  int64_t bags = offsets ? a.in[2].shape[0] : a.in[1].shape[0];
  if (offsets && a.attrs.flag(kIncludeLast) && --bags < 0)
    fail_shape(a, "the offsets have no last element", "at least 1 offset", "none");
  return {{a.in[0].dtype, {bags, a.in[0].shape[1]}}};
}

}  // namespace

const OpDef& embedding_bag_op() {
  static const OpDef def{
      .name = "embedding_bag",
      .doc =
          "Rows of a table [n, width] combined (sum, mean, max) into bags [bags, width]: indices [bags, k], or [total] "
          "with the offsets where bags start. With `sparse`, the table's gradient holds only the rows used; the row "
          "`padding` counts for nothing.",
      .inputs = {{"table", kFloats},
                 {"indices", kIndex},
                 {"offsets", kIndex, ArgKind::Optional},
                 {"weights", kFloats, ArgKind::Optional, "multiply the rows before they are summed"}},
      .attrs = {{"mode", 1, ir::AttrType::Text, "sum, mean or max"},
                {"sparse", 2, ir::AttrType::Flag, "row-sparse gradient"},
                {"padding", 3, ir::AttrType::Int, "a row that counts for nothing, or -1"},
                {"include_last_offset", 4, ir::AttrType::Flag, "the last offset is the end of the last bag"}},
      .promote = {9, false},
      .infer = infer_embedding_bag,
      .meaning = Composite{embedding_bag_body},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            const SampleInput table{.shape = {5, 3}, .low = -2, .high = 2, .distinct = true};
            const SampleInput rows{{2, 3}, 0, 0, {0, 4, 1, 3, -1, 2}, kI64}, flat{{6}, 0, 0, {0, 4, 1, 3, -1, 2}, kI64};
            const SampleInput offsets{{3}, 0, 0, {0, 2, 2}, kI64}, ends{{3}, 0, 0, {0, 4, 6}, kI64};
            const SampleInput none{.shape = {}, .absent = true};
            const int64_t no = -1;
            std::vector<Sample> s;
            for (const char* mode : {"sum", "mean", "max"}) {
              s.push_back({{table, rows, none, none}, {std::string(mode), false, no, false}});
              s.push_back({{table, flat, offsets, none}, {std::string(mode), true, int64_t{1}, false}, "an empty bag"});
              s.push_back(
                  {{table, flat, ends, none}, {std::string(mode), false, int64_t{0}, true}, "with the last offset"});
            }
            s.push_back({{table, flat, offsets, {{6}}}, {std::string("sum"), false, no, false}, "weights"});
            s.push_back({{table, rows, none, {{2, 3}}}, {std::string("sum"), true, int64_t{4}, false}, "weights"});
            return s;
          },
      .invalid_samples =
          [] {
            const SampleInput table{.shape = {5, 3}}, flat{{3}, 0, 0, {0, 4, 1}, kI64}, start{{1}, 0, 0, {0}, kI64};
            const SampleInput none{.shape = {}, .absent = true};
            const std::string sum = "sum", mean = "mean";
            const int64_t no = -1;
            const auto at = [](std::vector<double> values) {
              const auto n = static_cast<int64_t>(values.size());
              return SampleInput{{n}, 0, 0, std::move(values), kI64};
            };
            return std::vector<InvalidSample>{
                {{table, at({0, 5, 1}), start, none}, {sum, false, no, false}, "out of range"},
                {{table, flat, none, none}, {sum, false, no, false}, "wrong rank"},
                {{table, flat, at({1}), none}, {sum, false, no, false}, "does not start at 0"},
                {{table, flat, at({0, 2, 1}), none}, {sum, false, no, false}, "offset 2 falls"},
                {{table, flat, at({0, 4}), none}, {sum, false, no, false}, "behind the end"},
                {{table, flat, at({0, 2}), none}, {sum, false, no, true}, "not the end of the indices"},
                {{table, flat, at({0}), none}, {sum, false, no, true}, "no bag"},
                {{table, flat, start, {{3}}}, {mean, false, no, false}, "need the mode sum"},
                {{table, flat, start, {{2}}}, {sum, false, no, false}, "one weight for each"},
                {{table, flat, start, none}, {std::string("median"), false, no, false}, "unknown mode"},
                {{table, flat, start, none}, {sum, false, int64_t{5}, false}, "no such padding row"}};
          },
      .tolerance = {16, 1e-5}};
  return def;
}

std::vector<const OpDef*> embedding_bag_ops() { return {&embedding_bag_op()}; }

}  // namespace ops

Tensor embedding_bag(Tensor table, Tensor indices, Tensor offsets, Tensor weights, const EmbeddingBagOptions& o) {
  const int64_t padding = ops::padding_row("embedding_bag", o.padding_index, table);
  return ops::call1(ops::embedding_bag_op(),
                    {std::move(table), std::move(indices), std::move(offsets), std::move(weights)},
                    {std::string(ops::kModes[static_cast<size_t>(o.mode)]), o.sparse, padding, o.include_last_offset});
}

}  // namespace tenon
