// One call of an ONNX operator, as its rule sees it.
//
// A rule computes with Tenon's public functions, so an imported model is differentiated, batched and captured like any
// other. To add an operator: a row in the table of its family (rules_*.cpp).
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "tenon/formats/onnx/value.h"

namespace tenon::formats::onnx {

class Call {
 public:
  const NodeData& node;
  Values in;
  int64_t opset;  // of the operator's domain
  std::string where;
  // Attributes, those that refer to the function around already looked up.
  std::span<const Attribute* const> attributes;
  // Runs a graph among the attributes: it sees the values around it.
  std::function<Values(const GraphData&, Values)> run_graph;
  bool for_later_runs = false;  // what is recorded now stands for runs with other inputs

  [[nodiscard]] bool has(size_t i) const { return i < in.size() && !in[i].empty(); }
  // The i-th input. Errors: DTypeError or ValueError naming the node if it is absent or no tensor.
  [[nodiscard]] Tensor tensor(size_t i) const;
  // The i-th input, to be looked at: in a capture, what it is if that depends on none of the capture's inputs.
  [[nodiscard]] Tensor value(size_t i) const;
  [[nodiscard]] Tensor tensor_or_none(size_t i) const { return has(i) ? tensor(i) : Tensor(); }
  [[nodiscard]] const Texts& texts(size_t i) const;
  [[nodiscard]] const Sequence& sequence(size_t i) const;
  // All elements of an input whose value must be known: a shape, axes.
  [[nodiscard]] std::vector<int64_t> integers(size_t i) const;
  [[nodiscard]] double number(size_t i) const;

  [[nodiscard]] const Attribute* attribute(std::string_view name) const;
  [[nodiscard]] int64_t integer_attribute(std::string_view name, int64_t fallback) const;
  [[nodiscard]] double real_attribute(std::string_view name, double fallback) const;
  [[nodiscard]] std::string text_attribute(std::string_view name, const std::string& fallback) const;
  [[nodiscard]] std::vector<int64_t> integers_attribute(std::string_view name,
                                                        const std::vector<int64_t>& fallback = {}) const;
  [[nodiscard]] const GraphData& graph_attribute(std::string_view name) const;
  // A list that was an attribute up to some opset and an input afterwards; empty optional: neither is given.
  [[nodiscard]] std::optional<std::vector<int64_t>> integers_of(size_t input, std::string_view name) const;

  // To be called by who draws numbers at random. Errors: UnsupportedError where later runs would get the same ones.
  void draws() const;
  [[noreturn]] void unsupported(std::string problem, std::string hint = {}) const;
  [[noreturn]] void fail(std::string problem, std::string expected = {}, std::string got = {}) const;
};

struct Rule {
  std::string_view name;
  Values (*compute)(Call&);
  std::string_view domain = {};
  bool random = false;  // other numbers than other implementations give, or other ones each time
};

// The families.
std::span<const Rule> math_rules();
std::span<const Rule> shape_rules();
std::span<const Rule> reduce_rules();
std::span<const Rule> network_rules();
std::span<const Rule> image_rules();
std::span<const Rule> quantize_rules();
std::span<const Rule> control_rules();
std::span<const Rule> text_rules();
std::span<const Rule> signal_rules();
std::span<const Rule> training_rules();
std::span<const Rule> contrib_rules();

// All of them, by domain and name.
std::vector<const Rule*> all_rules();
const Rule* find_rule(std::string_view domain, std::string_view name);

// ---- helpers of rules ----
inline Ints ints_of(const std::vector<int64_t>& list) { return {list.begin(), list.end()}; }
// The numbers of both lists.
inline Ints joined(Ints a, const Ints& b) {
  for (int64_t v : b) a.push_back(v);
  return a;
}
Tensor tensor_of(const std::vector<int64_t>& list);

}  // namespace tenon::formats::onnx
