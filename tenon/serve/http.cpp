#include "tenon/serve/http.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>

namespace tenon::serve {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

bool same_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

void HeaderList::emplace_back(std::string_view name, std::string_view value) {
  if (entries_.empty()) text_.reserve(512);
  const auto size = [](std::string_view text) { return static_cast<uint32_t>(text.size()); };
  entries_.push_back({size(text_), size(name), size(value)});
  text_.append(name).append(value);
}
std::string_view HeaderList::find(std::string_view name) const {
  for (const Entry& e : entries_) {
    if (e.name == name.size() && same_ignoring_case({text_.data() + e.at, e.name}, name))
      return {text_.data() + e.at + e.name, e.value};
  }
  return {};
}
std::string_view HttpRequest::path() const { return std::string_view(target).substr(0, target.find('?')); }

Chunk Chunk::of(std::string text) {
  auto owner = std::make_shared<const std::string>(std::move(text));
  return {std::as_bytes(std::span(*owner)), owner};
}

HttpResponse HttpResponse::json(std::string text, int status) {
  HttpResponse r;
  r.status = status;
  if (!text.empty()) r.body.push_back(Chunk::of(std::move(text)));
  return r;
}
HttpResponse HttpResponse::text(std::string text, int status) {
  HttpResponse r = json(std::move(text), status);
  r.content_type = "text/plain; charset=utf-8";
  return r;
}
std::string HttpResponse::body_text() const {
  std::string out;
  for (const auto& chunk : body) out.append(reinterpret_cast<const char*>(chunk.bytes.data()), chunk.bytes.size());
  return out;
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Payload Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

std::string url_decoded(std::string_view text) {
  if (text.find('%') == std::string_view::npos) return std::string(text);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex(text[i + 2]) : -1;
    if (high < 0 || low < 0) throw RequestError(Code::InvalidArgument, "the URL holds a broken % escape");
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::string decoded_body(std::string body, std::string_view encoding, int64_t most) {
  if (encoding.empty() || same_ignoring_case(encoding, "identity")) return body;
  const bool known = same_ignoring_case(encoding, "gzip") || same_ignoring_case(encoding, "x-gzip") ||
                     same_ignoring_case(encoding, "deflate");
  if (!known)
    throw RequestError(Code::Unimplemented,
                       fmt::format("Content-Encoding '{}' is not known; gzip and deflate are", encoding));
  z_stream z{};
  if (inflateInit2(&z, 15 + 32) != Z_OK) throw RequestError(Code::Internal, "zlib does not start");
  struct End {
    z_stream& z;
    ~End() { inflateEnd(&z); }
  } const end{z};
  z.next_in = reinterpret_cast<Bytef*>(body.data());
  z.avail_in = static_cast<uInt>(body.size());
  std::string out;
  int result = Z_OK;
  while (result != Z_STREAM_END) {
    const size_t used = out.size();
    const size_t next = std::min<size_t>(std::max<size_t>(used * 2, 16384), static_cast<size_t>(most) + 1);
    if (next <= used)
      throw too_large(fmt::format("the decompressed body has more than the {} bytes that are accepted", most));
    out.resize(next);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + used);
    z.avail_out = static_cast<uInt>(next - used);
    result = inflate(&z, Z_NO_FLUSH);
    out.resize(next - z.avail_out);
    if (result != Z_OK && result != Z_STREAM_END)
      throw RequestError(Code::InvalidArgument, "the compressed body is damaged");
    if (result == Z_OK && z.avail_in == 0 && z.avail_out != 0)
      throw RequestError(Code::InvalidArgument, "the compressed body ends too early");
  }
  if (static_cast<int64_t>(out.size()) > most)
    throw too_large(fmt::format("the decompressed body has more than the {} bytes that are accepted", most));
  return out;
}

std::string encoded_body(std::string_view body, std::string_view encoding) {
  z_stream z{};
  if (deflateInit2(&z, 1, Z_DEFLATED, encoding == "gzip" ? 15 + 16 : 15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw RequestError(Code::Internal, "zlib does not start");
  std::string out(deflateBound(&z, body.size()) + 32, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
  z.avail_in = static_cast<uInt>(body.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  const int result = deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  if (result != Z_STREAM_END) throw RequestError(Code::Internal, "zlib does not end");
  return out;
}

std::string_view accepted_encoding(std::string_view header) {
  while (!header.empty()) {
    const size_t comma = std::min(header.find(','), header.size());
    std::string_view item = header.substr(0, comma);
    header.remove_prefix(std::min(comma + 1, header.size()));
    while (item.starts_with(' ')) item.remove_prefix(1);
    const std::string_view name = item.substr(0, item.find_first_of("; "));
    if (item.find("q=0") != std::string_view::npos && item.find("q=0.") == std::string_view::npos) continue;
    if (same_ignoring_case(name, "gzip")) return "gzip";
    if (same_ignoring_case(name, "deflate")) return "deflate";
  }
  return {};
}

}  // namespace tenon::serve
