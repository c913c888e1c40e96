// gRPC server reflection: lists the services and describes their messages, so that grpcurl and its like need no .proto
// files.
//
// The descriptions come from tenon/serve/proto through tools/serve_descriptors.py; run it when a .proto file changes.
#pragma once

#include <string_view>

#include "tenon/serve/rpc.h"

namespace tenon::serve {

// The services of `others`, and reflection itself (v1 and v1alpha).
RpcMethods reflection_grpc(const RpcMethods& others);

// In descriptors.cpp.
std::string_view descriptor_set_base64();

}  // namespace tenon::serve
