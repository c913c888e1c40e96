// Whole requests to both REST front ends, to reflection and to every gRPC method: method, target, headers and body as a
// client may send them. The first byte chooses the front end (its lowest bit), reflection ('r') or gRPC ('g'). For REST
// come the request line's words and headers, one a line, an empty line, and the body; for gRPC a line with the method's
// name and the message. Each request must be answered once.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <string_view>

#include "tenon/serve/health_grpc.h"
#include "tenon/serve/reflection.h"
#include "tenon/serve/tfs_grpc.h"
#include "tenon/serve/tfs_rest.h"
#include "tenon/serve/v2_grpc.h"
#include "tenon/serve/v2_rest.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/temp_folder.h"

namespace {

using namespace tenon;
using namespace tenon::serve;

class FuzzModel final : public Model {
 public:
  FuzzModel() {
    inputs_ = {{"x", {DType::F32}, true, {-1, 2}}};
    outputs_ = {{"y", {DType::F32}, true, {-1, 2}}};
    platform_ = "fuzz";
  }
  std::vector<Value> run(std::vector<Value> inputs) const override { return inputs; }
};

// A version for the loader below, which does not read it.
std::filesystem::path version_folder() {
  std::filesystem::path base = tenon::testing_support::temp_folder();
  std::filesystem::create_directories(base / "1");
  std::ofstream(base / "1" / "model.onnx") << "x";
  return base;
}

struct World {
  std::filesystem::path base = version_folder();
  Core core;
  HttpHandler handlers[2];
  RpcMethods reflection, grpc;

  World()
      : core({.scheduler = {.threads = 1},
              .repository = {.poll = std::chrono::milliseconds(-1),
                             .settle = std::chrono::milliseconds(0),
                             .loader = [](const auto&, auto) { return std::make_shared<FuzzModel>(); }}}) {
    core.repository().configure({{.name = "m", .base_path = base}, {.name = "half_plus_two", .base_path = base}});
    fuzz::require(core.repository().settle(std::chrono::seconds(60)));  // else nothing reads what is sent to a model
    handlers[0] = tfs_rest(core, {});
    handlers[1] = v2_rest(core, {});
    reflection = reflection_grpc({});
    for (auto& methods : {tfs_grpc(core, {}), v2_grpc(core, {}), health_grpc(core)}) {
      for (const auto& method : methods) {
        if (!method.repeats) grpc.push_back(method);  // those answer until the client goes
      }
    }
  }
};
World& world() {
  static World w;
  return w;
}

std::string_view line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view out = text.substr(0, end);
  text.remove_prefix(std::min(text.size(), end + 1));
  return out;
}

void request(const HttpHandler& handler, std::string_view text) {
  auto http = std::make_shared<HttpRequest>();
  http->method = line(text);
  http->target = line(text);
  if (http->target.empty() || http->target[0] != '/') http->target.insert(0, "/");
  while (!text.empty()) {
    const std::string_view field = line(text);
    if (field.empty()) break;
    const size_t colon = field.find(':');
    if (colon != std::string_view::npos) http->headers.emplace_back(field.substr(0, colon), field.substr(colon + 1));
  }
  http->body = text;
  auto answer = std::make_shared<std::promise<HttpResponse>>();
  auto future = answer->get_future();
  const Respond respond = [answer](HttpResponse r) { answer->set_value(std::move(r)); };  // a second one throws
  try {
    handler.handle(http, respond);
  } catch (const std::future_error&) {
    std::abort();
  } catch (...) {
    respond(handler.on_error(current_status()));
  }
  const HttpResponse response = future.get();
  fuzz::require(response.status >= 200 && response.status < 600);
  for (const auto& [name, value] : response.headers) {  // nothing of the request may end a header
    fuzz::require((std::string(name) + value).find_first_of("\r\n") == std::string::npos);
  }
}

void call_method(std::string_view text) {
  const std::string_view name = line(text);
  const auto& methods = world().grpc;
  const auto named =
      std::find_if(methods.begin(), methods.end(), [&](const auto& m) { return m.path.ends_with(name); });
  const RpcMethod& method = named == methods.end() ? methods[name.size() % methods.size()] : *named;
  auto call = std::make_shared<RpcCall>();
  const auto message = std::as_bytes(std::span(text));
  call->pieces = {message.first(message.size() / 2), message.subspan(message.size() / 2)};
  auto answer = std::make_shared<std::promise<void>>();
  auto future = answer->get_future();
  try {
    method.call(call, [answer](const Status&, const std::vector<Chunk>&) { answer->set_value(); });  // likewise
  } catch (const std::future_error&) {
    std::abort();
  } catch (...) {  // becomes the status
    answer->set_value();
  }
  future.get();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return tenon::fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    const auto kind = static_cast<char>(bytes[0]);
    bytes = bytes.subspan(1);
    if (kind == 'g') return call_method({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (kind != 'r')
      return request(world().handlers[kind & 1], {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    auto call = std::make_shared<RpcCall>();
    call->pieces.push_back(bytes);
    int answers = 0;
    world().reflection[0].call(call, [&](const Status&, const std::vector<Chunk>&) { ++answers; });
    tenon::fuzz::require(answers == 1);
  });
}
