// capture(): a function as a graph, for given or for any sizes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/ir/specialize.h"
#include "tenon/ir/varying.h"
#include "tenon/ops/catalog.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/random.h"
#include "tenon/trace/capture.h"
#include "tenon/trace/state.h"

namespace tenon {

InputSpec::InputSpec(std::string input_name, TensorType input_type)
    : name(std::move(input_name)), type(std::move(input_type)) {
  for (const int64_t extent : type.shape) dims.emplace_back(extent);
}
InputSpec::InputSpec(std::string input_name, DType dtype, std::vector<Dim> extents)
    : name(std::move(input_name)), type{dtype, {}}, dims(std::move(extents)) {
  for (const Dim& dim : dims) type.shape.push_back(dim.size);
}

namespace {

// The parts of "past + seq + 1", without the blanks around them.
std::vector<std::string> parts_of(const std::string& sum) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= sum.size();) {
    const size_t end = std::min(sum.find('+', at), sum.size());
    size_t first = at, last = end;
    while (first < last && sum[first] == ' ') ++first;
    while (last > first && sum[last - 1] == ' ') --last;
    parts.push_back(sum.substr(first, last - first));
    at = end + 1;
  }
  return parts;
}
bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos;
}

// The named sizes of the inputs, each with an example of its own.
std::vector<ir::Size> sizes_of(const std::vector<InputSpec>& inputs) {
  constexpr int64_t kExamples[] = {3, 5, 7, 11, 13, 17};
  std::vector<ir::Size> sizes;
  for (const auto& spec : inputs) {
    for (const Dim& dim : spec.dims) {
      if (dim.name.empty()) {
        if (dim.size < 0)
          throw ShapeError({"capture", fmt::format("input '{}' has a negative extent", spec.name), {}, {}, {}});
        continue;
      }
      const std::vector<std::string> parts = parts_of(dim.name);
      for (const std::string& name : parts) {
        if (parts.size() > 1 && is_number(name)) continue;
        if (!ir::is_size_name(name))
          throw ValueError({"capture", "not a name for a size", "a word: letters, digits, '_'", dim.name, {}});
        const auto known = std::find_if(sizes.begin(), sizes.end(), [&](const ir::Size& s) { return s.name == name; });
        if (known == sizes.end()) {
          sizes.push_back({name, 0, dim.low, dim.high});
        } else if (parts.size() == 1) {
          known->low = std::max(known->low, dim.low);
          known->high = std::min(known->high, dim.high);
        }
      }
    }
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    ir::Size& size = sizes[i];
    if (size.low < 0 || size.low > size.high)
      throw ValueError({"capture",
                        fmt::format("the size '{}' has an empty range", size.name),
                        "0 <= low <= high",
                        fmt::format("{} to {}", size.low, size.high),
                        {}});
    size.example = std::clamp(kExamples[i % std::size(kExamples)], size.low, size.high);
  }
  return sizes;
}

TensorType type_at(const InputSpec& spec, const ir::Sizes& sizes) {
  TensorType type = spec.type;
  for (size_t axis = 0; axis < spec.dims.size(); ++axis) {
    if (spec.dims[axis].name.empty()) continue;
    int64_t sum = 0;
    for (const std::string& part : parts_of(spec.dims[axis].name))
      sum += is_number(part) ? std::stoll(part) : sizes.at(part);
    type.shape[axis] = sum;
  }
  return type;
}

ir::Graph capture_at(const trace::Function& fn, const std::vector<InputSpec>& inputs, const ir::Sizes& sizes,
                     const CaptureOptions& options) {
  const NoGrad no_grad;
  trace::Recorder recorder(trace::Recorder::Outside::Constants);
  Tensors in;
  for (const auto& spec : inputs) in.push_back(recorder.input(type_at(spec, sizes), spec.name));
  for (const auto& [name, weight] : options.weights) recorder.keep(weight);
  const Tensors out = fn(in);
  for (const Tensor& x : out) {
    if (!x.defined()) throw ValueError({"capture", "a result of the function is undefined", {}, {}, {}});
  }
  ir::Graph graph = recorder.finish(out);
  graph.name = options.name;
  return ir::prune(graph);
}

// Names of results that the graph's other values do not have.
void name_outputs(ir::Graph& graph, const CaptureOptions& options) {
  if (!options.outputs.empty() && options.outputs.size() != graph.outputs.size())
    throw ValueError({"capture",
                      "another number of names than results",
                      std::to_string(graph.outputs.size()),
                      std::to_string(options.outputs.size()),
                      {}});
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    ir::Value& value = graph.values[static_cast<size_t>(graph.outputs[i])];
    if (!value.name.empty()) continue;  // an input, or a value that is two results
    std::string name = !options.outputs.empty()    ? options.outputs[i]
                       : graph.outputs.size() == 1 ? std::string("output")
                                                   : fmt::format("output{}", i);
    const bool taken =
        std::any_of(graph.values.begin(), graph.values.end(), [&](const auto& v) { return v.name == name; });
    if (taken && !options.outputs.empty())
      throw ValueError({"capture", "two inputs or results have the same name", {}, name, {}});
    if (!taken) value.name = std::move(name);
  }
}

