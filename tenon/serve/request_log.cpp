#include "tenon/serve/request_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tenon/base/error.h"
#include "tenon/base/tfrecord.h"
#include "tenon/serve/random.h"
#include "tenon/serve/tensor_json.h"
#include "tenon/serve/tfs_wire.h"

namespace tenon::serve {
namespace {

bool is_utf8(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    const int more = c < 0x80                ? 0
                     : c >= 0xC2 && c < 0xE0 ? 1
                     : c >= 0xE0 && c < 0xF0 ? 2
                     : c >= 0xF0 && c < 0xF5 ? 3
                                             : -1;
    if (more < 0 || i + static_cast<size_t>(more) >= s.size()) return false;
    for (int j = 1; j <= more; ++j) {
      if ((static_cast<unsigned char>(s[i + static_cast<size_t>(j)]) & 0xC0) != 0x80) return false;
    }
    const auto next = more > 0 ? static_cast<unsigned char>(s[i + 1]) : 0;
    if ((c == 0xE0 && next < 0xA0) || (c == 0xED && next >= 0xA0) || (c == 0xF0 && next < 0x90) ||
        (c == 0xF4 && next >= 0x90))
      return false;
    i += static_cast<size_t>(more) + 1;
  }
  return true;
}

void append_values(std::string& out, const std::vector<NamedValue>& values) {
  out += '[';
  for (const auto& [name, value] : values) {
    if (out.back() != '[') out += ',';
    out += "{\"name\":";
    append_json(out, name);
    const Shape& shape = shape_of(value);
    out += fmt::format(",\"datatype\":\"{}\",\"shape\":[{}],\"data\":", v2_name(type_of(value)),
                       fmt::join(shape.begin(), shape.end(), ","));
    const auto* strings = std::get_if<Strings>(&value);
    const bool bytes = strings && !std::all_of(strings->values.begin(), strings->values.end(), is_utf8);
    if (bytes)
      append_tensor(out, value, true);  // nested lists of {"b64": …}, which readers take as well
    else
      append_flat(out, value);
    out += '}';
  }
  out += ']';
}

int64_t bytes_of(const std::vector<NamedValue>& values) {
  int64_t sum = 0;
  for (const auto& v : values) sum += byte_size(v.value) + 64;
  return sum;
}

LogFileOptions file_of(const RequestLogOptions& options) {
  LogFileOptions file = options.file;
  file.extension = options.format == LogFormat::JsonLines ? ".jsonl" : ".tfrecord";
  return file;
}

RequestLogOptions checked(const std::string& name, RequestLogOptions options) {
  const auto wrong = faults(options);
  if (!wrong.empty())
    throw ValueError({fmt::format("request log of '{}'", name), fmt::format("{}", fmt::join(wrong, "; ")), {}, {}, {}});
  return options;
}

}  // namespace

std::vector<std::string> faults(const RequestLogOptions& o) {
  std::vector<std::string> out;
  if (o.file.prefix.empty()) out.emplace_back("the log has no file name");
  if (!(o.sampling_rate >= 0 && o.sampling_rate <= 1))
    out.push_back(fmt::format("the sampling_rate is {}: 0 to 1", o.sampling_rate));
  if (o.file.max_file_bytes < 1) out.emplace_back("max_file_bytes is below 1");
  if (o.file.max_queued_bytes < 1) out.emplace_back("max_queued_bytes is below 1");
  if (o.file.max_files < 0) out.emplace_back("max_files is below 0");
  return out;
}

std::string json_line(const LoggedRequest& r) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(r.time.time_since_epoch()).count();
  std::string out =
      fmt::format("{{\"time\":\"{:%FT%T}.{:06}Z\",\"model\":", fmt::gmtime(static_cast<std::time_t>(micros / 1000000)),
                  micros % 1000000);
  append_json(out, r.model);
  out += fmt::format(",\"version\":{},\"api\":\"{}\"", r.version, name(r.api));
  if (!r.trace_id.empty()) out += fmt::format(",\"trace_id\":\"{}\"", r.trace_id);
  out += fmt::format(",\"status\":\"{}\",\"duration_us\":{}", name(r.status.code), r.duration.count() / 1000);
  if (!r.status.ok()) {
    out += ",\"error\":";
    append_json(out, r.status.message);
  }
  out += ",\"request\":{\"inputs\":";
  append_values(out, r.inputs);
  if (!r.wanted.empty()) {
    out += ",\"outputs\":[";
    for (size_t i = 0; i < r.wanted.size(); ++i) {
      out += i > 0 ? ",{\"name\":" : "{\"name\":";
      append_json(out, r.wanted[i]);
      out += '}';
    }
    out += ']';
  }
  out += '}';
  if (r.status.ok()) {
    out += ",\"response\":{\"outputs\":";
    append_values(out, r.outputs);
    out += '}';
  }
  return out + "}\n";
}

// PredictionLog {log_metadata 1 {model_spec 1, sampling_config 2 {sampling_rate 1}, timestamp_secs 4}, predict_log 6
// {request 1, response 2}}
std::string prediction_log(const LoggedRequest& r, double sampling_rate) {
  constexpr const char* kSignature = "serving_default";
  WireWriter sampling, metadata, predict, out;
  sampling.real64(1, sampling_rate);
  metadata.message(1, write_model_spec(r.model, r.version, kSignature));
  metadata.message(2, sampling);
  metadata.integer(4, std::chrono::duration_cast<std::chrono::seconds>(r.time.time_since_epoch()).count());
  predict.message(
      1, write_predict(
             {.spec = {.ref = {.name = r.model}, .signature = kSignature}, .inputs = r.inputs, .outputs = r.wanted}));
  predict.message(2, write_predict_answer(r.outputs, write_model_spec(r.model, r.version, kSignature), false));
  out.message(1, metadata);
  out.message(6, predict);
  return out.to_string();
}

RequestLog::RequestLog(const std::string& name, RequestLogOptions options, Metrics& metrics, LogSink log)
    : options_(checked(name, std::move(options))),
      file_(file_of(options_), "requests/" + name, metrics, std::move(log)) {}

bool RequestLog::sampled() {
  return unit_random(options_.seed, drawn_.fetch_add(1, std::memory_order_relaxed)) < options_.sampling_rate;
}

bool RequestLog::write(LoggedRequest request) {
  const bool json = options_.format == LogFormat::JsonLines;
  if (!holds(request.status)) return false;
  const int64_t bytes = bytes_of(request.inputs) + bytes_of(request.outputs) + 256;
  return file_.push(
      [request = std::move(request), json, rate = options_.sampling_rate] {
        return json ? json_line(request) : tfrecord(prediction_log(request, rate));
      },
      bytes);
}

}  // namespace tenon::serve
