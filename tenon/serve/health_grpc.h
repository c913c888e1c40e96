// grpc.health.v1.Health: Check, and Watch, whose stream brings the status at once and then each change of it.
//
// The status is that of /readyz, for the server ("") and for each of its services by name.
#pragma once

#include "tenon/serve/core.h"
#include "tenon/serve/rpc.h"

namespace tenon::serve {

RpcMethods health_grpc(Core& core);

}  // namespace tenon::serve
