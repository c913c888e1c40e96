#include "support.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <random>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/ops/call.h"
#include "tenon/ops/table.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"
#include "tenon/trace/capture.h"

namespace tenon::test {

using ops::OpDef;
using ops::Sample;
using ops::SampleInput;

namespace {

std::vector<const OpDef*> all_ops() { return {ops::table().begin(), ops::table().end()}; }
INSTANTIATE_TEST_SUITE_P(Op, Conformance, testing::ValuesIn(all_ops()),
                         [](const auto& info) { return std::string(info.param->name); });

const ops::Arg& arg_of(const OpDef& op, size_t i) { return op.inputs[std::min(i, op.inputs.size() - 1)]; }

std::vector<ir::Attrs> attrs_of(const OpDef& op) {
  return op.attr_samples.empty() ? std::vector<ir::Attrs>{{}} : op.attr_samples;
}

// One vector, whole blocks and a tail; 0-d; nothing; broadcast against each other.
std::vector<Sample> elementwise_samples(const OpDef& op) {
  const std::vector<std::vector<Shape>> shapes{{{67}},        {{2, 3, 4}}, {{}}, {{0, 3}}, {{2, 1, 3}, {4, 1}, {3}},
                                               {{5}, {}, {5}}};
  std::vector<Sample> list;
  for (const auto& attrs : attrs_of(op)) {
    for (const auto& row : shapes) {
      if (row.size() > 1 && op.inputs.size() == 1) continue;
      Sample s{{}, attrs};
      for (size_t i = 0; i < op.inputs.size(); ++i)
        s.inputs.push_back({.shape = row[std::min(i, row.size() - 1)],
                            .low = op.sample_low,
                            .high = op.sample_high,
                            .distinct = op.sample_distinct});
      list.push_back(std::move(s));
    }
  }
  return list;
}

std::vector<Sample> reduction_samples(const OpDef& op) {
  struct Row {
    Shape shape;
    Ints axes;
    bool keepdims;
  };
  const std::vector<Row> rows{{{2, 3, 4}, {}, false},     {{2, 3, 4}, {1}, true}, {{2, 3, 4}, {-1}, false},
                              {{2, 3, 4}, {0, 2}, false}, {{}, {}, false},        {{0, 3}, {1}, false},
                              {{3, 33}, {1}, false}};
  std::vector<Sample> list;
  for (const Row& row : rows)
    list.push_back(
        {{{.shape = row.shape, .low = op.sample_low, .high = op.sample_high, .distinct = op.sample_distinct}},
         {row.axes, row.keepdims}});
  return list;
}

}  // namespace

std::vector<Case> cases(const OpDef& op) {
  std::vector<Sample> samples;
  if (op.samples) {
    samples = op.samples();
  } else if (std::holds_alternative<ops::Elementwise>(op.meaning)) {
    samples = elementwise_samples(op);
  } else if (std::holds_alternative<ops::Reduction>(op.meaning)) {
    samples = reduction_samples(op);
  }
  std::vector<Case> list;
  for (auto& s : samples) list.push_back({list.size(), std::move(s)});
  return list;
}

std::vector<DType> dtype_choices(const OpDef& op, const Sample& sample) {
  std::vector<DType> list;
  bool open = false;
  for (const auto& row : all_dtypes()) {
    for (size_t i = 0; i < sample.inputs.size(); ++i) {
      if (sample.inputs[i].absent || sample.inputs[i].dtype >= 0) continue;
      open = true;
      if (!arg_of(op, i).dtypes.has(row.dtype)) continue;
      list.push_back(row.dtype);
      break;
    }
  }
  if (!open) return {DType::F64};
  // A dtype that only an input beside the main ones takes (the condition of a select) stands for nothing new.
  std::vector<DType> main;
  for (DType t : list) {
    bool all = true;
    for (size_t i = 0; i < sample.inputs.size(); ++i) {
      const SampleInput& in = sample.inputs[i];
      if (!in.absent && in.dtype < 0 && !arg_of(op, i).dtypes.has(t)) all = false;
    }
    if (all) main.push_back(t);
  }
  return main.empty() ? list : list.size() > main.size() && main.size() == 1 ? list : main;
}

DType best_choice(const OpDef& op, const Sample& sample) {
  const auto list = dtype_choices(op, sample);
  for (DType t : {DType::F64, DType::F32}) {
    if (std::find(list.begin(), list.end(), t) != list.end()) return t;
  }
  return list.front();
}

DType input_dtype(const OpDef& op, const SampleInput& input, size_t i, DType choice) {
  if (input.dtype >= 0) return static_cast<DType>(input.dtype);
  const ops::DTypeSet accepted = arg_of(op, i).dtypes;
  if (accepted.has(choice)) return choice;
  for (DType t : {DType::F32, DType::I64, DType::Bool}) {
    if (accepted.has(t)) return t;
  }
  for (const auto& row : all_dtypes()) {
    if (accepted.has(row.dtype)) return row.dtype;
  }
  return choice;
}

const char* name(Layout layout) {
  switch (layout) {
    case Layout::Contiguous:
      return "contiguous";
    case Layout::Transposed:
      return "transposed";
    case Layout::Strided:
      return "strided";
    case Layout::Reversed:
      return "reversed";
  }
  return "";
}

Tensor lay_out(const std::vector<double>& values, const TensorType& type, Layout layout) {
  const size_t rank = type.shape.size();
  Shape strides = contiguous_strides(type.shape);
  int64_t offset = 0, extent = numel(type.shape);
  if (layout == Layout::Transposed) {
    int64_t step = 1;
    for (size_t i = 0; i < rank; ++i) {
      strides[i] = step;
      step *= std::max<int64_t>(type.shape[i], 1);
    }
  } else if (layout == Layout::Strided) {
    for (size_t i = 0; i < rank; ++i) strides[i] *= 2;
    offset = 1;
    extent = 2 * extent + 1;
  } else if (layout == Layout::Reversed && extent > 0) {
    for (size_t i = 0; i < rank; ++i) {
      offset += strides[i] * (type.shape[i] - 1);
      strides[i] = -strides[i];
    }
  }
  Tensor memory = empty({extent}, type.dtype);
  const View whole = mutable_view(memory);
  std::memset(mutable_data(memory), 0xff, static_cast<size_t>(byte_size(type.dtype, extent)));
  ElementCursor to(type.shape, strides, offset);
  for (double v : values) {
    if (is_float(type.dtype)) {
      store_real(whole, to.element(), v);
    } else {
      store_integer(whole, to.element(), static_cast<int64_t>(v));
    }
    to.next();
  }
  return from_buffer(memory.impl()->buffer, type, strides, offset);
}

std::vector<double> draw(const SampleInput& input, DType dtype, uint64_t seed) {
  if (!input.values.empty()) return input.values;
  std::mt19937_64 generator(seed);
  const auto n = static_cast<size_t>(numel(input.shape));
  std::vector<double> values(n);
  std::uniform_real_distribution<double> uniform(input.low, input.high);
  for (size_t i = 0; i < n; ++i)
    values[i] = input.distinct
                    ? input.low + (input.high - input.low) * (static_cast<double>(i) + 0.5) / static_cast<double>(n)
                    : uniform(generator);
  if (input.distinct) std::shuffle(values.begin(), values.end(), generator);
  if (!is_float(dtype)) {
    const double least = info(dtype).kind == DTypeKind::Signed ? -2 : 0;
    const double most = dtype == DType::Bool || dtype == DType::I2 ? 1 : 7;
    const double low = std::ceil(input.low), high = std::floor(input.high);
    for (double& v : values) {
      v = std::round(v);
      if (low <= high) v = std::clamp(v, low, high);
      if (info(dtype).kind != DTypeKind::Signed) v = std::max(v, least);
      if (dtype == DType::Bool || info(dtype).storage_only) v = std::clamp(v, least, most);
    }
  }
  return values;
}

Tensors make_inputs(const OpDef& op, const Case& c, DType choice, Layout layout, uint64_t draw_number) {
  Tensors in;
  for (size_t i = 0; i < c.sample.inputs.size(); ++i) {
    const SampleInput& input = c.sample.inputs[i];
    if (input.absent) {
      in.emplace_back();
      continue;
    }
    const DType dtype = input_dtype(op, input, i, choice);
    const uint64_t seed = (c.number * 100 + i) * 100 + draw_number + 12345;
    in.push_back(lay_out(draw(input, dtype, seed), {dtype, input.shape}, layout));
  }
  return in;
}

exec::Session& session_with(const exec::SessionOptions& o) {
  struct Entry {
    exec::SessionOptions options;
    std::unique_ptr<exec::Session> session;
  };
  static std::deque<Entry> sessions;
  for (auto& e : sessions) {
    const auto& p = e.options;
    if (p.threads == o.threads && p.reuse == o.reuse && p.poison == o.poison && p.claims == o.claims &&
        p.reference == o.reference && p.cpu_level == o.cpu_level)
      return *e.session;
  }
  sessions.push_back({o, std::make_unique<exec::Session>(o)});
  return *sessions.back().session;
}

Outcome run(const exec::SessionOptions& options, const OpDef& op, Tensors in, const ir::Attrs& attrs) {
  const exec::SessionScope scope(session_with(options));
  try {
    return {ops::call(op, std::move(in), attrs), {}};
  } catch (const Error& e) {
    return {{}, e.what()};
  }
}

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::F16:
      return 0x1p-10;
    case DType::BF16:
      return 0x1p-7;
    case DType::F32:
      return 0x1p-23;
    case DType::F64:
      return 0x1p-52;
    default:
      return 0;
  }
}

