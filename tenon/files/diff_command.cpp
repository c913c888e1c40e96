// tenon diff A B: two models on the same inputs, and the first layer where they part.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tenon/exec/evaluate.h"
#include "tenon/files/commands.h"
#include "tenon/files/model_file.h"
#include "tenon/ir/specialize.h"
#include "tenon/ops/catalog.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/random.h"

namespace tenon::files {
namespace {

struct Difference {
  double absolute = 0;
  double relative = 0;  // to the largest magnitude in a
};

Difference difference(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double most = 0, scale = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::isfinite(x[i])) scale = std::max(scale, std::abs(x[i]));
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    const double apart = std::abs(x[i] - y[i]);
    most = std::isnan(apart) ? std::numeric_limits<double>::infinity() : std::max(most, apart);
  }
  return {most, most == 0 ? 0 : scale == 0 ? most : most / scale};
}

// Values in [-1, 1], integers 0 or 1, at the sizes' examples.
Tensors fresh_inputs(const ir::Graph& graph, std::uint64_t seed) {
  Tensors in;
  for (const ir::ValueId id : graph.inputs) {
    const TensorType& type = graph.type(id);
    const Tensor x =
        uniform(type.shape, is_float(type.dtype) ? -1 : 0, is_float(type.dtype) ? 1 : 2, f32, random_key(seed++));
    in.push_back(cast(x, type.dtype));
  }
  return in;
}

// What every node gives, in order.
struct Step {
  std::string op;
  std::string path;
  Tensor value;
};
std::vector<Step> steps(const ir::Graph& graph, const Tensors& inputs) {
  std::vector<TensorType> types;
  for (const Tensor& x : inputs) types.push_back(x.type());
  ir::Graph all = graph.sizes.empty() ? graph : ir::specialize(graph, ir::bind_sizes(graph, types), ops::type_rule());
  std::vector<Step> list;
  all.outputs.clear();
  for (const ir::Node& node : all.nodes) {
    if (!node.op) continue;
    for (const ir::ValueId id : node.outputs) {
      all.outputs.push_back(id);
      list.push_back({std::string(ops::catalog().schema(*node.op).name), node.path, {}});
    }
  }
  const Tensors values = exec::run(all, inputs);
  for (std::size_t i = 0; i < values.size(); ++i) list[i].value = values[i];
  return list;
}

// Pairs of steps that are the same op with the same type of result, in order: the longest such list.
std::vector<std::pair<std::size_t, std::size_t>> matched(const std::vector<Step>& a, const std::vector<Step>& b) {
  const auto same = [&](std::size_t i, std::size_t j) {
    return a[i].op == b[j].op && a[i].value.type() == b[j].value.type();
  };
  std::vector<std::vector<std::uint32_t>> best(a.size() + 1, std::vector<std::uint32_t>(b.size() + 1, 0));
  for (std::size_t i = a.size(); i-- > 0;) {
    for (std::size_t j = b.size(); j-- > 0;)
      best[i][j] = same(i, j) ? best[i + 1][j + 1] + 1 : std::max(best[i + 1][j], best[i][j + 1]);
  }
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (same(i, j)) {
      pairs.emplace_back(i++, j++);
    } else if (best[i + 1][j] >= best[i][j + 1]) {
      ++i;
    } else {
      ++j;
    }
  }
  return pairs;
}

std::string first_parting(const ModelFile& a, const ModelFile& b, const Tensors& in_a, const Tensors& in_b,
                          double tolerance) {
  const std::vector<Step> x = steps(a.graph, in_a), y = steps(b.graph, in_b);
  const auto pairs = matched(x, y);
  for (const auto& [i, j] : pairs) {
    const Difference d = difference(x[i].value, y[j].value);
    if (d.relative <= tolerance) continue;
    const std::string where = x[i].path.empty() ? "" : " in " + x[i].path;
    return fmt::format(
        "first layer where they part: {}{} {} (step {} of {} in A, {} of {} in B): {:.3g}, relative {:.3g}\n", x[i].op,
        where, to_string(x[i].value.type()), i + 1, x.size(), j + 1, y.size(), d.absolute, d.relative);
  }
  return fmt::format("no layer that both have parts ({} of {} and {} steps match)\n", pairs.size(), x.size(), y.size());
}

}  // namespace

int diff_command(const Arguments& arguments, const Console& console) {
  const auto sizes = parse_sizes(arguments.has("sizes") ? arguments.get<std::string>("sizes") : "", "tenon diff");
  const ModelFile a = read_model(arguments.positionals.at(0), sizes),
                  b = read_model(arguments.positionals.at(1), sizes);
  const auto given = read_inputs(arguments.all("input"), "tenon diff");
  const double tolerance = arguments.get<double>("tolerance");
  if (a.signature.inputs.size() != b.signature.inputs.size() ||
      a.signature.outputs.size() != b.signature.outputs.size())
    throw ValueError({"tenon diff",
                      "the models have another number of inputs or outputs",
                      fmt::format("{} and {}", a.signature.inputs.size(), a.signature.outputs.size()),
                      fmt::format("{} and {}", b.signature.inputs.size(), b.signature.outputs.size()),
                      {}});
  const Tensors in = given.empty()
                         ? fresh_inputs(a.graph, static_cast<std::uint64_t>(arguments.get<std::int64_t>("seed")))
                         : in_order(a.signature, given, arguments.positionals.at(0));
  // By name where both have the names, else by position.
  Tensors in_b = in;
  for (std::size_t j = 0; j < in.size(); ++j) {
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (a.signature.inputs[i].name == b.signature.inputs[j].name) in_b[j] = in[i];
    }
  }
  const Tensors x = exec::run(a.graph, in), y = exec::run(b.graph, in_b);
  bool part = false;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::string& name = a.signature.outputs[i].name;
    if (x[i].type() != y[i].type()) {
      console.out(fmt::format("{}: {} and {}\n", name, to_string(x[i].type()), to_string(y[i].type())));
      part = true;
      continue;
    }
    const Difference d = difference(x[i], y[i]);
    part = part || d.relative > tolerance;
    console.out(fmt::format("{}: {} largest difference {:.3g}, relative {:.3g}\n", name, to_string(x[i].type()),
                            d.absolute, d.relative));
  }
  if (part) console.out(first_parting(a, b, in, in_b, tolerance));
  return part ? exit_error : exit_done;
}

}  // namespace tenon::files
