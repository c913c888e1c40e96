#include "tenon/serve/server.h"

#include <fmt/format.h>

#include <thread>

#include "tenon/serve/health_grpc.h"
#include "tenon/serve/reflection.h"
#include "tenon/serve/v2_grpc.h"

namespace tenon::serve {

// Both sinks as one; empty if there is none.
AccessSink Server::access_sink() {
  if (!options_.access_log) return options_.access;
  const auto file =
      std::make_shared<LogFile>(*options_.access_log, "access", core_->metrics(), options_.core.repository.log);
  return [file, next = options_.access](const AccessRecord& record) {
    if (next) next(record);
    file->push([line = json_line(record)] { return line; }, 512);
  };
}

Server::Server(ServerOptions options, std::vector<ModelConfig> models)
    : options_(std::move(options)), core_(std::make_unique<Core>(options_.core)) {
  const ServerOptions& o = options_;
  const AccessSink access = access_sink();
  const auto logged = [&](HttpHandler handler, const char* name) {
    return with_access_log(std::move(handler), name, access);
  };
  http_ = std::make_unique<HttpServer>(o.http, core_->admission(), core_->metrics());
  if (o.tfs_rest_port)
    ports_.tfs_rest =
        http_->listen("tfs_rest", o.address, *o.tfs_rest_port, logged(tfs_rest(*core_, o.tfs_rest), "tfs_rest"), o.tls);
  if (o.v2_rest_port)
    ports_.v2_rest = http_->listen("v2_rest", o.address, *o.v2_rest_port, logged(v2_rest(*core_), "v2_rest"), o.tls);
  if (o.control_port)
    ports_.control =
        http_->listen("control", o.address, *o.control_port,
                      logged(v2_rest(*core_, {.control = true, .control_token = o.control_token}), "control"), o.tls);
  std::vector<GrpcServer::Address> addresses;
  const auto& grpc_tls = o.grpc_tls ? o.grpc_tls : o.tls;
  if (o.tfs_grpc_port) addresses.push_back({.host = o.address, .port = *o.tfs_grpc_port, .path = {}, .tls = grpc_tls});
  if (o.v2_grpc_port) addresses.push_back({.host = o.address, .port = *o.v2_grpc_port, .path = {}, .tls = grpc_tls});
  if (!o.grpc_socket_path.empty()) addresses.push_back({.host = "unix", .path = o.grpc_socket_path, .tls = {}});
  if (!addresses.empty()) {
    RpcMethods methods = tfs_grpc(*core_, o.tfs_grpc);
    const V2GrpcOptions v2{.control = o.grpc_control && !o.control_token.empty(),
                           .control_token = o.control_token,
                           .control_elsewhere = o.control_port ? fmt::format("REST takes them on port {}",
                                                                             static_cast<int>(ports_.control))
                                                               : std::string()};
    for (auto& list : {v2_grpc(*core_, v2), health_grpc(*core_)})
      methods.insert(methods.end(), list.begin(), list.end());
    methods = with_access_log(std::move(methods), access);
    for (auto& method : reflection_grpc(methods)) methods.push_back(std::move(method));
    grpc_ = std::make_unique<GrpcServer>(o.grpc, std::move(methods), addresses, core_->admission(), core_->metrics());
    size_t next = 0;
    if (o.tfs_grpc_port) ports_.tfs_grpc = static_cast<uint16_t>(grpc_->ports()[next++]);
    if (o.v2_grpc_port) ports_.v2_grpc = static_cast<uint16_t>(grpc_->ports()[next++]);
  }
  core_->repository().configure(std::move(models));
}

Server::~Server() {
  // First everyone who waits is answered, then those who carry the answers go.
  core_->scheduler().stop();
  core_->repository().wait_no_more();
  grpc_.reset();
  http_.reset();
}

bool Server::stop(const Stop& how) {
  if (stopped_) return true;
  stopped_ = true;
  core_->leave();
  http_->wind_down();
  std::this_thread::sleep_for(how.grace);
  const auto until = Clock::now() + how.patience;
  const auto left = [&] {
    return std::max(std::chrono::milliseconds(0),
                    std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()));
  };
  http_->stop_accepting();
  core_->repository().wait_no_more();  // who loads by hand would hold up the end
  core_->scheduler().drain();
  if (grpc_) grpc_->shutdown(left());
  const bool done = core_->drain(left());
  while (http_->connections() > 0 && Clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return done;
}

}  // namespace tenon::serve
