// Remote calls as the services see them: bytes in, bytes out, a deadline, a client that may go. No gRPC here.
//
// A service is a list of methods; grpc_server.h puts them on a port. To add a method: a row in the service's list.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tenon/serve/http.h"
#include "tenon/serve/request.h"

namespace tenon::serve {

// One message that came, and what its answer needs.
struct RpcCall {
  std::vector<std::span<const std::byte>> pieces;  // of the message
  std::shared_ptr<const void> owner;               // of the pieces
  Clock::time_point deadline = kNever;
  CancelPtr cancel = std::make_shared<Cancel>();
  Admission::Ticket ticket;
  Trace trace{};
  AnsweredBy answered_by{};  // set by the service once it knows
  HeaderList metadata;       // of the call, lower case

  // The first value of a key, "" if absent.
  [[nodiscard]] std::string_view value(std::string_view key) const { return metadata.find(key); }
};
using RpcCallPtr = std::shared_ptr<RpcCall>;

// The answer; called exactly once for each message, on any thread. The status's message is cut to 1024 characters.
using RpcAnswer = std::function<void(Status, std::vector<Chunk>)>;

struct RpcMethod {
  std::string path;  // "/package.Service/Method"
  // What it throws becomes the status.
  std::function<void(const RpcCallPtr&, const RpcAnswer&)> call;
  // True: the client sends messages as it likes and each gets its answer, in order; a status that is not OK ends it.
  bool stream = false;
  // The one message of the client gets any number of answers, until the client goes or the server stops: `call` may use
  // its answer as often as it likes, and learns by `cancel` when to stop.
  bool repeats = false;
  // Reads the status of an answer into the message instead (a stream that goes on after an error).
  std::function<std::vector<Chunk>(const Status&)> error_message = {};
  bool small = false;   // not subject to admission: health, metadata
  bool blocks = false;  // must not run on a thread of the transport
};
using RpcMethods = std::vector<RpcMethod>;

}  // namespace tenon::serve