// Sizes that the capture has not seen: the least from 1 on, and others than its own. The last must have results.
std::vector<ir::Sizes> check_sizes(const std::vector<ir::Size>& sizes) {
  if (sizes.empty()) return {{}};
  std::vector<ir::Sizes> list(2);
  for (size_t i = 0; i < sizes.size(); ++i) {
    list[0][sizes[i].name] = std::clamp<int64_t>(1, sizes[i].low, sizes[i].high);
    list[1][sizes[i].name] = std::clamp(sizes[i].example + 1 + static_cast<int64_t>(i), sizes[i].low, sizes[i].high);
  }
  return list;
}

Tensor fresh_input(const TensorType& type, const Tensor& key) {
  if (is_float(type.dtype)) return cast(uniform(type.shape, -1, 1, f32, key), type.dtype);
  return cast(uniform(type.shape, 0, 2, f32, key), type.dtype);
}

double epsilon_of(DType dtype) {
  switch (info(dtype).bits) {
    case 64:
      return 1e-12;
    case 32:
      return 1e-5;
    default:
      return 2e-2;
  }
}

// " with batch = 3, seq = 5"
std::string shown(const ir::Sizes& sizes) {
  std::string text;
  for (const auto& [name, value] : sizes) text += fmt::format("{}{} = {}", text.empty() ? " with " : ", ", name, value);
  return text;
}

// The largest difference relative to the largest magnitude; infinity where only one is a number.
double difference(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double most = 0, scale = 1;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return std::numeric_limits<double>::infinity();
    most = std::max(most, std::abs(x[i] - y[i]));
    scale = std::max(scale, std::abs(x[i]));
  }
  return most / scale;
}

}  // namespace

ir::Graph capture(const trace::Function& fn, const std::vector<InputSpec>& inputs, const CaptureOptions& options) {
  std::vector<ir::Size> sizes = sizes_of(inputs);
  ir::Graph graph;
  if (sizes.empty()) {
    graph = capture_at(fn, inputs, {}, options);
  } else {
    const std::vector<ir::Sizes> at = ir::probe_sizes(sizes);
    std::vector<ir::Graph> graphs;
    for (const ir::Sizes& probe : at) {
      try {
        graphs.push_back(capture_at(fn, inputs, probe, options));
      } catch (const ShapeError& error) {
        ErrorParts parts = error.parts();
        parts.problem += " (the function was captured" + shown(probe) + ")";
        parts.hint = "name the range of sizes for which the function works: Dim(\"size\", least, most)";
        throw ShapeError(parts);
      }
    }
    graph = ir::generalize(graphs, at, std::move(sizes), ops::catalog());
  }
  name_outputs(graph, options);
  if (options.check && !graph.sizes.empty()) check_capture(graph, fn);
  return graph;
}

void check_capture(const ir::Graph& graph, const trace::Function& fn) {
  const NoGrad no_grad;
  uint64_t seed = 1;
  const std::vector<ir::Sizes> list = check_sizes(graph.sizes);
  for (const ir::Sizes& sizes : list) {
    ir::Graph one;
    Tensors in, want;
    try {
      one = graph.sizes.empty() ? graph : ir::specialize(graph, sizes, ops::type_rule());
      for (const ir::ValueId id : one.inputs) in.push_back(fresh_input(one.type(id), random_key(seed++)));
      want = fn(in);
    } catch (const ShapeError&) {
      // The function has no result for so small a size: nothing to compare, unless no size is left.
      if (&sizes == &list.back()) throw;
      continue;
    }
    const Tensors got = exec::run(one, in);
    const std::string at = shown(sizes);
    for (size_t i = 0; i < std::max(want.size(), got.size()); ++i) {
      const bool same_type = i < want.size() && i < got.size() && want[i].type() == got[i].type();
      const double apart = same_type ? difference(want[i], got[i]) : 0;
      if (same_type && apart <= epsilon_of(want[i].dtype())) continue;
      throw ValueError({graph.name.empty() ? "capture" : graph.name,
                        fmt::format("the captured graph gives another result {} than the function{}", i, at),
                        i < want.size() ? to_string(want[i].type()) : "no result",
                        same_type        ? fmt::format("values that differ by {:.3g} of the largest", apart)
                        : i < got.size() ? to_string(got[i].type())
                                         : "no result",
                        "a function that is captured may depend on its inputs only"});
    }
  }
}

}  // namespace tenon
