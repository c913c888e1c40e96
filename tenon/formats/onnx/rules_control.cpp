// Control flow, sequences and optionals. Loops run as C++ loops: their number of steps may depend on values.
#include <algorithm>
#include <array>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/formats/onnx/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/control.h"
#include "tenon/trace/state.h"

namespace tenon::formats::onnx {
namespace {

// All outputs of a branch as tensors.
Tensors tensors_of(Call& c, const Values& values) {
  Tensors list;
  for (const Value& v : values) {
    if (!v.tensor()) c.unsupported("a captured branch or loop gives something that is no tensor");
    list.push_back(*v.tensor());
  }
  return list;
}

Values if_rule(Call& c) {
  const Tensor chosen = reshape(c.value(0), {});
  if (chosen.is_concrete())
    return c.run_graph(c.graph_attribute(chosen.item<bool>() ? "then_branch" : "else_branch"), {});
  const auto branch = [&](const char* name) {
    return [&c, name](const Tensors&) { return tensors_of(c, c.run_graph(c.graph_attribute(name), {})); };
  };
  const Tensors out = cond(chosen, branch("then_branch"), branch("else_branch"));
  return {out.begin(), out.end()};
}

// Values gathered step by step: stacked, or of unknown kind if there was no step.
Value stacked(Call& c, std::vector<Values>& columns, size_t k, const GraphData& body, size_t output, int64_t axis = 0,
              bool reversed = false) {
  Tensors rows;
  for (auto& step : columns) {
    if (!step[k].tensor()) c.unsupported("a loop gathers values that are no tensors");
    rows.push_back(*step[k].tensor());
  }
  if (reversed) std::reverse(rows.begin(), rows.end());
  if (!rows.empty()) return stack(rows, axis);
  const TypeData& type = body.outputs[output].type;
  Shape shape{0};
  for (const auto& d : type.dims)
    shape.push_back(d.empty() || d.find_first_not_of("0123456789") != std::string::npos ? 0 : std::stoll(d));
  return zeros(shape, has_dtype(type.element) ? dtype_of(type.element, c.where) : DType::F32);
}

// Step by step, as C++: values may be looked at, and change their shapes.
Values unrolled_loop(Call& c) {
  const GraphData& body = c.graph_attribute("body");
  const int64_t most = c.has(0) ? reshape(c.value(0), {}).item<int64_t>() : INT64_MAX;
  bool go_on = !c.has(1) || reshape(c.value(1), {}).item<bool>();
  Values carried(c.in.begin() + 2, c.in.end());
  const size_t scans = body.outputs.size() - 1 - carried.size();
  std::vector<Values> columns;
  for (int64_t step = 0; step < most && go_on; ++step) {
    Values args{from_vector<int64_t>({step}, {}), from_vector<bool>({go_on}, {})};
    args.insert(args.end(), carried.begin(), carried.end());
    Values out = c.run_graph(body, std::move(args));
    if (!out[0].tensor()) c.fail("the body's condition is no tensor");
    go_on = reshape(trace::known_value(*out[0].tensor()).value_or(*out[0].tensor()), {}).item<bool>();
    carried.assign(out.begin() + 1, out.begin() + 1 + static_cast<std::ptrdiff_t>(carried.size()));
    columns.emplace_back(out.end() - static_cast<std::ptrdiff_t>(scans), out.end());
  }
  Values result = carried;
  for (size_t k = 0; k < scans; ++k) result.push_back(stacked(c, columns, k, body, 1 + carried.size() + k));
  return result;
}

bool capturing() { return !trace::state().recorders.empty(); }

// In a capture, as a loop of the graph: one with a known number of steps (a scan), or one that tests a condition (which
// can gather nothing). Nothing for a body that a graph cannot hold, because shapes change or values are looked at.
std::optional<Values> captured_loop(Call& c) {
  const GraphData& body = c.graph_attribute("body");
  Tensors carried;
  for (size_t i = 2; i < c.in.size(); ++i) {
    if (!c.in[i].tensor()) return {};
    carried.push_back(*c.in[i].tensor());
  }
  const size_t gathered = body.outputs.size() - 1 - carried.size();
  const Tensor most = c.has(0) ? reshape(c.value(0), {}) : Tensor();
  const Tensor begin = c.has(1) ? reshape(c.value(1), {}) : from_vector<bool>({true}, {});
  bool counted = most.defined() && most.is_concrete() && begin.is_concrete() && begin.item<bool>();
  const auto step = [&](const Tensor& number, const Tensor& go_on, const Tensors& values) {
    Values args{number, go_on};
    args.insert(args.end(), values.begin(), values.end());
    Tensors out = tensors_of(c, c.run_graph(body, std::move(args)));
    out[0] = cast(reshape(out[0], {}), boolean);
    return out;
  };
  if (counted) {
    const auto scanned = [&](const Tensors& values, const Tensors& x) {
      const Tensors out = step(x[0], from_vector<bool>({true}, {}), values);
      const auto known = trace::known_value(out[0]);
      if (!known || !known->item<bool>()) {  // the loop may end early: not a scan
        counted = false;
        c.unsupported("a loop that ends when its body says so");
      }
      const auto middle = out.begin() + 1 + static_cast<std::ptrdiff_t>(values.size());
      return ScanStep{{out.begin() + 1, middle}, {middle, out.end()}};
    };
    try {
      const ScanStep all = scan(scanned, carried, {arange(most.item<int64_t>())});
      Values result(all.carry.begin(), all.carry.end());
      result.insert(result.end(), all.rows.begin(), all.rows.end());
      return result;
    } catch (const Error&) {
      if (counted) return {};
    }
  }
  if (gathered != 0) return {};
  Tensors values{from_vector<int64_t>({0}, {}), cast(begin, boolean)};
  values.insert(values.end(), carried.begin(), carried.end());
  const auto condition = [&](const Tensors& v) { return most.defined() ? logical_and(v[1], v[0] < most) : v[1]; };
  const auto next = [&](const Tensors& v) {
    Tensors out = step(v[0], v[1], {v.begin() + 2, v.end()});
    out.insert(out.begin(), v[0] + 1);
    return out;
  };
  try {
    const Tensors out = while_loop(condition, next, values);
    return Values(out.begin() + 2, out.end());
  } catch (const Error&) {
    return {};
  }
}

Values loop_rule(Call& c) {
  if (capturing()) {
    if (auto result = captured_loop(c)) return *std::move(result);
  }
  return unrolled_loop(c);
}

// Opset 8: the loop runs for each example of a batch; the first input, lengths, is not supported.
Values scan_of_batch(Call& c, const GraphData& body, size_t scanned) {
  if (c.has(0)) c.unsupported("Scan of opset 8 with sequence lengths");
  const size_t states = c.in.size() - 1 - scanned, rows = body.outputs.size() - states;
  const int64_t batch = c.tensor(1).shape(0);
  const auto directions = c.integers_attribute("directions");
  std::vector<Tensors> results(states + rows);
  for (int64_t b = 0; b < batch; ++b) {
    Values carried;
    for (size_t k = 0; k < states; ++k) carried.emplace_back(c.tensor(1 + k)[b]);
    Tensors xs;
    for (size_t k = 0; k < scanned; ++k) xs.push_back(c.tensor(1 + states + k)[b]);
    const int64_t steps = xs.empty() ? 0 : xs[0].shape(0);
    std::vector<Values> columns;
    for (int64_t step = 0; step < steps; ++step) {
      Values args = carried;
      for (size_t k = 0; k < scanned; ++k)
        args.emplace_back(xs[k][k < directions.size() && directions[k] != 0 ? steps - 1 - step : step]);
      Values out = c.run_graph(body, std::move(args));
      carried.assign(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(states));
      columns.emplace_back(out.begin() + static_cast<std::ptrdiff_t>(states), out.end());
    }
    for (size_t k = 0; k < states; ++k) results[k].push_back(*carried[k].tensor());
    for (size_t k = 0; k < rows; ++k) results[states + k].push_back(*stacked(c, columns, k, body, states + k).tensor());
  }
  Values out;
  for (auto& examples : results) out.emplace_back(stack(examples, 0));
  return out;
}

Values scan_rule(Call& c) {
  const GraphData& body = c.graph_attribute("body");
  const auto scanned = static_cast<size_t>(c.integer_attribute("num_scan_inputs", 1));
  if (c.opset < 9) return scan_of_batch(c, body, scanned);
  const size_t states = c.in.size() - scanned, rows = body.outputs.size() - states;
  const auto at = [](const std::vector<int64_t>& list, size_t k) { return k < list.size() ? list[k] : 0; };
  const auto in_axes = c.integers_attribute("scan_input_axes"), in_back = c.integers_attribute("scan_input_directions");
  const auto out_axes = c.integers_attribute("scan_output_axes"),
             out_back = c.integers_attribute("scan_output_directions");
  Values carried(c.in.begin(), c.in.begin() + static_cast<std::ptrdiff_t>(states));
  Tensors xs;
  for (size_t k = 0; k < scanned; ++k) xs.push_back(moveaxis(c.tensor(states + k), at(in_axes, k), 0));
  if (capturing() && !xs.empty()) {
    // Backwards is forwards over what is turned round.
    for (size_t k = 0; k < scanned; ++k)
      if (at(in_back, k) != 0) xs[k] = flip(xs[k], {0});
    const auto body_step = [&](const Tensors& state, const Tensors& x) {
      Values args(state.begin(), state.end());
      args.insert(args.end(), x.begin(), x.end());
      const Tensors out = tensors_of(c, c.run_graph(body, std::move(args)));
      const auto middle = out.begin() + static_cast<std::ptrdiff_t>(states);
      return ScanStep{{out.begin(), middle}, {middle, out.end()}};
    };
    const ScanStep all = scan(body_step, tensors_of(c, carried), xs);
    Values result(all.carry.begin(), all.carry.end());
    for (size_t k = 0; k < rows; ++k) {
      const Tensor row = at(out_back, k) != 0 ? flip(all.rows[k], {0}) : all.rows[k];
      result.emplace_back(moveaxis(row, 0, at(out_axes, k)));
    }
    return result;
  }
  const int64_t steps = xs.empty() ? 0 : xs[0].shape(0);
  std::vector<Values> columns;
  for (int64_t step = 0; step < steps; ++step) {
    Values args = carried;
    for (size_t k = 0; k < scanned; ++k) args.emplace_back(xs[k][at(in_back, k) != 0 ? steps - 1 - step : step]);
    Values out = c.run_graph(body, std::move(args));
    carried.assign(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(states));
    columns.emplace_back(out.begin() + static_cast<std::ptrdiff_t>(states), out.end());
  }
  Values result = carried;
  for (size_t k = 0; k < rows; ++k)
    result.push_back(stacked(c, columns, k, body, states + k, at(out_axes, k), at(out_back, k) != 0));
  return result;
}

// ---- sequences ----
Values sequence_construct(Call& c) { return {Sequence{c.in, nullptr}}; }
Values sequence_empty(Call&) { return {Sequence{}}; }

size_t position(Call& c, size_t input, int64_t size, int64_t fallback, int64_t past_end = 0) {
  int64_t p = c.has(input) ? reshape(c.value(input), {}).item<int64_t>() : fallback;
  if (p < 0) p += size;
  if (p < 0 || p >= size + past_end)
    c.fail("a position out of the sequence", "below " + std::to_string(size + past_end), std::to_string(p));
  return static_cast<size_t>(p);
}

Values sequence_insert(Call& c) {
  Sequence s = c.sequence(0);
  const auto size = static_cast<int64_t>(s.items.size());
  const size_t p = position(c, 2, size, size, 1);
  s.items.insert(s.items.begin() + static_cast<std::ptrdiff_t>(p), c.in[1]);
  return {s};
}
Values sequence_erase(Call& c) {
  Sequence s = c.sequence(0);
  const auto size = static_cast<int64_t>(s.items.size());
  s.items.erase(s.items.begin() + static_cast<std::ptrdiff_t>(position(c, 1, size, size - 1)));
  return {s};
}
Values sequence_at(Call& c) {
  const Sequence& s = c.sequence(0);
  return {s.items[position(c, 1, static_cast<int64_t>(s.items.size()), 0)]};
}
Values sequence_length(Call& c) {
  return {from_vector<int64_t>({static_cast<int64_t>(c.sequence(0).items.size())}, {})};
}

Values concat_from_sequence(Call& c) {
  const int64_t axis = c.integer_attribute("axis", 0);
  Tensors parts;
  for (const Value& item : c.sequence(0).items) {
    if (!item.tensor()) c.unsupported("a sequence of something else than tensors");
    parts.push_back(*item.tensor());
  }
  return {c.integer_attribute("new_axis", 0) != 0 ? stack(parts, axis) : concat(parts, axis)};
}

Values split_to_sequence(Call& c) {
  const Tensor x = c.tensor(0);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", 0), x.ndim()), extent = x.shape(axis);
  const bool keep = c.has(1) || c.integer_attribute("keepdims", 1) != 0;
  std::vector<int64_t> sizes;
  if (!c.has(1)) {
    sizes.assign(static_cast<size_t>(extent), 1);
  } else if (c.tensor(1).ndim() == 0) {
    const int64_t each = c.value(1).item<int64_t>();
    if (each < 1) c.fail("parts of no extent");
    for (int64_t left = extent; left > 0; left -= each) sizes.push_back(std::min(left, each));
  } else {
    sizes = c.integers(1);
  }
  Sequence s;
  for (auto& part : split(x, ints_of(sizes), axis)) s.items.emplace_back(keep ? part : squeeze(part, {axis}));
  return {s};
}

Values sequence_map(Call& c) {
  const GraphData& body = c.graph_attribute("body");
  const size_t steps = c.sequence(0).items.size();
  std::vector<Sequence> out(body.outputs.size());
  for (size_t k = 0; k < steps; ++k) {
    Values args;
    for (const Value& v : c.in) {
      const Sequence* s = v.sequence();
      if (s && k >= s->items.size()) c.fail("sequences of different length");
      args.push_back(s ? s->items[k] : v);
    }
    const Values results = c.run_graph(body, std::move(args));
    for (size_t i = 0; i < results.size(); ++i) out[i].items.push_back(results[i]);
  }
  Values values;
  for (auto& s : out) values.emplace_back(std::move(s));
  return values;
}

// ---- optionals ----
Values optional(Call& c) { return {c.has(0) ? c.in[0] : Value()}; }
Values optional_has_element(Call& c) { return {from_vector<bool>({c.has(0)}, {})}; }
Values optional_get_element(Call& c) {
  if (!c.has(0)) c.fail("the optional is empty");
  return {c.in[0]};
}

constexpr std::array kRules{
    Rule{"If", if_rule},
    Rule{"Loop", loop_rule},
    Rule{"Scan", scan_rule},
    Rule{"SequenceConstruct", sequence_construct},
    Rule{"SequenceEmpty", sequence_empty},
    Rule{"SequenceInsert", sequence_insert},
    Rule{"SequenceErase", sequence_erase},
    Rule{"SequenceAt", sequence_at},
    Rule{"SequenceLength", sequence_length},
    Rule{"ConcatFromSequence", concat_from_sequence},
    Rule{"SplitToSequence", split_to_sequence},
    Rule{"SequenceMap", sequence_map},
    Rule{"Optional", optional},
    Rule{"OptionalHasElement", optional_has_element},
    Rule{"OptionalGetElement", optional_get_element},
};

}  // namespace

std::span<const Rule> control_rules() { return kRules; }

}  // namespace tenon::formats::onnx
