// TLS for gRPC whose certificate is looked for again at every handshake (once a second at most).
//
// Open connections stay; files that are missing, damaged or do not fit each other leave the last good ones in force.
#pragma once

#include <memory>

#include "tenon/serve/http_server.h"

namespace grpc {
class ServerCredentials;
}

namespace tenon::serve {

// Errors: FileError if the files cannot be used now.
std::shared_ptr<grpc::ServerCredentials> reloading_credentials(const TlsFiles& files);

}  // namespace tenon::serve
