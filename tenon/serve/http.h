// HTTP as the front ends see it: a request, its answer, and what answers. No network here.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tenon/base/inline_vector.h"
#include "tenon/serve/admission.h"
#include "tenon/serve/request.h"

namespace tenon::serve {

// Names and values in the order in which they came, in one piece of memory.
class HeaderList {
 public:
  void emplace_back(std::string_view name, std::string_view value);
  // The first value of the name, whatever its case; "" if absent.
  [[nodiscard]] std::string_view find(std::string_view name) const;

 private:
  struct Entry {
    uint32_t at, name, value;  // where the name begins, and sizes: a transport limits headers to far below 4 GiB
  };
  std::string text_;
  InlineVector<Entry, 16> entries_;
};

struct HttpRequest {
  std::string method;
  std::string target;  // path and query, as sent
  HeaderList headers;
  std::string body;  // decompressed
  CancelPtr cancel = std::make_shared<Cancel>();
  Admission::Ticket ticket;  // given back when the request is gone
  Trace trace{};
  AnsweredBy answered_by{};  // set by the front end once it knows

  // The header's value, whatever the case of its name; "" if absent.
  [[nodiscard]] std::string_view header(std::string_view name) const { return headers.find(name); }
  // The target without the query.
  [[nodiscard]] std::string_view path() const;
};
using HttpRequestPtr = std::shared_ptr<HttpRequest>;

// A piece of a body: bytes that `owner` keeps.
struct Chunk {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;

  static Chunk of(std::string text);
};

struct HttpResponse {
  int status = 200;
  std::string_view content_type = "application/json";               // a constant
  std::vector<std::pair<std::string_view, std::string>> headers{};  // names are constants
  std::vector<Chunk> body{};
  bool close = false;  // the connection, after this

  static HttpResponse json(std::string text, int status = 200);
  static HttpResponse text(std::string text, int status = 200);
  [[nodiscard]] std::string body_text() const;
};

// Called exactly once, on any thread.
using Respond = std::function<void(HttpResponse)>;
// May answer later. What it throws becomes an error in the form of the front end (on_error).
struct HttpHandler {
  std::function<void(const HttpRequestPtr&, const Respond&)> handle;
  std::function<HttpResponse(const Status&)> on_error;
  std::function<bool(const HttpRequest&)> slow = {};  // true: blocks, so it must not run on a loop
};

std::string_view reason_phrase(int status);
bool same_ignoring_case(std::string_view a, std::string_view b);
// RequestError INVALID_ARGUMENT for a broken escape.
std::string url_decoded(std::string_view text);
// Decompresses a body that came with Content-Encoding gzip or deflate. RequestError: INVALID_ARGUMENT if it is damaged,
// RESOURCE_EXHAUSTED beyond `most` bytes, UNIMPLEMENTED for another encoding.
std::string decoded_body(std::string body, std::string_view encoding, int64_t most);
// gzip or deflate (zlib), as named. Fast rather than small.
std::string encoded_body(std::string_view body, std::string_view encoding);
// "gzip", "deflate" or "": the first of those that an Accept-Encoding header takes.
std::string_view accepted_encoding(std::string_view header);

}  // namespace tenon::serve
