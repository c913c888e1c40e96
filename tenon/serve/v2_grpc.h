// The Open Inference Protocol's gRPC service (inference.GRPCInferenceService) over a Core, with Triton's additions.
#pragma once

#include "tenon/serve/core.h"
#include "tenon/serve/rpc.h"

namespace tenon::serve {

struct V2GrpcOptions {
  // RepositoryModelLoad and Unload: off, or open to calls with the metadata "authorization: Bearer TOKEN".
  bool control = false;
  std::string control_token{};
  // Where they are when they are off here: "" or "REST on port 9000", as a part of the answer.
  std::string control_elsewhere{};
};

RpcMethods v2_grpc(Core& core, V2GrpcOptions options = {});

}  // namespace tenon::serve