double largest(const Tensor& x) {
  double m = 0;
  if (!x.defined()) return m;
  for (double v : x.to_vector<double>()) {
    if (std::isfinite(v)) m = std::max(m, std::abs(v));
  }
  return m;
}

namespace {

std::string type_difference(const Tensor& got, const Tensor& want) {
  if (got.defined() != want.defined()) return got.defined() ? "a value where none is wanted" : "no value";
  if (got.defined() && got.type() != want.type())
    return fmt::format("type {}, wanted {}", to_string(got.type()), to_string(want.type()));
  return {};
}
std::string element(const Tensor& x, size_t i) {
  Shape index(x.shape().size(), 0);
  auto rest = static_cast<int64_t>(i);
  for (size_t a = index.size(); a-- > 0;) {
    index[a] = rest % x.shape()[a];
    rest /= x.shape()[a];
  }
  return fmt::format("first at {} of {}", to_string(index), to_string(x.type()));
}
template <class Compare>
std::string outcomes(const Outcome& got, const Outcome& want, Compare compare) {
  if (got.error != want.error) return fmt::format("error '{}', wanted '{}'", got.error, want.error);
  if (got.out.size() != want.out.size()) return fmt::format("{} results, wanted {}", got.out.size(), want.out.size());
  for (size_t i = 0; i < got.out.size(); ++i) {
    const std::string text = compare(got.out[i], want.out[i]);
    if (!text.empty()) return fmt::format("result {}: {}", i, text);
  }
  return {};
}

}  // namespace

