#include "tenon/serve/v2_json.h"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "tenon/serve/json_reader.h"
#include "tenon/serve/pipeline.h"
#include "tenon/serve/status.h"
#include "tenon/serve/tensor_json.h"

namespace tenon::serve {
namespace {

using Json = nlohmann::ordered_json;
using namespace std::string_view_literals;

constexpr int64_t kCopyBelow = 4096;  // smaller tensors of an answer are copied behind its JSON

std::string dumped(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

struct Parameters {
  std::optional<int64_t> binary_data_size;
  std::optional<bool> binary_data;
  std::optional<bool> binary_data_output;
  int priority = 0;
  std::chrono::nanoseconds timeout{0};
  std::map<std::string, std::string, std::less<>> texts{};
};

Parameters parse_parameters(JsonReader& json) {
  Parameters out;
  json.begin_object();
  for (std::string_view key; json.next_key(key);) {
    if (key == "binary_data_size") {
      out.binary_data_size = json.integer<int64_t>();
    } else if (key == "binary_data") {
      out.binary_data = json.boolean();
    } else if (key == "binary_data_output") {
      out.binary_data_output = json.boolean();
    } else if (key == "priority") {
      out.priority = priority_of(json.integer<int64_t>());
    } else if (key == "timeout") {
      out.timeout = std::chrono::microseconds(std::clamp<int64_t>(json.integer<int64_t>(), 0, int64_t{1} << 48));
    } else if (key.starts_with("shared_memory")) {
      no_shared_memory();
    } else if (json.peek() == JsonKind::String) {
      std::string& text = out.texts[std::string(key)];
      json.string(text);
      refuse_unsupported(key, text);
    } else if (json.peek() == JsonKind::Number) {
      std::string& text = out.texts[std::string(key)];
      text = json.number();
      refuse_unsupported(key, text);
    } else {
      json.skip_value();
    }
  }
  return out;
}

struct Input {
  std::string name, datatype;
  Shape dims;
  bool has_shape = false;
  std::optional<JsonReader::Mark> data;
  std::optional<int64_t> binary;
};

// All scalars of nested or flat lists, which must be `count`.
Value read_data(JsonReader& json, ElementType type, const Input& input, int64_t count) {
  ElementStore store(type);
  // A false shape must not take memory that the body does not fill.
  store.reserve(std::min<int64_t>(count, int64_t{1} << 20));
  if (json.peek() != JsonKind::Array) refuse(fmt::format("'data' of input '{}' must be a list", input.name));
  json.begin_array();
  size_t depth = 1;
  while (depth > 0) {
    if (!json.next_item()) {
      --depth;
    } else if (json.peek() == JsonKind::Array) {
      json.begin_array();
      ++depth;
    } else {
      if (store.count() == count)
        refuse(fmt::format("input '{}' has more than the {} elements of its shape", input.name, count));
      store.read(json);
    }
  }
  if (store.count() != count)
    refuse(fmt::format("input '{}' has {} elements; its shape [{}] says {}", input.name, store.count(),
                       fmt::join(input.dims.begin(), input.dims.end(), ","), count));
  return store.take(input.dims);
}

Input parse_input(JsonReader& json) {
  Input in;
  json.begin_object();
  for (std::string_view key; json.next_key(key);) {
    if (key == "name") {
      json.string(in.name);
    } else if (key == "datatype") {
      json.string(in.datatype);
    } else if (key == "shape") {
      in.has_shape = true;
      json.begin_array();
      while (json.next_item()) in.dims.push_back(json.integer<int64_t>());
    } else if (key == "parameters") {
      in.binary = parse_parameters(json).binary_data_size;
    } else if (key == "data") {
      in.data = json.mark();  // read once the type is known
      json.skip_value();
    } else {
      json.skip_value();
    }
  }
  if (in.name.empty()) refuse("an input has no 'name'");
  if (in.datatype.empty()) refuse(fmt::format("input '{}' has no 'datatype'", in.name));
  if (!in.has_shape) refuse(fmt::format("input '{}' has no 'shape'", in.name));
  return in;
}

V2Output parse_output(JsonReader& json, std::optional<bool>& binary) {
  V2Output out;
  json.begin_object();
  for (std::string_view key; json.next_key(key);) {
    if (key == "name")
      json.string(out.name);
    else if (key == "parameters")
      binary = parse_parameters(json).binary_data;
    else
      json.skip_value();
  }
  if (out.name.empty()) refuse("an output has no 'name'");
  return out;
}

V2Request raw_body(std::string_view body, std::shared_ptr<const void> owner, const Model& model) {
  if (model.inputs().size() != 1) refuse("a body that is one raw tensor is for models with one input");
  const TensorSpec& spec = model.inputs()[0];
  if (spec.type.strings() || !spec.has_rank)
    refuse("a body that is one raw tensor needs an input of known type and rank");
  std::vector<int64_t> dims = spec.dims;
  int64_t known = 1;
  int open = 0;
  for (int64_t d : dims) {
    if (d < 0)
      ++open;
    else
      known *= d;
  }
  const auto elements = static_cast<int64_t>(body.size()) / (info(*spec.type.dtype).bits / 8);
  if (open > 1) refuse("a body that is one raw tensor needs an input with at most one open extent");
  for (auto& d : dims) {
    if (d < 0) d = known == 0 ? 0 : elements / known;
  }
  V2Request out;
  out.binary_output = true;
  out.inputs.push_back(
      {spec.name, from_raw(std::as_bytes(std::span(body)), std::move(owner), spec.type, dims, spec.name)});
  return out;
}

}  // namespace

Value from_raw(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, ElementType type,
               std::span<const int64_t> dims, std::string_view input) {
  const int64_t count = checked_count(dims, input);
  Shape shape;
  for (int64_t d : dims) shape.push_back(d);
  if (!type.strings()) {
    const int64_t expected = byte_size(*type.dtype, count);
    if (expected != static_cast<int64_t>(bytes.size()))
      refuse(fmt::format("input '{}' has {} bytes; its shape and datatype take {}", input, bytes.size(), expected));
    return tensor_over(bytes, std::move(owner), *type.dtype, shape);
  }
  Strings out{shape, {}};
  size_t at = 0;
  while (at < bytes.size()) {
    uint32_t length = 0;
    if (bytes.size() - at < 4) refuse(fmt::format("input '{}': the length of a text is cut off", input));
    std::memcpy(&length, bytes.data() + at, 4);
    at += 4;
    if (bytes.size() - at < length) refuse(fmt::format("input '{}': a text is cut off", input));
    out.values.emplace_back(reinterpret_cast<const char*>(bytes.data()) + at, length);
    at += length;
    if (static_cast<int64_t>(out.values.size()) > count) break;
  }
  if (static_cast<int64_t>(out.values.size()) != count)
    refuse(fmt::format("input '{}' has {} texts; its shape says {}", input, out.values.size(), count));
  return out;
}

std::string raw_strings(const Strings& strings) {
  std::string out;
  for (const auto& text : strings.values) {
    const auto length = static_cast<uint32_t>(text.size());
    out.append(reinterpret_cast<const char*>(&length), 4);
    out += text;
  }
  return out;
}

Chunk raw_chunk(const Value& value) {
  if (const auto* strings = std::get_if<Strings>(&value)) return Chunk::of(raw_strings(*strings));
  const auto& tensor = std::get<Tensor>(value);
  if (tensor.size() == 0) return {};
  return {bytes_of(tensor), std::make_shared<const Tensor>(tensor)};
}

namespace {

// One entry of "inputs" (or, for a client, of "outputs"); takes its binary data from the front of `binary`.
NamedValue read_input(JsonReader& json, std::string_view& binary, const std::shared_ptr<const void>& owner) {
  Input in = parse_input(json);
  const ElementType type = type_from_v2(in.datatype);
  const int64_t count = checked_count(in.dims, in.name);
  if (in.binary) {
    if (in.data) refuse(fmt::format("input '{}' has both 'data' and 'binary_data_size'", in.name));
    if (*in.binary < 0 || static_cast<size_t>(*in.binary) > binary.size())
      refuse(fmt::format("input '{}' says {} bytes of binary data; {} are left in the body", in.name, *in.binary,
                         binary.size()));
    const std::string_view bytes = binary.substr(0, static_cast<size_t>(*in.binary));
    binary.remove_prefix(bytes.size());
    Value value = from_raw(std::as_bytes(std::span(bytes)), owner, type, in.dims, in.name);
    return {std::move(in.name), std::move(value)};
  }
  if (!in.data) refuse(fmt::format("input '{}' has neither 'data' nor 'binary_data_size'", in.name));
  const auto after = json.mark();
  json.back_to(*in.data);
  Value value = read_data(json, type, in, count);
  json.back_to(after);
  return {std::move(in.name), std::move(value)};
}

}  // namespace

void no_shared_memory() {
  throw RequestError(Code::Unimplemented, "shared memory regions are not supported: send the tensor's bytes");
}
void no_region(std::string_view name) { refuse(fmt::format("there is no shared memory region '{}'", name)); }

int priority_of(int64_t parameter) {
  constexpr int64_t kLowest = 1000;
  return parameter <= 0 ? 0 : static_cast<int>(kLowest + 1 - std::min(parameter, kLowest));
}

void refuse_unsupported(std::string_view parameter, std::string_view value) {
  if (value.empty() || value == "0") return;
  if (parameter == "classification")
    refuse("the parameter 'classification' (class_count) is not supported: take the scores and sort them");
  if (parameter == "sequence_id")
    refuse("the parameter 'sequence_id' is not supported: requests are independent of each other");
}

V2Request parse_v2(std::string_view body, std::optional<size_t> header_length, std::shared_ptr<const void> owner,
                   const std::function<const Model&()>& model) {
  if (header_length && *header_length == 0) return raw_body(body, std::move(owner), model());
  if (header_length && *header_length > body.size())
    refuse(
        fmt::format("Inference-Header-Content-Length is {}, but the body has {} bytes", *header_length, body.size()));
  std::string_view binary = header_length ? body.substr(*header_length) : std::string_view();
  JsonReader json(header_length ? body.substr(0, *header_length) : body);
  V2Request out;
  std::vector<std::optional<bool>> output_binary;
  if (json.peek() != JsonKind::Object) refuse("the request must be a JSON object");
  json.begin_object();
  bool inputs = false;
  for (std::string_view key; json.next_key(key);) {
    if (key == "id") {
      json.string(out.id);
    } else if (key == "parameters") {
      Parameters p = parse_parameters(json);
      out.texts = std::move(p.texts);
      out.binary_output = p.binary_data_output.value_or(false);
      out.priority = p.priority;
      out.timeout = p.timeout;
    } else if (key == "outputs") {
      json.begin_array();
      while (json.next_item()) out.outputs.push_back(parse_output(json, output_binary.emplace_back()));
    } else if (key == "inputs") {
      inputs = true;
      json.begin_array();
      while (json.next_item()) {
        out.inputs.push_back(read_input(json, binary, owner));
      }
    } else {
      json.skip_value();
    }
  }
  if (!inputs) refuse("the request has no 'inputs'");
  if (!binary.empty()) refuse(fmt::format("{} bytes of binary data belong to no input", binary.size()));
  for (size_t i = 0; i < out.outputs.size(); ++i) out.outputs[i].binary = output_binary[i].value_or(out.binary_output);
  return out;
}

std::vector<NamedValue> parse_v2_values(std::string_view body, std::string_view list) {
  std::vector<NamedValue> out;
  std::string_view binary;
  JsonReader json(body);
  json.begin_object();
  for (std::string_view key; json.next_key(key);) {
    if (key != list) {
      json.skip_value();
      continue;
    }
    json.begin_array();
    while (json.next_item()) out.push_back(read_input(json, binary, nullptr));
  }
  return out;
}

HttpResponse v2_answer(const V2Request& request, const InferResponse& response) {
  std::string json;
  json.reserve(256);
  json += "{\"model_name\":"sv;
  append_json(json, response.model);
  append_all(json, {",\"model_version\":\"", Digits(response.version), "\""});
  if (!request.id.empty()) {
    json += ",\"id\":"sv;
    append_json(json, request.id);
  }
  json += ",\"outputs\":["sv;
  const auto binary = [&](size_t i) {
    return i < request.outputs.size() ? request.outputs[i].binary : request.binary_output;
  };
  bool any_binary = false;
  for (size_t i = 0; i < response.outputs.size(); ++i) {
    const NamedValue& value = response.outputs[i];
    json += i > 0 ? ",{\"name\":"sv : "{\"name\":"sv;
    append_json(json, value.name);
    append_all(json, {",\"datatype\":\"", v2_name(type_of(value.value)), "\",\"shape\":["});
    append_list(json, shape_of(value.value));
    if (!binary(i)) {
      json += "],\"data\":"sv;
      append_flat(json, value.value);
      json += '}';
      continue;
    }
    any_binary = true;
    const auto* strings = std::get_if<Strings>(&value.value);
    const int64_t bytes = byte_size(value.value) + (strings ? 4 * numel(strings->shape) : 0);
    append_all(json, {"],\"parameters\":{\"binary_data_size\":", Digits(bytes), "}}"});
  }
  json += "]}"sv;
  HttpResponse out;
  if (any_binary) {
    out.content_type = "application/octet-stream";
    out.headers.emplace_back("Inference-Header-Content-Length", std::to_string(json.size()));
  }
  std::vector<Chunk> chunks;
  for (size_t i = 0; any_binary && i < response.outputs.size(); ++i) {
    if (!binary(i)) continue;
    const auto* tensor = std::get_if<Tensor>(&response.outputs[i].value);
    if (tensor && chunks.empty() && byte_size(response.outputs[i].value) <= kCopyBelow) {
      if (tensor->size() == 0) continue;
      const auto bytes = bytes_of(*tensor);
      json.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    } else {
      chunks.push_back(raw_chunk(response.outputs[i].value));
    }
  }
  out.body.reserve(1 + chunks.size());
  out.body.push_back(Chunk::of(std::move(json)));
  for (auto& chunk : chunks) out.body.push_back(std::move(chunk));
  return out;
}

// ---- what is known of models ----

namespace {

Json specs_of(const std::vector<TensorSpec>& specs) {
  Json out = Json::array();
  for (const auto& spec : specs)
    out.push_back({{"name", spec.name}, {"datatype", v2_name(spec.type)}, {"shape", spec.dims}});
  return out;
}
Json config_specs(const std::vector<TensorSpec>& specs, bool batched) {
  Json out = Json::array();
  for (const auto& spec : specs) {
    std::string type(v2_name(spec.type));
    if (type == "BYTES") type = "STRING";
    std::vector<int64_t> dims = spec.dims;
    if (batched && !dims.empty()) dims.erase(dims.begin());
    out.push_back({{"name", spec.name}, {"data_type", "TYPE_" + type}, {"dims", dims}});
  }
  return out;
}
Json pair(const CountAndTime& c) { return {{"count", c.count}, {"ns", c.ns}}; }

}  // namespace

std::string v2_model_metadata(const Model& model, const std::string& name, const std::vector<int64_t>& versions) {
  Json list = Json::array();
  for (int64_t v : versions) list.push_back(std::to_string(v));
  return dumped({{"name", name},
                 {"versions", list},
                 {"platform", model.platform()},
                 {"inputs", specs_of(model.inputs())},
                 {"outputs", specs_of(model.outputs())}});
}

std::map<std::string, std::string> config_parameters(const Lane& lane, const std::vector<LabelStatus>& labels,
                                                     const TrafficPtr& traffic) {
  std::map<std::string, std::string> out = lane.model().metadata();
  for (const auto& label : labels)
    out["label:" + label.label] = fmt::format("version {}{}", label.version, label.ready ? "" : " (pending)");
  if (std::string how = lane.model().execution(); !how.empty()) out["execution"] = std::move(how);
  if (!lane.why_no_batching().empty()) out["why_no_batching"] = lane.why_no_batching();
  if (traffic && traffic->options() != TrafficOptions()) out["traffic"] = traffic_json(lane.model_name(), *traffic);
  return out;
}

// An input of a batch axis alone would have no dims beside it, which Triton does not have and its perf_analyzer
// refuses.
int64_t config_batch_size(const Lane& lane) {
  const Model& model = lane.model();
  if (model.pipeline() || !model.why_not_batchable().empty()) return 0;
  for (const auto& spec : model.inputs()) {
    if (spec.dims.size() < 2) return 0;
  }
  const BatchingOptions& batching = lane.options().batching;
  return batching.enabled ? batching.max_batch_size : 1;
}

std::string v2_model_config(const Lane& lane, const std::vector<LabelStatus>& labels, const TrafficPtr& traffic) {
  const BatchingOptions& b = lane.options().batching;
  const int64_t batch_size = config_batch_size(lane);
  Json config{{"name", lane.model_name()},
              {"platform", lane.model().platform()},
              {"backend", "tenon"},
              {"max_batch_size", batch_size},
              {"input", config_specs(lane.model().inputs(), batch_size > 0)},
              {"output", config_specs(lane.model().outputs(), batch_size > 0)}};
  if (b.enabled)
    config["dynamic_batching"] = {{"preferred_batch_size", b.allowed_sizes},
                                  {"max_queue_delay_microseconds", b.timeout.count()}};
  if (const Pipeline* pipeline = lane.model().pipeline()) {
    config["ensemble_scheduling"]["step"] = Json::array();
    for (const auto& step : pipeline->options().steps)
      config["ensemble_scheduling"]["step"].push_back({{"model_name", step.model.name},
                                                       {"model_version", step.model.version.value_or(-1)},
                                                       {"input_map", step.inputs},
                                                       {"output_map", step.outputs}});
  }
  Json parameters = Json::object();
  for (const auto& [key, text] : config_parameters(lane, labels, traffic)) parameters[key] = {{"string_value", text}};
  config["parameters"] = parameters;
  return dumped(config);
}

std::string v2_statistics(const std::vector<LanePtr>& lanes) {
  Json list = Json::array();
  for (const auto& lane : lanes) {
    const Statistics s = lane->statistics();
    Json batches = Json::array();
    for (const auto& [size, batch] : s.batches)
      batches.push_back({{"batch_size", size},
                         {"compute_input", pair(batch.compute_input)},
                         {"compute_infer", pair(batch.compute_infer)},
                         {"compute_output", pair(batch.compute_output)}});
    list.push_back({{"name", lane->model_name()},
                    {"version", std::to_string(lane->version())},
                    {"last_inference", s.last_inference_ms},
                    {"inference_count", s.inferences},
                    {"execution_count", s.executions},
                    {"inference_stats",
                     {{"success", pair(s.success)},
                      {"fail", pair(s.fail)},
                      {"queue", pair(s.queue)},
                      {"compute_input", pair(s.compute_input)},
                      {"compute_infer", pair(s.compute_infer)},
                      {"compute_output", pair(s.compute_output)},
                      {"cache_hit", pair({})},
                      {"cache_miss", pair({})}}},
                    {"batch_stats", batches}});
  }
  return dumped({{"model_stats", list}});
}

std::string_view v2_state(VersionState state) {
  switch (state) {
    case VersionState::Available:
      return "READY";
    case VersionState::Loading:
      return "LOADING";
    case VersionState::Unloading:
      return "UNLOADING";
    default:
      return "UNAVAILABLE";
  }
}

std::string v2_index(const std::vector<IndexEntry>& entries, bool only_ready) {
  Json list = Json::array();
  for (const auto& e : entries) {
    const bool ready = e.state == VersionState::Available;
    if (only_ready && !ready) continue;
    Json item{{"name", e.name}};
    if (e.version > 0) item["version"] = std::to_string(e.version);
    item["state"] = v2_state(e.state);
    if (!e.reason.empty()) item["reason"] = e.reason;
    list.push_back(std::move(item));
  }
  return dumped(list);
}

std::string v2_error(std::string_view message) {
  std::string out = "{\"error\":";
  append_json(out, message);
  return out + "}";
}

}  // namespace tenon::serve
