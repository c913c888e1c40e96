// TensorFlow Serving's gRPC services over a Core.
#pragma once

#include "tenon/serve/core.h"
#include "tenon/serve/rpc.h"

namespace tenon::serve {

struct TfsGrpcOptions {
  bool typed_lists = false;    // answer tensors as typed lists, as the original does unless told otherwise
  bool reload_config = false;  // accept HandleReloadConfigRequest: it lets a caller name any path
  LaneOptions lane{};          // of models that a reload brings
};

// PredictionService and ModelService.
RpcMethods tfs_grpc(Core& core, TfsGrpcOptions options = {});

}  // namespace tenon::serve
