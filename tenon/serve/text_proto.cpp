#include "tenon/serve/text_proto.h"

#include <fmt/format.h>

#include <charconv>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"

namespace tenon::serve {

class TextParser {
 public:
  TextParser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  TextMessage parse() {
    TextMessage message = fields(0, '\0');
    return message;
  }

 private:
  static constexpr int kDeepest = 64;

  [[noreturn]] void fail(const std::string& problem) const {
    throw FormatError({where_, fmt::format("line {}: {}", line_, problem), {}, {}, {}});
  }
  void skip_space() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (c == '\n') {
        ++line_;
        ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r' || c == ',' || c == ';') {
        ++at_;
      } else {
        return;
      }
    }
  }
  char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  static bool word_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-' || c == '+' || c == '/';
  }
  std::string word() {
    skip_space();
    const size_t begin = at_;
    while (at_ < text_.size() && word_character(text_[at_])) ++at_;
    if (at_ == begin) fail(at_ < text_.size() ? fmt::format("unexpected '{}'", text_[at_]) : "the text ends too early");
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::string quoted() {
    const char quote = text_[at_++];
    std::string out;
    while (true) {
      if (at_ >= text_.size() || text_[at_] == '\n') fail("a text without a closing quote");
      char c = text_[at_++];
      if (c == quote) return out;
      if (c == '\\' && at_ < text_.size()) {
        c = text_[at_++];
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
      }
      out += c;
    }
  }
  TextMessage fields(int depth, char close) {
    if (depth > kDeepest) fail("messages are nested too deeply");
    TextMessage message;
    message.where_ = where_;
    while (peek() != close) {
      if (at_ >= text_.size()) fail("a message without its closing bracket");
      const int line = line_;
      const std::string name = word();
      bool colon = false;
      if (peek() == ':') {
        ++at_;
        colon = true;
      }
      if (peek() == '[' && colon) {
        ++at_;
        while (peek() != ']') message.fields_.push_back(value(name, line, colon, depth));
        ++at_;
      } else {
        message.fields_.push_back(value(name, line, colon, depth));
      }
    }
    if (close != '\0') ++at_;
    return message;
  }
  TextMessage::Field value(const std::string& name, int line, bool colon, int depth) {
    TextMessage::Field field{.name = name, .line = line, .scalar = {}, .quoted = false, .message = nullptr};
    const char c = peek();
    if (c == '{' || c == '<') {
      ++at_;
      field.message = std::make_unique<TextMessage>(fields(depth + 1, c == '{' ? '}' : '>'));
    } else if (!colon) {
      fail(fmt::format("'{}' needs a ':' or a '{{'", name));
    } else if (c == '"' || c == '\'') {
      field.quoted = true;
      while (peek() == '"' || peek() == '\'') field.scalar += quoted();  // neighbours are one text
    } else {
      field.scalar = word();
    }
    return field;
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
  int line_ = 1;
};

TextMessage TextMessage::parse(std::string_view text, const std::string& where) {
  return TextParser(text, where).parse();
}

std::vector<const TextMessage*> TextMessage::messages(std::string_view name) const {
  std::vector<const TextMessage*> out;
  for (const auto& f : fields_) {
    if (f.name != name) continue;
    if (!f.message) wrong(f, "a message in braces");
    out.push_back(f.message.get());
  }
  return out;
}
const TextMessage* TextMessage::message(std::string_view name) const {
  const auto all = messages(name);
  return all.empty() ? nullptr : all.back();
}
const TextMessage::Field* TextMessage::last(std::string_view name) const {
  const Field* found = nullptr;
  for (const auto& f : fields_) {
    if (f.name == name) found = &f;
  }
  return found;
}
bool TextMessage::has(std::string_view name) const { return last(name) != nullptr; }

std::string TextMessage::text(std::string_view name, std::string fallback) const {
  const Field* f = last(name);
  if (!f) return fallback;
  if (f->message) wrong(*f, "a text in quotes");
  return f->scalar;
}
int64_t TextMessage::number(const Field& f) const {
  int64_t v = 0;
  const char* end = f.scalar.data() + f.scalar.size();
  const auto [stop, error] = std::from_chars(f.scalar.data(), end, v);
  if (f.message || f.quoted || error != std::errc() || stop != end) wrong(f, "an integer");
  return v;
}
int64_t TextMessage::integer(std::string_view name, int64_t fallback) const {
  const Field* f = last(name);
  if (!f) return fallback;
  // A wrapper message (google.protobuf.Int64Value) is written { value: N }.
  if (f->message) return f->message->integer("value", fallback);
  return number(*f);
}
double TextMessage::real(std::string_view name, double fallback) const {
  const Field* f = last(name);
  if (!f) return fallback;
  if (f->message) return f->message->real("value", fallback);
  double v = 0;
  const char* end = f->scalar.data() + f->scalar.size();
  const auto [stop, error] = std::from_chars(f->scalar.data(), end, v);
  if (f->quoted || error != std::errc() || stop != end) wrong(*f, "a number");
  return v;
}
std::vector<int64_t> TextMessage::integers(std::string_view name) const {
  std::vector<int64_t> out;
  for (const auto& f : fields_) {
    if (f.name == name) out.push_back(number(f));
  }
  return out;
}
bool TextMessage::boolean(std::string_view name, bool fallback) const {
  const Field* f = last(name);
  if (!f) return fallback;
  if (f->message) return f->message->boolean("value", fallback);
  if (f->scalar == "true" || f->scalar == "True" || f->scalar == "1") return true;
  if (f->scalar == "false" || f->scalar == "False" || f->scalar == "0") return false;
  wrong(*f, "true or false");
}
void TextMessage::only(std::initializer_list<std::string_view> names) const {
  for (const auto& f : fields_) {
    bool known = false;
    for (auto n : names) known = known || n == f.name;
    if (known) continue;
    const std::vector<std::string_view> list(names);
    const std::string near(nearest_name(f.name, list));
    throw FormatError({where_,
                       fmt::format("line {}: there is no field '{}' here", f.line, f.name),
                       {},
                       {},
                       near.empty() ? "" : fmt::format("{}: …", near)});
  }
}
void TextMessage::wrong(const Field& f, std::string expected) const {
  throw FormatError({where_,
                     fmt::format("line {}: '{}' is not right", f.line, f.name),
                     std::move(expected),
                     f.message ? "a message" : "'" + f.scalar + "'",
                     {}});
}

}  // namespace tenon::serve
