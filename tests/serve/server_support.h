// A server for tests: on free ports of this machine, looking at the disk often, patient with nobody.
#pragma once

#include "tenon/serve/server.h"

namespace tenon::serve::testing_support {

inline ServerOptions quick_server() {
  ServerOptions options;
  options.address = "127.0.0.1";
  options.tfs_grpc_port = options.tfs_rest_port = options.v2_rest_port = options.v2_grpc_port = 0;
  options.core.scheduler.threads = 2;
  options.core.repository.poll = std::chrono::milliseconds(20);
  options.core.repository.settle = std::chrono::milliseconds(0);
  options.core.repository.retry_interval = std::chrono::milliseconds(20);
  options.http.threads = 2;
  return options;
}

}  // namespace tenon::serve::testing_support
