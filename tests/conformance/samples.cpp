#include "samples.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/table.h"

namespace tenon::conformance {
namespace {

using ops::OpDef;
using ops::Sample;
using ops::SampleInput;

std::vector<Shape> family_shapes(const OpDef& op, size_t input) {
  // One row for each sample: an ordinary shape, a scalar, nothing, and what broadcasts.
  const bool several = op.inputs.size() > 1 && std::holds_alternative<ops::Elementwise>(op.meaning);
  std::vector<Shape> shapes{{2, 3}, {}, {0, 3}};
  if (several) shapes.push_back(input == 0 ? Shape{2, 1, 3} : Shape{4, 1});
  if (std::holds_alternative<ops::Reduction>(op.meaning)) shapes = {{2, 3}, {3, 2, 4}, {1}};
  return shapes;
}

double epsilon_of(DType t) {
  switch (t) {
    case DType::F16:
      return std::ldexp(1, -10);
    case DType::BF16:
      return std::ldexp(1, -7);
    case DType::F32:
      return std::ldexp(1, -23);
    case DType::F64:
      return std::ldexp(1, -52);
    default:
      return 0;
  }
}

const ops::Arg& arg_of(const OpDef& op, size_t i) { return op.inputs[std::min(i, op.inputs.size() - 1)]; }

Tensor make_input(const Case& c, size_t i, uint64_t variant) {
  const SampleInput& spec = c.sample.inputs[i];
  if (spec.absent) return {};
  const int64_t count = numel(spec.shape);
  std::vector<double> values = spec.values;
  std::mt19937_64 random(c.number * 977 + i * 31 + variant * 7919 + 5);
  if (values.empty()) {
    values.resize(static_cast<size_t>(count));
    std::uniform_real_distribution<double> uniform(spec.low, spec.high);
    for (double& v : values) v = uniform(random);
    if (spec.distinct && count > 1) {
      for (size_t k = 0; k < values.size(); ++k)
        values[k] = spec.low + (spec.high - spec.low) * (static_cast<double>(k) + 0.5) / static_cast<double>(count);
      std::shuffle(values.begin(), values.end(), random);
    }
  }
  DType dtype = spec.dtype >= 0 ? static_cast<DType>(spec.dtype) : c.dtype;
  const auto& accepted = arg_of(*c.op, i).dtypes;
  if (spec.dtype < 0 && !accepted.has(dtype)) {
    for (DType t : {DType::F32, DType::I64, DType::Bool}) {
      if (accepted.has(t)) {
        dtype = t;
        break;
      }
    }
  }
  if (dtype == DType::Bool && spec.values.empty()) {
    for (double& v : values) v = v > (spec.low + spec.high) / 2 ? 1 : 0;
  }
  if (info(dtype).kind == DTypeKind::Unsigned) {
    for (double& v : values) v = std::abs(v);
  }
  return cast(from_vector(values, spec.shape), dtype);
}

}  // namespace

std::string Case::name() const {
  return fmt::format("{}, sample {}{}{}, {}", op->name, number, sample.note.empty() ? "" : " ", sample.note,
                     tenon::name(dtype));
}

std::vector<Sample> samples_of(const OpDef& op) {
  if (op.samples) return op.samples();
  const bool family =
      std::holds_alternative<ops::Elementwise>(op.meaning) || std::holds_alternative<ops::Reduction>(op.meaning);
  if (!family) return {};
  std::vector<ir::Attrs> attrs = op.attr_samples;
  if (attrs.empty()) {
    if (std::holds_alternative<ops::Reduction>(op.meaning)) {
      attrs = {ir::Attrs{Ints{-1}, false}, ir::Attrs{Ints{0}, true}};
    } else if (op.attrs.empty()) {
      attrs = {ir::Attrs{}};
    }
  }
  std::vector<Sample> list;
  for (const auto& a : attrs) {
    for (size_t row = 0; row < family_shapes(op, 0).size(); ++row) {
      Sample s;
      s.attrs = a;
      for (size_t i = 0; i < op.inputs.size(); ++i) {
        SampleInput input{.shape = family_shapes(op, i)[row], .low = op.sample_low, .high = op.sample_high};
        input.distinct = op.sample_distinct;
        s.inputs.push_back(std::move(input));
      }
      list.push_back(std::move(s));
    }
  }
  return list;
}

void for_each_case(const std::vector<DType>& dtypes, const std::function<void(const Case&)>& fn) {
  for (const OpDef* op : ops::table()) {
    const auto samples = samples_of(*op);
    for (size_t n = 0; n < samples.size(); ++n) {
      bool first = true;
      for (DType t : dtypes) {
        // Inputs with a dtype of their own do not vary; a sample of only such runs once.
        bool varies = false, accepts = true;
        for (size_t i = 0; i < samples[n].inputs.size(); ++i) {
          if (samples[n].inputs[i].dtype >= 0 || samples[n].inputs[i].absent) continue;
          if (i == 0 && !arg_of(*op, 0).dtypes.has(t)) accepts = false;
          varies = true;
        }
        if (!accepts || (!varies && !first)) continue;
        first = false;
        const Case c{op, samples[n], n, t};
        try {
          fn(c);
        } catch (const std::exception& error) {
          ADD_FAILURE() << c.name() << ": " << error.what();
        }
      }
    }
  }
}

Tensors inputs_of(const Case& c, uint64_t variant) {
  Tensors in;
  for (size_t i = 0; i < c.sample.inputs.size(); ++i) in.push_back(make_input(c, i, variant));
  return in;
}

std::vector<bool> differentiable_inputs(const Case& c, const Tensors& in) {
  std::vector<bool> wanted;
  for (size_t i = 0; i < in.size(); ++i)
    wanted.push_back(in[i].defined() && is_float(in[i].dtype()) && !info(in[i].dtype()).storage_only &&
                     c.sample.inputs[i].differentiable);
  return wanted;
}

Tensor arranged(const Tensor& x, Layout layout) {
  if (!x.defined() || x.ndim() == 0 || info(x.dtype()).bits < 8) return x;
  Ints order;
  for (int64_t k = x.ndim(); k-- > 0;) order.push_back(k);
  const Ints all = order;
  switch (layout) {
    case Layout::Transposed:
      return permute(contiguous(permute(x, order)), order);
    case Layout::Reversed:
      return flip(contiguous(flip(x, all)), all);
    case Layout::Strided:
      return slice(contiguous(repeat_interleave(x, 2, -1)), {-1}, {0}, {kEnd}, {2});
    case Layout::Contiguous:
      break;
  }
  return x;
}

Tensors call(const Case& c, Tensors in) { return ops::call(*c.op, std::move(in), c.sample.attrs); }

bool same_bits(const Tensors& a, const Tensors& b, std::string& what) {
  if (a.size() != b.size()) {
    what = fmt::format("{} results against {}", a.size(), b.size());
    return false;
  }
  for (size_t k = 0; k < a.size(); ++k) {
    if (a[k].defined() != b[k].defined()) {
      what = fmt::format("result {} is undefined on one side", k);
      return false;
    }
    if (!a[k].defined()) continue;
    if (a[k].type() != b[k].type()) {
      what = fmt::format("result {}: {} against {}", k, to_string(a[k].type()), to_string(b[k].type()));
      return false;
    }
    const auto x = a[k].to_vector<double>(), y = b[k].to_vector<double>();
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::memcmp(&x[i], &y[i], sizeof(double)) == 0 || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
      what = fmt::format("result {}, element {}: {} against {}", k, i, x[i], y[i]);
      return false;
    }
  }
  return true;
}

bool near(const Tensors& a, const Tensors& b, double epsilons, std::string& what) {
  if (a.size() != b.size()) {
    what = fmt::format("{} results against {}", a.size(), b.size());
    return false;
  }
  for (size_t k = 0; k < a.size(); ++k) {
    if (!a[k].defined() || !b[k].defined()) continue;
    if (a[k].type() != b[k].type()) {
      what = fmt::format("result {}: {} against {}", k, to_string(a[k].type()), to_string(b[k].type()));
      return false;
    }
    const auto x = a[k].to_vector<double>(), y = b[k].to_vector<double>();
    double scale = 1e-3;
    for (double v : y) scale = std::isfinite(v) ? std::max(scale, std::abs(v)) : scale;
    const double allowed = epsilons * epsilon_of(a[k].dtype()) * scale;
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])) || std::abs(x[i] - y[i]) <= allowed) continue;
      what = fmt::format("result {}, element {}: {} against {} (allowed {})", k, i, x[i], y[i], allowed);
      return false;
    }
  }
  return true;
}

}  // namespace tenon::conformance