std::string difference_in_bits(const Tensor& got, const Tensor& want) {
  std::string text = type_difference(got, want);
  if (!text.empty() || !got.defined()) return text;
  const ConstView a = view(got), b = view(want);
  ElementCursor i(a), j(b);
  const bool real = is_float(a.dtype);
  for (int64_t n = 0; n < got.size(); ++n, i.next(), j.next()) {
    const double x = real ? load_real(a, i.element()) : 0, y = real ? load_real(b, j.element()) : 0;
    const int64_t p = real ? 0 : load_integer(a, i.element()), q = real ? 0 : load_integer(b, j.element());
    const bool same = real ? (std::isnan(x) && std::isnan(y)) || std::memcmp(&x, &y, sizeof x) == 0 : p == q;
    if (!same)
      return fmt::format("{}: {} instead of {}", element(want, static_cast<size_t>(n)),
                         real ? fmt::format("{:.17g}", x) : std::to_string(p),
                         real ? fmt::format("{:.17g}", y) : std::to_string(q));
  }
  return {};
}

std::string difference_in_bits(const Outcome& got, const Outcome& want) {
  return outcomes(got, want, [](const Tensor& a, const Tensor& b) { return difference_in_bits(a, b); });
}

std::string difference(const Tensor& got, const Tensor& want, double unit, double floor) {
  std::string text = type_difference(got, want);
  if (!text.empty() || !got.defined()) return text;
  if (epsilon(got.dtype()) == 0) return difference_in_bits(got, want);
  const auto a = got.to_vector<double>(), b = want.to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i) {
    if ((std::isnan(a[i]) && std::isnan(b[i])) || a[i] == b[i]) continue;
    const double allowed = unit * std::max(std::abs(b[i]), floor);
    if (!(std::abs(a[i] - b[i]) <= allowed) || std::isinf(b[i]))
      return fmt::format("{}: {:.17g} instead of {:.17g}, {:.3g} times what is allowed", element(want, i), a[i], b[i],
                         std::abs(a[i] - b[i]) / allowed);
  }
  return {};
}

