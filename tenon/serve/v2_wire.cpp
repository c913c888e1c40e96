#include "tenon/serve/v2_wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tenon/serve/pipeline.h"
#include "tenon/serve/status.h"
#include "tenon/serve/v2_json.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::serve {
namespace {

constexpr std::span<const std::span<const std::byte>> kNoPieces;
constexpr int64_t kCopyBelow = 256;  // a copy is cheaper than a piece

struct Parameter {
  std::string key;
  int64_t integer = 0;
  std::optional<std::string> text;  // also of a number
};
// InferParameter.
Parameter read_parameter(WireReader in) {
  Parameter out;
  while (in.next()) {
    if (in.field() == 1) {
      out.key = in.text();
    } else if (in.field() == 2) {
      WireReader value = in.sub();
      while (value.next()) {
        if (value.field() == 2 || value.field() == 5) {
          out.integer = value.int64();
          out.text = std::to_string(out.integer);
        } else if (value.field() == 3)
          out.text = value.text();
        else
          value.skip();
      }
    } else {
      in.skip();
    }
  }
  return out;
}

// A tensor's description: InferInputTensor, and InferOutputTensor in a client.
struct Described {
  std::string name, datatype;
  Shape dims;
  std::optional<WireReader> contents;
};

Described read_described(WireReader in) {
  Described out;
  while (in.next()) {
    switch (in.field()) {
      case 1:
        out.name = in.text();
        break;
      case 2:
        out.datatype = in.text();
        break;
      case 3:
        in.repeated([&](WireReader& r) { out.dims.push_back(r.int64()); });
        break;
      case 4:
        if (read_parameter(in.sub()).key.starts_with("shared_memory")) no_shared_memory();
        break;
      case 5:
        out.contents = in.sub();
        break;
      default:
        in.skip();
    }
    if (out.dims.size() > 254) refuse("a tensor has too many axes");
  }
  return out;
}

// InferRequestedOutputTensor: its name.
std::string read_output(WireReader in) {
  std::string name;
  while (in.next()) {
    if (in.field() == 1) {
      name = in.text();
    } else if (in.field() == 2) {
      const Parameter p = read_parameter(in.sub());
      if (p.key.starts_with("shared_memory")) no_shared_memory();
      refuse_unsupported(p.key, p.text.value_or(""));
    } else {
      in.skip();
    }
  }
  return name;
}

// InferTensorContents.
Value read_contents(WireReader in, ElementType type, const Described& tensor) {
  const int64_t count = checked_count(tensor.dims, tensor.name);
  const Shape& shape = tensor.dims;
  std::vector<int64_t> integers;
  std::vector<double> reals;
  std::vector<std::string> texts;
  while (in.next()) {
    switch (in.field()) {
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        in.repeated([&](WireReader& r) { integers.push_back(r.int64()); });
        break;
      case 6:
        in.repeated([&](WireReader& r) { reals.push_back(static_cast<double>(r.real32())); });
        break;
      case 7:
        in.repeated([&](WireReader& r) { reals.push_back(r.real64()); });
        break;
      case 8:
        texts.push_back(in.text());
        break;
      default:
        in.skip();
    }
  }
  const bool real = type.dtype && is_float(*type.dtype);
  if (type.dtype && (*type.dtype == DType::F16 || *type.dtype == DType::BF16))
    refuse(fmt::format("input '{}': {} travels only in raw_input_contents", tensor.name, v2_name(type)));
  const size_t given = type.strings() ? texts.size() : real ? reals.size() : integers.size();
  if (given + (type.strings() ? 0 : texts.size()) + (real ? integers.size() : reals.size()) !=
          static_cast<size_t>(count) ||
      given != static_cast<size_t>(count))
    refuse(fmt::format("input '{}' has {} values of its datatype; its shape says {}", tensor.name, given, count));
  if (type.strings()) return Strings{shape, std::move(texts)};
  Tensor out = empty(shape, *type.dtype);
  if (count == 0) return out;
  const View view = mutable_view(out);
  for (int64_t i = 0; i < count; ++i) {
    if (real)
      store_real(view, i, reals[static_cast<size_t>(i)]);
    else
      store_integer(view, i, integers[static_cast<size_t>(i)]);
  }
  return out;
}

// One raw tensor, from wherever its bytes lie.
Value read_raw(WireReader in, const std::shared_ptr<const void>& owner, ElementType type, const Described& tensor) {
  const size_t n = in.left();
  const auto whole = in.in_place(n);
  if (!whole.empty() || n == 0) return from_raw(whole, owner, type, tensor.dims, tensor.name);
  if (!type.strings()) {
    const int64_t count = checked_count(tensor.dims, tensor.name);
    if (static_cast<int64_t>(n) == byte_size(*type.dtype, count)) {
      Tensor out = empty(tensor.dims, *type.dtype);
      in.copy(mutable_data(out), n);
      return out;
    }
  }
  auto joined = std::make_shared<std::vector<std::byte>>(n);
  in.copy(joined->data(), n);
  return from_raw(*joined, joined, type, tensor.dims, tensor.name);
}

// Descriptions and, beside them, raw contents: a request's inputs or an answer's outputs.
std::vector<NamedValue> joined(std::vector<Described>& tensors, const std::vector<WireReader>& raw,
                               const std::shared_ptr<const void>& owner) {
  if (!raw.empty() && raw.size() != tensors.size())
    refuse(fmt::format("there are {} tensors and {} raw contents", tensors.size(), raw.size()));
  std::vector<NamedValue> out;
  for (size_t i = 0; i < tensors.size(); ++i) {
    Described& t = tensors[i];
    const ElementType type = type_from_v2(t.datatype);
    if (!raw.empty() && t.contents && t.contents->left() > 0)
      refuse(fmt::format("tensor '{}' has contents, though the message has raw contents", t.name));
    Value value = raw.empty() ? read_contents(t.contents.value_or(WireReader(kNoPieces)), type, t)
                              : read_raw(raw[i], owner, type, t);
    out.push_back({std::move(t.name), std::move(value)});
  }
  return out;
}

void write_raw(WireWriter& out, int field, const Value& value) {
  const auto* tensor = std::get_if<Tensor>(&value);
  if (!tensor || byte_size(value) > kCopyBelow) return out.chunk(field, raw_chunk(value));
  if (tensor->size() == 0) return out.bytes(field, {});
  const auto bytes = bytes_of(*tensor);
  out.bytes(field, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

void write_described(WireWriter& out, int field, const NamedValue& v) {
  const size_t at = out.open_message(field);
  out.text(1, v.name);
  out.text(2, v2_name(type_of(v.value)));
  const Shape& shape = shape_of(v.value);
  out.packed_varints(3, {shape.begin(), shape.end()});
  out.close_message(at);
}

WireWriter write_spec(const TensorSpec& spec) {
  WireWriter out;
  out.text(1, spec.name);
  out.text(2, v2_name(spec.type));
  out.packed_varints(3, spec.dims);
  return out;
}

WireWriter write_pair(const CountAndTime& c) {
  WireWriter out;
  out.integer(1, static_cast<int64_t>(c.count));
  out.integer(2, static_cast<int64_t>(c.ns));
  return out;
}

// model_config.proto's DataType.
int config_type(ElementType type) {
  constexpr std::string_view kNames[] = {"",      "BOOL",  "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16",
                                         "INT32", "INT64", "FP16",  "FP32",   "FP64",   "BYTES",  "BF16"};
  const auto found = std::find(std::begin(kNames), std::end(kNames), v2_name(type));
  return found == std::end(kNames) ? 0 : static_cast<int>(found - std::begin(kNames));
}

}  // namespace

V2Message read_infer(WireReader in, const std::shared_ptr<const void>& owner) {
  V2Message out;
  std::vector<Described> inputs;
  std::vector<WireReader> raw;
  while (in.next()) {
    switch (in.field()) {
      case 1:
        out.ref.name = in.text();
        break;
      case 2: {
        const std::string version = in.text();
        if (version.empty()) break;
        if (version.find_first_not_of("0123456789") != std::string::npos || version.size() > 18)
          refuse(fmt::format("'{}' is no version number", version));
        out.ref.version = std::stoll(version);
        break;
      }
      case 3:
        out.id = in.text();
        break;
      case 4: {
        const Parameter p = read_parameter(in.sub());
        if (p.text) out.texts[p.key] = *p.text;
        refuse_unsupported(p.key, p.text.value_or(""));
        if (p.key == "timeout")
          out.timeout = std::chrono::microseconds(std::clamp<int64_t>(p.integer, 0, int64_t{1} << 48));
        if (p.key == "priority") out.priority = priority_of(p.integer);
        break;
      }
      case 5:
        inputs.push_back(read_described(in.sub()));
        break;
      case 6:
        out.outputs.push_back(read_output(in.sub()));
        break;
      case 7:
        raw.push_back(in.sub());
        break;
      default:
        in.skip();
    }
  }
  out.inputs = joined(inputs, raw, owner);
  return out;
}

WireWriter write_infer(const V2Message& message) {
  WireWriter out;
  out.text(1, message.ref.name);
  if (message.ref.version) out.text(2, std::to_string(*message.ref.version));
  out.text(3, message.id);
  for (const auto& [key, text] : message.texts) {
    WireWriter parameter, value;
    value.bytes(3, text);
    parameter.text(1, key);
    parameter.message(2, value);
    out.message(4, parameter);
  }
  for (const auto& v : message.inputs) write_described(out, 5, v);
  for (const auto& name : message.outputs) {
    WireWriter output;
    output.text(1, name);
    out.message(6, output);
  }
  for (const auto& v : message.inputs) write_raw(out, 7, v.value);
  return out;
}

WireWriter write_infer_answer(const InferResponse& response, const std::string& id) {
  WireWriter out;
  out.text(1, response.model);
  out.text(2, std::to_string(response.version));
  out.text(3, id);
  for (const auto& v : response.outputs) write_described(out, 5, v);
  for (const auto& v : response.outputs) write_raw(out, 6, v.value);
  return out;
}

std::vector<NamedValue> read_infer_answer(WireReader in, const std::shared_ptr<const void>& owner) {
  std::vector<Described> outputs;
  std::vector<WireReader> raw;
  while (in.next()) {
    if (in.field() == 5)
      outputs.push_back(read_described(in.sub()));
    else if (in.field() == 6)
      raw.push_back(in.sub());
    else
      in.skip();
  }
  return joined(outputs, raw, owner);
}

WireWriter write_v2_metadata(const Model& model, const std::string& name, const std::vector<int64_t>& versions) {
  WireWriter out;
  out.text(1, name);
  for (int64_t v : versions) out.text(2, std::to_string(v));
  out.text(3, model.platform());
  for (const auto& spec : model.inputs()) out.message(4, write_spec(spec));
  for (const auto& spec : model.outputs()) out.message(5, write_spec(spec));
  return out;
}

namespace {

// Triton's ModelEnsembling.
WireWriter write_steps(const Pipeline& pipeline) {
  WireWriter out;
  for (const auto& step : pipeline.options().steps) {
    WireWriter one;
    one.text(1, step.model.name);
    one.integer(2, step.model.version.value_or(-1));
    for (const auto& [field, map] : {std::pair(3, &step.inputs), std::pair(4, &step.outputs)}) {
      for (const auto& [key, value] : *map) {
        WireWriter entry;
        entry.text(1, key);
        entry.text(2, value);
        one.message(field, entry);
      }
    }
    out.message(1, one);
  }
  return out;
}

}  // namespace

WireWriter write_v2_config(const Lane& lane, const std::vector<LabelStatus>& labels, const TrafficPtr& traffic) {
  const Model& model = lane.model();
  const Pipeline* pipeline = model.pipeline();
  const int64_t batch_size = config_batch_size(lane);
  WireWriter config, out;
  config.text(1, lane.model_name());
  config.text(2, model.platform());
  config.integer(4, batch_size);
  const auto tensor = [&](int field, const TensorSpec& spec, int dims_field) {
    WireWriter one;
    one.text(1, spec.name);
    one.integer(2, config_type(spec.type));
    std::span<const int64_t> dims = spec.dims;
    if (batch_size > 0 && !dims.empty()) dims = dims.subspan(1);
    one.packed_varints(dims_field, dims);
    config.message(field, one);
  };
  for (const auto& spec : model.inputs()) tensor(5, spec, 4);
  for (const auto& spec : model.outputs()) tensor(6, spec, 3);
  for (const auto& [key, text] : config_parameters(lane, labels, traffic)) {
    WireWriter parameter, entry;
    parameter.text(1, text);
    entry.text(1, key);
    entry.message(2, parameter);
    config.message(14, entry);
  }
  if (pipeline) config.message(15, write_steps(*pipeline));
  config.text(17, "tenon");
  out.message(1, config);
  return out;
}

WireWriter write_v2_statistics(const std::vector<LanePtr>& lanes) {
  WireWriter out;
  for (const auto& lane : lanes) {
    const Statistics s = lane->statistics();
    WireWriter one, timings;
    one.text(1, lane->model_name());
    one.text(2, std::to_string(lane->version()));
    one.integer(3, s.last_inference_ms);
    one.integer(4, static_cast<int64_t>(s.inferences));
    one.integer(5, static_cast<int64_t>(s.executions));
    const CountAndTime none;
    int field = 0;
    for (const auto* c :
         {&s.success, &s.fail, &s.queue, &s.compute_input, &s.compute_infer, &s.compute_output, &none, &none})
      timings.message(++field, write_pair(*c));
    one.message(6, timings);
    for (const auto& [size, b] : s.batches) {
      WireWriter batch;
      batch.integer(1, size);
      batch.message(2, write_pair(b.compute_input));
      batch.message(3, write_pair(b.compute_infer));
      batch.message(4, write_pair(b.compute_output));
      one.message(7, batch);
    }
    out.message(1, one);
  }
  return out;
}

WireWriter write_v2_index(const std::vector<IndexEntry>& entries, bool only_ready) {
  WireWriter out;
  for (const auto& e : entries) {
    const bool ready = e.state == VersionState::Available;
    if (only_ready && !ready) continue;
    WireWriter one;
    one.text(1, e.name);
    if (e.version > 0) one.text(2, std::to_string(e.version));
    one.text(3, v2_state(e.state));
    one.text(4, e.reason);
    out.message(1, one);
  }
  return out;
}

}  // namespace tenon::serve
