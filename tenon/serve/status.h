// How a request ended: gRPC's sixteen codes, the text, and what they are called in HTTP.
//
// Functions that answer throw RequestError; the border of each protocol turns it, and any other error, into a Status.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include "tenon/base/error.h"

namespace tenon::serve {

// The numbers are gRPC's.
enum class Code : uint8_t {
  Ok = 0,
  Cancelled = 1,
  Unknown = 2,
  InvalidArgument = 3,
  DeadlineExceeded = 4,
  NotFound = 5,
  AlreadyExists = 6,
  PermissionDenied = 7,
  ResourceExhausted = 8,
  FailedPrecondition = 9,
  Aborted = 10,
  OutOfRange = 11,
  Unimplemented = 12,
  Internal = 13,
  Unavailable = 14,
  DataLoss = 15,
  Unauthenticated = 16
};

// "INVALID_ARGUMENT"
std::string_view name(Code code);

struct Status {
  Code code = Code::Ok;
  std::string message{};
  int retry_after = 0;  // seconds after which another try may help; 0: nothing is promised
  int http = 0;         // HTTP's status, where it has one of its own for this (413); 0: the code's

  [[nodiscard]] bool ok() const { return code == Code::Ok; }
};

// TensorFlow Serving's table; Triton's for the Open Inference Protocol; the status's own where it has one.
int http_status(const Status& status);
int v2_http_status(const Status& status);

// A request that cannot be answered.
struct RequestError final : Error {
  RequestError(Code code, std::string message, int retry_after = 0, int http = 0)
      : Error({.problem = std::move(message)}), status_code(code), retry_after(retry_after), http(http) {}
  Code status_code;
  int retry_after;
  int http;
};

// RequestError with Code::InvalidArgument: the request is not right.
[[noreturn]] void refuse(std::string problem);
// RESOURCE_EXHAUSTED, in HTTP 413: another try would fail as this one did, so none is offered.
RequestError too_large(std::string problem);

// The status that an exception means: errors about shapes, types and values are the client's.
Status status_of(const std::exception& error);
// The same for the exception that is being handled.
Status current_status();

}  // namespace tenon::serve
