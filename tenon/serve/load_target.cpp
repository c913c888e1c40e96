#include "tenon/serve/load_target.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tenon/base/error.h"
#include "tenon/serve/status.h"
#include "tenon/serve/tensor_json.h"
#include "tenon/serve/tfs_wire.h"
#include "tenon/serve/v2_json.h"
#include "tenon/serve/v2_wire.h"

namespace tenon::serve {
namespace {

using Kind = LoadTarget::Kind;

[[noreturn]] void bad_url(const std::string& url) {
  throw ValueError({"loadtest",
                    "the URL has another form",
                    "http://HOST:PORT/v2/models/NAME, http://HOST:PORT/v1/models/NAME, grpc://HOST:PORT/NAME or "
                    "grpc://HOST:PORT/tensorflow/NAME; https:// and grpcs:// with TLS",
                    url,
                    {}});
}

}  // namespace

LoadTarget parse_load_url(const std::string& url) {
  LoadTarget t;
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos) bad_url(url);
  const std::string_view word = std::string_view(url).substr(0, scheme);
  t.tls = word == "https" || word == "grpcs";
  const bool grpc = word == "grpc" || word == "grpcs";
  if (!grpc && !t.tls && word != "http") bad_url(url);
  const std::string rest = url.substr(scheme + 3);
  const size_t slash = rest.find('/'), colon = rest.rfind(':', slash);
  if (slash == std::string::npos || colon == std::string::npos || colon > slash) bad_url(url);
  t.host = rest.substr(0, colon);
  const int port = std::atoi(rest.c_str() + colon + 1);
  if (port <= 0 || port > 65535) bad_url(url);
  t.port = static_cast<uint16_t>(port);
  t.path = rest.substr(slash);
  if (grpc) {
    constexpr std::string_view kTfs = "/tensorflow/";
    t.kind = t.path.starts_with(kTfs) ? Kind::TfsGrpc : Kind::V2Grpc;
    t.model = t.path.substr(t.kind == Kind::TfsGrpc ? kTfs.size() : 1);
  } else {
    for (const auto& [prefix, kind] :
         {std::pair("/v2/models/", Kind::V2Rest), std::pair("/v1/models/", Kind::TfsRest)}) {
      if (!t.path.starts_with(prefix)) continue;
      t.kind = kind;
      t.model = t.path.substr(std::strlen(prefix));
      t.model = t.model.substr(0, t.model.find('/'));
    }
  }
  if (t.model.empty()) bad_url(url);
  return t;
}

HttpConnection http_to(const LoadTarget& t, const ServerTrust& trust) {
  return {t.host, t.port, t.tls ? std::optional<ClientTls>(trust) : std::nullopt};
}
GrpcClient grpc_to(const LoadTarget& t, const ServerTrust& trust, int connections) {
  return GrpcClient(fmt::format("{}:{}", t.host, t.port), connections, t.tls ? std::optional(trust) : std::nullopt);
}

LoadMessage load_message(const LoadTarget& t, const std::vector<NamedValue>& values, bool as_json) {
  LoadMessage m;
  if (t.kind == Kind::V2Grpc) {
    m.body = write_infer({.ref = {.name = t.model}, .id = {}, .inputs = values, .outputs = {}}).to_string();
  } else if (t.kind == Kind::TfsGrpc) {
    m.body = write_predict({.spec = {.ref = {.name = t.model}}, .inputs = values, .outputs = {}}).to_string();
  } else if (t.kind == Kind::TfsRest) {
    m.body = "{\"inputs\": {";
    for (size_t i = 0; i < values.size(); ++i) {
      if (i > 0) m.body += ", ";
      append_json(m.body, values[i].name);
      m.body += ": ";
      append_tensor(m.body, values[i].value, false);
    }
    m.body += "}}";
    m.head = fmt::format("POST {}:predict HTTP/1.1\r\nContent-Type: application/json\r\n", t.path);
  } else {
    std::string binary;
    m.body = as_json ? "{\"inputs\":[" : "{\"parameters\":{\"binary_data_output\":true},\"inputs\":[";
    for (size_t i = 0; i < values.size(); ++i) {
      const Value& v = values[i].value;
      const Shape& shape = shape_of(v);
      m.body += fmt::format("{}{{\"name\":\"{}\",\"datatype\":\"{}\",\"shape\":[{}],", i > 0 ? "," : "", values[i].name,
                            v2_name(type_of(v)), fmt::join(shape.begin(), shape.end(), ","));
      const auto* tensor = std::get_if<Tensor>(&v);
      if (as_json || !tensor) {
        m.body += "\"data\":";
        append_flat(m.body, v);
        m.body += '}';
      } else {
        const auto bytes = bytes_of(*tensor);
        binary.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        m.body += fmt::format("\"parameters\":{{\"binary_data_size\":{}}}}}", bytes.size());
      }
    }
    m.body += "]}";
    m.head = fmt::format("POST {}/infer HTTP/1.1\r\nInference-Header-Content-Length: {}\r\n", t.path, m.body.size());
    m.body += binary;
  }
  return m;
}

namespace {

Value read_like(JsonReader& json, const Value& like) {
  TensorBuilder builder(type_of(like));
  builder.read(json);
  return builder.take_one();
}

// {"outputs": value} or {"outputs": {"name": value, …}}
std::vector<NamedValue> tfs_outputs(const std::string& body, const std::vector<NamedValue>& like) {
  std::vector<NamedValue> out;
  JsonReader json(body);
  json.begin_object();
  for (std::string key; json.next_key(key);) {
    if (key != "outputs") {
      json.skip_value();
      continue;
    }
    if (json.peek() != JsonKind::Object || is_base64_object(json)) {
      if (!like.empty()) out.push_back({like[0].name, read_like(json, like[0].value)});
      return out;
    }
    json.begin_object();
    for (std::string name; json.next_key(name);) {
      const auto found = std::find_if(like.begin(), like.end(), [&](const auto& v) { return v.name == name; });
      if (found == like.end())
        json.skip_value();
      else
        out.push_back({name, read_like(json, found->value)});
    }
  }
  return out;
}

}  // namespace

std::vector<NamedValue> load_answer(const LoadTarget& t, const std::string& body, const std::vector<NamedValue>& like) {
  if (t.kind == Kind::TfsRest) return tfs_outputs(body, like);
  if (t.kind == Kind::V2Rest) return parse_v2_values(body, "outputs");
  const auto owner = std::make_shared<const std::string>(body);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(*owner));
  return t.kind == Kind::V2Grpc ? read_infer_answer(WireReader(bytes), owner)
                                : read_predict_answer(WireReader(bytes), owner);
}

}  // namespace tenon::serve
