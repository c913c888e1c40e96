#include "tenon/formats/onnx/capture.h"

#include <fmt/format.h>

#include <set>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"
#include "tenon/trace/capture.h"

namespace tenon::formats::onnx {
namespace {

// "past_sequence + 1" -> "past_sequence___1"
std::string as_size_name(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    name += word ? c : '_';
  }
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) name.insert(0, "n");
  return ir::is_size_name(name) ? name : name + "_";
}

// Each part of a sum by itself: "past_sequence + 1" stays one.
std::string as_sum(const std::string& text) {
  std::string sum, part;
  const auto take = [&] {
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    sum += (sum.empty() ? "" : " + ") + (number ? part : as_size_name(part));
    part.clear();
  };
  for (const char c : text) {
    if (c == '+' && !part.empty()) {
      take();
    } else if (c != ' ' && c != '+') {
      part += c;
    }
  }
  take();
  return sum;
}

bool is_number(const std::string& dim) {
  return !dim.empty() && dim.find_first_not_of("0123456789") == std::string::npos;
}

InputSpec spec_of(const ValueInfo& info, const ModelCaptureOptions& options, std::set<std::string>& open) {
  const TypeData& type = info.type;
  const std::string where = fmt::format("input '{}'", info.name);
  if (type.kind != TypeData::Kind::Tensor || !has_dtype(type.element))
    throw UnsupportedError({where, "only tensors of numbers can be captured", {}, {}, {}});
  if (!type.has_shape) throw UnsupportedError({where, "the model does not say of which rank it is", {}, {}, {}});
  std::vector<Dim> dims;
  for (size_t axis = 0; axis < type.dims.size(); ++axis) {
    const std::string& dim = type.dims[axis];
    if (is_number(dim)) {
      dims.emplace_back(std::stoll(dim));
      continue;
    }
    const std::string name = dim.empty() ? as_size_name(fmt::format("{}_{}", info.name, axis)) : as_sum(dim);
    const auto given = options.sizes.find(name);
    const Dim named(name, 0);  // a model does not say how small is too small
    dims.push_back(given == options.sizes.end() ? named : given->second);
    if (given == options.sizes.end()) open.insert(name);
  }
  return {info.name, dtype_of(type.element, where), std::move(dims)};
}

}  // namespace

ir::Graph capture_model(const Model& model, const ModelCaptureOptions& options) {
  std::vector<InputSpec> specs;
  std::set<std::string> open;
  for (const auto& info : model.inputs()) specs.push_back(spec_of(info, options, open));
  CaptureOptions how{.name = model.data().graph.name};
  for (const auto& info : model.outputs()) how.outputs.push_back(info.name);
  how.check = options.check;
  how.weights = captured_weights(model);
  const auto fn = [&](const Tensors& in) { return model(in); };
  try {
    const ir::Graph graph = capture(fn, specs, how);
    if (options.check && graph.sizes.empty()) check_capture(graph, fn);
    return graph;
  } catch (const Error& error) {
    if (open.empty()) throw;
    ErrorParts parts = error.parts();
    parts.hint = fmt::format("numbers for sizes that the model cannot leave open: {}", fmt::join(open, ", "));
    throw UnsupportedError(parts);
  }
}

StateDict captured_weights(const Model& model) {
  StateDict dict;
  for (const auto& [name, tensor] : parameters_of(model)) {
    if (tensor.ndim() >= 2 && tensor.size() > 16) dict.set(name, tensor);
  }
  return dict;
}

StateDict parameters_of(const Model& model) {
  StateDict dict;
  for (const auto& [name, value] : model.parameters()) {
    if (value.tensor()) dict.set(name, *value.tensor());
  }
  return dict;
}

}  // namespace tenon::formats::onnx
