#include "tenon/serve/access_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "tenon/serve/json_reader.h"

namespace tenon::serve {
namespace {

constexpr size_t kLongestText = 1024;  // of an error

// {"error": "…"} as all front ends write it.
std::string error_text(const HttpResponse& r) {
  const std::string body = r.body_text();
  try {
    JsonReader json(body);
    json.begin_object();
    for (std::string key; json.next_key(key);) {
      if (key != "error") {
        json.skip_value();
        continue;
      }
      std::string text;
      json.string(text);
      return text.substr(0, kLongestText);
    }
  } catch (const RequestError&) {
    return body.substr(0, kLongestText);
  }
  return {};
}

Code code_of(int http) {
  for (int c = 0; c <= static_cast<int>(Code::Unauthenticated); ++c) {
    if (http_status(Status{static_cast<Code>(c)}) == http) return static_cast<Code>(c);
  }
  if (http == 413 || http == 431) return Code::ResourceExhausted;
  return http < 400 ? Code::Ok : http < 500 ? Code::InvalidArgument : Code::Internal;
}

std::string_view level(Code code) {
  switch (code) {
    case Code::Ok:
      return "info";
    case Code::Unknown:
    case Code::Internal:
    case Code::DataLoss:
    case Code::Unavailable:
    case Code::DeadlineExceeded:
      return "error";
    default:
      return "warning";
  }
}

int64_t size_of(const std::vector<Chunk>& body) {
  int64_t n = 0;
  for (const auto& chunk : body) n += static_cast<int64_t>(chunk.bytes.size());
  return n;
}

}  // namespace

std::string json_line(const AccessRecord& r) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(r.time.time_since_epoch()).count();
  std::string out =
      fmt::format("{{\"time\":\"{:%FT%T}.{:06}Z\",\"level\":\"{}\",\"event\":\"request\",\"listener\":",
                  fmt::gmtime(static_cast<std::time_t>(micros / 1000000)), micros % 1000000, level(r.status.code));
  const auto text = [&](std::string_view key, std::string_view value) {
    if (value.empty()) return;
    out += fmt::format(",\"{}\":", key);
    append_json(out, value);
  };
  append_json(out, r.listener);
  text("method", r.method);
  text("target", r.target);
  if (r.http_status != 0) out += fmt::format(",\"http_status\":{}", r.http_status);
  text("status", name(r.status.code));
  text("error", r.status.message);
  text("model", r.model);
  if (!r.model.empty()) out += fmt::format(",\"version\":{}", r.version);
  out += fmt::format(",\"bytes_in\":{},\"bytes_out\":{},\"duration_us\":{}", r.bytes_in, r.bytes_out,
                     r.duration.count() / 1000);
  text("trace_id", r.trace.trace_id());
  text("span_id", r.trace.span_id());
  text("parent_id", r.trace.parent_id());
  text("tracestate", r.tracestate);
  return out + "}\n";
}

HttpHandler with_access_log(HttpHandler handler, std::string listener, AccessSink sink) {
  if (!sink) return handler;
  HttpHandler out = handler;
  out.handle = [handler, listener = std::move(listener), sink = std::move(sink)](const HttpRequestPtr& request,
                                                                                 const Respond& respond) {
    AccessRecord record{.time = std::chrono::system_clock::now(),
                        .listener = listener,
                        .method = request->method,
                        .target = request->target,
                        .bytes_in = static_cast<int64_t>(request->body.size()),
                        .trace = request->trace,
                        .tracestate = std::string(request->header("tracestate"))};
    const auto begun = Clock::now();
    const Respond told = [record, begun, sink, request, respond](HttpResponse r) mutable {
      record.http_status = r.status;
      record.status.code = code_of(r.status);
      if (r.status >= 400) record.status.message = error_text(r);
      record.model = request->answered_by.model;
      record.version = request->answered_by.version;
      record.bytes_out = size_of(r.body);
      record.duration = Clock::now() - begun;
      sink(record);
      respond(std::move(r));
    };
    try {
      handler.handle(request, told);
    } catch (...) {  // as the listener would answer it
      told(handler.on_error(current_status()));
    }
  };
  return out;
}

RpcMethods with_access_log(RpcMethods methods, const AccessSink& sink) {
  if (!sink) return methods;
  for (auto& method : methods) {
    method.call = [inner = method.call, path = method.path, sink](const RpcCallPtr& call, const RpcAnswer& answer) {
      AccessRecord record{.time = std::chrono::system_clock::now(),
                          .listener = "grpc",
                          .method = "RPC",
                          .target = path,
                          .trace = call->trace,
                          .tracestate = std::string(call->value("tracestate"))};
      for (const auto& piece : call->pieces) record.bytes_in += static_cast<int64_t>(piece.size());
      const auto begun = Clock::now();
      const RpcAnswer told = [record, begun, sink, call, answer](Status status, std::vector<Chunk> message) mutable {
        record.status = {status.code, status.message.substr(0, kLongestText), 0};
        record.model = call->answered_by.model;
        record.version = call->answered_by.version;
        record.bytes_out = size_of(message);
        record.duration = Clock::now() - begun;
        sink(record);
        answer(std::move(status), std::move(message));
      };
      try {
        inner(call, told);
      } catch (...) {
        told(current_status(), {});
      }
    };
  }
  return methods;
}

}  // namespace tenon::serve
