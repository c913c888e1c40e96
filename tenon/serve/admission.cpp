#include "tenon/serve/admission.h"

#include <fmt/format.h>

#include "tenon/serve/metrics.h"
#include "tenon/serve/status.h"

namespace tenon::serve {
namespace {

constexpr std::string_view kRefused = "tenon_refused_requests_total";
constexpr std::string_view kHelp = "Requests refused before they were read, by reason.";

}  // namespace

Admission::Admission(AdmissionLimits limits, Metrics& metrics)
    : limits_(limits),
      refused_count_(metrics.counter(kRefused, kHelp, {{"reason", "requests"}})),
      refused_bytes_(metrics.counter(kRefused, kHelp, {{"reason", "bytes"}})),
      refused_body_(metrics.counter(kRefused, kHelp, {{"reason", "body"}})),
      refused_draining_(metrics.counter(kRefused, kHelp, {{"reason", "draining"}})) {
  metrics.gauge("tenon_admitted_requests", "Requests inside the server now.", {},
                [this] { return static_cast<double>(requests()); });
  metrics.gauge("tenon_admitted_bytes", "Bytes of the bodies of the requests inside the server now.", {},
                [this] { return static_cast<double>(bytes()); });
}

Status Admission::refuse_chunked() {
  refused_body_.add();
  return status_of(too_large(fmt::format("the body has more than the {} bytes that are accepted", limits_.body)));
}

Admission::Ticket Admission::reserve(int64_t bytes) {
  if (bytes > limits_.body) {
    refused_body_.add();
    throw too_large(fmt::format("the body has {} bytes; at most {} are accepted", bytes, limits_.body));
  }
  if (draining()) {
    refused_draining_.add();
    throw RequestError(Code::Unavailable, "the server is draining", 1);
  }
  // Reserve first, then look: two that come at once cannot both take the last place.
  if (requests_.fetch_add(1, std::memory_order_acq_rel) >= limits_.requests) {
    requests_.fetch_sub(1, std::memory_order_acq_rel);
    refused_count_.add();
    throw RequestError(Code::Unavailable, fmt::format("the server is full: {} requests are inside", limits_.requests),
                       1);
  }
  if (bytes_.fetch_add(bytes, std::memory_order_acq_rel) + bytes > limits_.bytes) {
    bytes_.fetch_sub(bytes, std::memory_order_acq_rel);
    requests_.fetch_sub(1, std::memory_order_acq_rel);
    refused_bytes_.add();
    throw RequestError(Code::Unavailable,
                       fmt::format("the server is full: its {} bytes for bodies are taken", limits_.bytes), 1);
  }
  return {this, bytes};
}

Admission::Ticket::~Ticket() {
  if (!owner_) return;
  owner_->bytes_.fetch_sub(bytes_, std::memory_order_acq_rel);
  owner_->requests_.fetch_sub(1, std::memory_order_acq_rel);
}

}  // namespace tenon::serve
