// Config: the settings of a run, in the order in which they were given; config.json is its JSON form.
//
// A value is a bool, an integer, a real number or a text. What a reader needs it asks for by type, and a
// missing or mistyped entry is a FormatError that names the entry.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tenon::train {

using ConfigValue = std::variant<bool, std::int64_t, double, std::string>;

class Config {
 public:
  // Reads a JSON object of plain values; `where` names the file in errors.
  static Config parse(std::string_view json, std::string_view where);

  void set(std::string_view name, ConfigValue value);
  [[nodiscard]] const ConfigValue* find(std::string_view name) const;  // null: no such entry
  [[nodiscard]] const std::vector<std::pair<std::string, ConfigValue>>& entries() const { return entries_; }

  // The entry as T: bool, std::int64_t, double (integers convert) or std::string. Throws FormatError.
  template <typename T>
  [[nodiscard]] T get(std::string_view name) const;

  [[nodiscard]] std::string to_json() const;
  bool operator==(const Config& other) const { return entries_ == other.entries_; }

 private:
  std::string where_ = "config";
  std::vector<std::pair<std::string, ConfigValue>> entries_;
};

// For people: true, 12, 0.001, text.
[[nodiscard]] std::string to_text(const ConfigValue& value);

}  // namespace tenon::train
