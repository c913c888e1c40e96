// Protobuf's text form, as trees: what configuration files of TensorFlow Serving are written in.
//
// Fields keep the file's order; the schema is the reader's business: only() refuses what nobody knows.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::serve {

class TextMessage {
 public:
  struct Field {
    std::string name;
    int line = 0;
    std::string scalar;  // text without quotes, or the token as written
    bool quoted = false;
    std::unique_ptr<TextMessage> message;  // null for a scalar
  };

  // Errors: FormatError naming the line.
  static TextMessage parse(std::string_view text, const std::string& where);

  [[nodiscard]] std::vector<const TextMessage*> messages(std::string_view name) const;
  // The last one, or null.
  [[nodiscard]] const TextMessage* message(std::string_view name) const;
  [[nodiscard]] bool has(std::string_view name) const;
  [[nodiscard]] std::string text(std::string_view name, std::string fallback = {}) const;
  [[nodiscard]] int64_t integer(std::string_view name, int64_t fallback) const;
  [[nodiscard]] double real(std::string_view name, double fallback) const;
  [[nodiscard]] std::vector<int64_t> integers(std::string_view name) const;
  [[nodiscard]] bool boolean(std::string_view name, bool fallback) const;
  // FormatError for a field whose name is not in the list, naming the nearest one.
  void only(std::initializer_list<std::string_view> names) const;

 private:
  friend class TextParser;
  [[noreturn]] void wrong(const Field& field, std::string expected) const;
  [[nodiscard]] const Field* last(std::string_view name) const;
  [[nodiscard]] int64_t number(const Field& field) const;
  std::vector<Field> fields_;
  std::string where_;
};

}  // namespace tenon::serve
