#include "tenon/serve/status.h"

#include <new>
#include <utility>

namespace tenon::serve {
namespace {

struct Row {
  std::string_view name;
  int http;
  int v2;
};
constexpr Row kRows[] = {
    {"OK", 200, 200},
    {"CANCELLED", 499, 499},
    {"UNKNOWN", 500, 500},
    {"INVALID_ARGUMENT", 400, 400},
    {"DEADLINE_EXCEEDED", 504, 504},
    {"NOT_FOUND", 404, 404},
    {"ALREADY_EXISTS", 409, 409},
    {"PERMISSION_DENIED", 403, 403},
    {"RESOURCE_EXHAUSTED", 429, 429},
    {"FAILED_PRECONDITION", 400, 400},
    {"ABORTED", 409, 409},
    {"OUT_OF_RANGE", 400, 400},
    {"UNIMPLEMENTED", 501, 501},
    {"INTERNAL", 500, 500},
    {"UNAVAILABLE", 503, 503},
    {"DATA_LOSS", 500, 500},
    {"UNAUTHENTICATED", 401, 401},
};
const Row& row(Code code) { return kRows[static_cast<size_t>(code)]; }

}  // namespace

std::string_view name(Code code) { return row(code).name; }
int http_status(const Status& status) { return status.http != 0 ? status.http : row(status.code).http; }
int v2_http_status(const Status& status) { return status.http != 0 ? status.http : row(status.code).v2; }

void refuse(std::string problem) { throw RequestError(Code::InvalidArgument, std::move(problem)); }
RequestError too_large(std::string problem) { return {Code::ResourceExhausted, std::move(problem), 0, 413}; }

Status status_of(const std::exception& error) {
  if (const auto* request = dynamic_cast<const RequestError*>(&error))
    return {request->status_code, request->what(), request->retry_after, request->http};
  if (dynamic_cast<const MemoryError*>(&error) || dynamic_cast<const std::bad_alloc*>(&error))
    return {Code::ResourceExhausted, "out of memory", 0};
  if (dynamic_cast<const CancelledError*>(&error)) return {Code::Cancelled, error.what(), 0};
  if (dynamic_cast<const UnsupportedError*>(&error)) return {Code::Unimplemented, error.what(), 0};
  if (dynamic_cast<const FileError*>(&error)) return {Code::Internal, error.what(), 0};
  if (dynamic_cast<const Error*>(&error)) return {Code::InvalidArgument, error.what(), 0};
  return {Code::Internal, error.what(), 0};
}

Status current_status() {
  try {
    throw;
  } catch (const std::exception& error) {
    return status_of(error);
  } catch (...) {
    return {Code::Unknown, "unknown error", 0};
  }
}

}  // namespace tenon::serve