std::string difference_within_tolerance(const OpDef& op, const Outcome& got, const Outcome& want, double factor) {
  return outcomes(got, want, [&](const Tensor& a, const Tensor& b) {
    const double floor = std::holds_alternative<ops::Elementwise>(op.meaning) ? 1 : largest(b);
    const double unit = b.defined() ? epsilon(b.dtype()) * op.tolerance.epsilons * factor : 0;
    return difference(a, b, unit, floor);
  });
}

std::string where(const OpDef& op, const Case& c, DType choice, std::string_view more) {
  std::string types;
  for (size_t i = 0; i < c.sample.inputs.size(); ++i) {
    const SampleInput& in = c.sample.inputs[i];
    types += types.empty() ? "" : ", ";
    types += in.absent ? "none" : to_string(TensorType{input_dtype(op, in, i, choice), in.shape});
  }
  return fmt::format("op {}, sample {}{}{}, {} ({}){}{}", op.name, c.number, c.sample.note.empty() ? "" : " ",
                     c.sample.note, name(choice), types, more.empty() ? "" : ", ", more);
}

bool has_gradient(const OpDef& op) {
  return std::holds_alternative<ops::Vjp>(op.gradient) || std::holds_alternative<ops::GradientOfBody>(op.gradient);
}

Tensor random_like(const Tensor& x, uint64_t seed) {
  const SampleInput input{.shape = x.shape(), .low = -1, .high = 1};
  return lay_out(draw(input, DType::F64, seed), {DType::F64, x.shape()}, Layout::Contiguous);
}

Differentiable differentiable_part(const OpDef& op, const Case& c, uint64_t draw_number) {
  const DType choice = best_choice(op, c.sample);
  const Tensors all = make_inputs(op, c, choice, Layout::Contiguous, draw_number);
  std::vector<size_t> which;
  Differentiable d;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].defined() || !c.sample.inputs[i].differentiable || all[i].dtype() != DType::F64) continue;
    which.push_back(i);
    d.at.push_back(all[i]);
  }
  d.fn = [&op, all, which, attrs = c.sample.attrs](const Tensors& in) {
    Tensors full = all;
    for (size_t k = 0; k < which.size(); ++k) full[which[k]] = in[k];
    Tensors out = ops::call(op, full, attrs), kept;
    for (size_t r = 0; r < out.size(); ++r) {
      const bool flows = r >= 32 || ((op.differentiable_results >> r) & 1u) != 0;
      if (flows && out[r].dtype() == DType::F64) kept.push_back(out[r]);
    }
    return kept;
  };
  if (d.at.empty()) return d;
  const exec::SessionScope scope(session_with(kKernels));
  if (d.fn(d.at).empty()) d.at.clear();
  return d;
}

// ---- graphs ----
static std::vector<InputSpec> specs_of(const Tensors& in) {
  std::vector<InputSpec> specs;
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i].defined()) specs.push_back({"x" + std::to_string(i), in[i].type()});
  }
  return specs;
}
Tensors present(const Tensors& in) {
  Tensors list;
  for (const auto& x : in) {
    if (x.defined()) list.push_back(x);
  }
  return list;
}
ir::Graph graph_of(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs) {
  return capture(
      [&](const Tensors& values) {
        Tensors full(in.size());
        size_t k = 0;
        for (size_t i = 0; i < in.size(); ++i) {
          if (in[i].defined()) full[i] = values[k++];
        }
        return ops::call(op, full, attrs);
      },
      specs_of(in));
}

}  // namespace tenon::test
