#include "tenon/serve/json_reader.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "tenon/serve/status.h"

namespace tenon::serve {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 63));
    out += static_cast<char>(0x80 | (c & 63));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 63));
    out += static_cast<char>(0x80 | (c >> 6 & 63));
    out += static_cast<char>(0x80 | (c & 63));
  }
}

// What stands for itself in a JSON string.
constexpr auto kPlain = [] {
  std::array<bool, 256> table{};
  for (size_t c = 0x20; c < table.size(); ++c) table[c] = c != '"' && c != '\\';
  return table;
}();

template <class T>
void append_real(std::string& out, T v) {
  if (std::isnan(v)) {
    out += "NaN";
    return;
  }
  if (std::isinf(v)) {
    out += v < 0 ? "-Infinity" : "Infinity";
    return;
  }
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), v);
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  out += text;
  if (text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

}  // namespace

void JsonReader::fail(std::string_view problem) const {
  throw RequestError(Code::InvalidArgument, fmt::format("JSON Parse error: {} at offset: {}", problem, offset()));
}

char JsonReader::take() {
  if (at_ >= end_) fail("the text ends too early");
  return *at_++;
}
void JsonReader::word(std::string_view text) {
  if (static_cast<size_t>(end_ - at_) < text.size() || std::string_view(at_, text.size()) != text)
    fail("Invalid value.");
  at_ += text.size();
}

JsonKind JsonReader::peek() {
  space();
  if (at_ >= end_) fail(begin_ == end_ ? "The document is empty." : "the text ends too early");
  switch (*at_) {
    case '{':
      return JsonKind::Object;
    case '[':
      return JsonKind::Array;
    case '"':
      return JsonKind::String;
    case 't':
      return JsonKind::True;
    case 'f':
      return JsonKind::False;
    case 'n':
      return JsonKind::Null;
    default:
      if (digit(*at_) || *at_ == '-' || *at_ == 'N' || *at_ == 'I') return JsonKind::Number;
      fail("Invalid value.");
  }
}

void JsonReader::open(char c) {
  if (open_.size() >= kDeepest) fail("values are nested too deeply");
  if (peek() != (c == '{' ? JsonKind::Object : JsonKind::Array))
    fail(c == '{' ? "expected an object" : "expected a list");
  ++at_;
  open_.push_back(c);
  first_ = true;
}
void JsonReader::begin_object() { open('{'); }
void JsonReader::begin_array() { open('['); }

bool JsonReader::next_item() {
  space();
  const char close = open_.back() == '{' ? '}' : ']';
  const char c = take();
  if (c == close) {
    open_.pop_back();
    first_ = false;
    return false;
  }
  if (first_) {
    --at_;
    first_ = false;
    return true;
  }
  if (c != ',') {
    --at_;
    fail(close == '}' ? "Missing a comma or } after an object member."
                      : "Missing a comma or ] after an array element.");
  }
  space();
  if (at_ < end_ && *at_ == close) fail("Invalid value.");
  return true;
}

bool JsonReader::next_key(std::string_view& key) {
  if (!next_item()) return false;
  if (peek() != JsonKind::String) fail("Missing a name for object member.");
  key = text_here();
  space();
  if (take() != ':') {
    --at_;
    fail("Missing a colon after a name of object member.");
  }
  return true;
}
bool JsonReader::next_key(std::string& key) {
  std::string_view view;
  if (!next_key(view)) return false;
  key = view;
  return true;
}

std::string_view JsonReader::plain() {
  const char* from = at_;
  const char* at = from;
  while (at < end_ && kPlain[static_cast<unsigned char>(*at)]) ++at;
  at_ = at;
  return {from, static_cast<size_t>(at - from)};
}

std::string_view JsonReader::text() {
  if (peek() != JsonKind::String) fail("expected a string");
  return text_here();
}
std::string_view JsonReader::text_here() {
  const char* begin = at_++;
  const std::string_view whole = plain();
  if (at_ < end_ && *at_ == '"') {
    ++at_;
    return whole;
  }
  at_ = begin;
  string(decoded_);
  return decoded_;
}

