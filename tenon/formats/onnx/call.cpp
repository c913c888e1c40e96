#include "tenon/formats/onnx/call.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "tenon/base/error.h"
#include "tenon/trace/capture.h"

namespace tenon::formats::onnx {

void Call::unsupported(std::string problem, std::string hint) const {
  throw UnsupportedError({where, std::move(problem), {}, {}, std::move(hint)});
}
void Call::draws() const {
  if (for_later_runs) unsupported("draws other numbers each time");
}
void Call::fail(std::string problem, std::string expected, std::string got) const {
  throw ValueError({where, std::move(problem), std::move(expected), std::move(got), {}});
}

Tensor Call::tensor(size_t i) const {
  if (!has(i)) fail(fmt::format("input {} is missing", i));
  if (const auto* x = in[i].tensor()) return *x;
  if (const auto* codes = in[i].codes()) return decode(*codes);
  fail(fmt::format("input {} is no tensor of numbers", i), "a tensor", in[i].describe());
}
Tensor Call::value(size_t i) const {
  const Tensor x = tensor(i);
  return trace::known_value(x).value_or(x);
}
const Texts& Call::texts(size_t i) const {
  if (has(i)) {
    if (const auto* x = in[i].texts()) return *x;
  }
  fail(fmt::format("input {} is no tensor of strings", i), "strings", has(i) ? in[i].describe() : "nothing");
}
const Sequence& Call::sequence(size_t i) const {
  if (has(i)) {
    if (const auto* x = in[i].sequence()) return *x;
  }
  fail(fmt::format("input {} is no sequence", i), "a sequence", has(i) ? in[i].describe() : "nothing");
}
std::vector<int64_t> Call::integers(size_t i) const { return value(i).to_vector<int64_t>(); }
double Call::number(size_t i) const { return value(i).item<double>(); }

const Attribute* Call::attribute(std::string_view name) const {
  for (const Attribute* a : attributes) {
    if (a->name == name) return a;
  }
  return nullptr;
}
int64_t Call::integer_attribute(std::string_view name, int64_t fallback) const {
  const auto* a = attribute(name);
  return a ? a->i : fallback;
}
double Call::real_attribute(std::string_view name, double fallback) const {
  const auto* a = attribute(name);
  return a ? static_cast<double>(a->f) : fallback;
}
std::string Call::text_attribute(std::string_view name, const std::string& fallback) const {
  const auto* a = attribute(name);
  return a ? a->s : fallback;
}
std::vector<int64_t> Call::integers_attribute(std::string_view name, const std::vector<int64_t>& fallback) const {
  const auto* a = attribute(name);
  return a ? a->ints : fallback;
}
const GraphData& Call::graph_attribute(std::string_view name) const {
  const auto* a = attribute(name);
  if (!a || !a->graph) fail(fmt::format("the graph '{}' is missing", name));
  return *a->graph;
}
std::optional<std::vector<int64_t>> Call::integers_of(size_t input, std::string_view name) const {
  if (has(input)) return integers(input);
  if (const auto* a = attribute(name)) return a->ints;
  return std::nullopt;
}

Tensor tensor_of(const std::vector<int64_t>& list) { return from_vector(list, {static_cast<int64_t>(list.size())}); }

std::vector<const Rule*> all_rules() {
  std::vector<const Rule*> list;
  for (const auto& family :
       {math_rules(), shape_rules(), reduce_rules(), network_rules(), image_rules(), quantize_rules(), control_rules(),
        text_rules(), signal_rules(), training_rules(), contrib_rules()}) {
    for (const Rule& rule : family) list.push_back(&rule);
  }
  std::sort(list.begin(), list.end(),
            [](const Rule* a, const Rule* b) { return std::pair(a->domain, a->name) < std::pair(b->domain, b->name); });
  return list;
}

const Rule* find_rule(std::string_view domain, std::string_view name) {
  static const auto table = [] {
    std::unordered_map<std::string, const Rule*> map;
    for (const Rule* rule : all_rules()) map.emplace(fmt::format("{}.{}", rule->domain, rule->name), rule);
    return map;
  }();
  std::string key(domain);  // by hand: this is asked for each node of each run
  key.append(".").append(name);
  const auto found = table.find(key);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace tenon::formats::onnx
