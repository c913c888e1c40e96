// An asynchronous gRPC client that does one thing at a time.
#pragma once

#include <grpcpp/grpcpp.h>

namespace tenon::serve::testing_support {

// step([&] { stream->Read(&answer, nullptr); }): begins what is asked for, waits until it is done, and tells whether it
// went well.
struct GrpcSteps {
  grpc::CompletionQueue queue;
  template <class F>
  bool operator()(const F& begin) {
    begin();
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  }
};

}  // namespace tenon::serve::testing_support