void JsonReader::string(std::string& out) {
  out.clear();
  if (peek() != JsonKind::String) fail("expected a string");
  ++at_;
  while (true) {
    out.append(plain());
    const char c = take();
    if (c == '"') return;
    if (c != '\\') {
      --at_;
      fail("Invalid encoding in string.");
    }
    const char e = take();
    switch (e) {
      case 'n':
        out += '\n';
        continue;
      case 't':
        out += '\t';
        continue;
      case 'r':
        out += '\r';
        continue;
      case 'b':
        out += '\b';
        continue;
      case 'f':
        out += '\f';
        continue;
      case '"':
      case '\\':
      case '/':
        out += e;
        continue;
      case 'u':
        break;
      default:
        --at_;
        fail("Invalid escape character in string.");
    }
    const auto unit = [&] {
      uint32_t u = 0;
      for (int i = 0; i < 4; ++i) {
        const int h = hex(take());
        if (h < 0) fail("Incorrect hex digit after \\u escape in string.");
        u = u * 16 + static_cast<uint32_t>(h);
      }
      return u;
    };
    uint32_t code = unit();
    if (code >= 0xDC00 && code < 0xE000) fail("The surrogate pair in string is invalid.");
    if (code >= 0xD800 && code < 0xDC00) {
      if (take() != '\\' || take() != 'u') fail("The surrogate pair in string is invalid.");
      const uint32_t low = unit();
      if (low < 0xDC00 || low >= 0xE000) fail("The surrogate pair in string is invalid.");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(out, code);
  }
}

void JsonReader::scan_string() { (void)text(); }

bool JsonReader::boolean() {
  const JsonKind kind = peek();
  if (kind == JsonKind::True)
    word("true");
  else if (kind == JsonKind::False)
    word("false");
  else
    fail("expected true or false");
  return kind == JsonKind::True;
}
void JsonReader::null() {
  peek();
  word("null");
}

std::string_view JsonReader::number() {
  if (peek() != JsonKind::Number) fail("expected a number");
  const char* from = at_;
  const bool negative = *at_ == '-';
  if (negative) ++at_;
  if (at_ < end_ && *at_ == 'I') {
    word("Infinity");
    return {from, static_cast<size_t>(at_ - from)};
  }
  if (at_ < end_ && *at_ == 'N' && !negative) {
    word("NaN");
    return {from, static_cast<size_t>(at_ - from)};
  }
  const auto digits = [&] {
    const char* start = at_;
    while (at_ < end_ && digit(*at_)) ++at_;
    if (at_ == start) fail("Invalid value.");
  };
  if (at_ < end_ && *at_ == '0')
    ++at_;
  else
    digits();
  if (at_ < end_ && *at_ == '.') {
    ++at_;
    digits();
  }
  if (at_ < end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    if (at_ < end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    digits();
  }
  return {from, static_cast<size_t>(at_ - from)};
}

double JsonReader::real() {
  const std::string_view text = number();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (text == "Infinity") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  double v = 0;
  std::from_chars(text.data(), text.data() + text.size(), v);
  return v;
}

template <class T>
T JsonReader::integer() {
  const std::string_view text = number();
  T v = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (error != std::errc() || stop != text.data() + text.size())
    fail(fmt::format("{} is not an integer of the expected range", text));
  return v;
}
template int64_t JsonReader::integer<int64_t>();
template uint64_t JsonReader::integer<uint64_t>();

void JsonReader::skip_value() {
  const size_t depth = open_.size();
  std::string_view key;
  const auto scalar_or_open = [&] {
    switch (peek()) {
      case JsonKind::Object:
        begin_object();
        break;
      case JsonKind::Array:
        begin_array();
        break;
      case JsonKind::String:
        scan_string();
        break;
      case JsonKind::Number:
        (void)number();
        break;
      case JsonKind::Null:
        null();
        break;
      default:
        (void)boolean();
    }
  };
  scalar_or_open();
  while (open_.size() > depth) {
    const bool more = open_.back() == '{' ? next_key(key) : next_item();
    if (more) scalar_or_open();
  }
}

std::string_view JsonReader::raw_value() {
  peek();
  const char* from = at_;
  skip_value();
  return {from, static_cast<size_t>(at_ - from)};
}

void JsonReader::back_to(const Mark& mark) {
  at_ = mark.at;
  open_.resize(mark.depth);
  first_ = mark.first;
}

void append_json(std::string& out, std::string_view text) {
  out += '"';
  size_t simple = 0;  // the characters before the first one that is written in another way; nearly always all
  while (simple < text.size() && kPlain[static_cast<unsigned char>(text[simple])]) ++simple;
  out.append(text.substr(0, simple));
  for (char c : text.substr(simple)) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<int>(c));
        else
          out += c;
    }
  }
  out += '"';
}
void append_number(std::string& out, float v) { append_real(out, v); }
void append_number(std::string& out, double v) { append_real(out, v); }

}  // namespace tenon::serve
