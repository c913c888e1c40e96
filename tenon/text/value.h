// Value: what a JSON file holds, and what chat templates calculate with. Lists and objects are shared, as in Python.
//
// The functions below read fields of files from outside: they say what was found where something else was expected.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tenon::text {

class Value;
using List = std::vector<Value>;
// In the order in which the keys came. Small, except vocabularies, which are only walked through.
using Object = std::vector<std::pair<std::string, Value>>;

struct Undefined {
  bool operator==(const Undefined&) const = default;
};
struct Null {
  bool operator==(const Null&) const = default;
};

class Value {
 public:
  using Data = std::variant<Undefined, Null, bool, std::int64_t, double, std::string, std::shared_ptr<List>,
                            std::shared_ptr<Object>>;
  Value() = default;
  // NOLINTBEGIN(google-explicit-constructor): a template's value is whichever of these the code writes
  Value(Null) : data(Null{}) {}
  Value(bool v) : data(v) {}
  Value(int v) : data(std::int64_t{v}) {}
  Value(std::int64_t v) : data(v) {}
  Value(double v) : data(v) {}
  Value(std::string v) : data(std::move(v)) {}
  Value(std::string_view v) : data(std::string(v)) {}
  Value(const char* v) : data(std::string(v)) {}
  Value(List v) : data(std::make_shared<List>(std::move(v))) {}
  Value(Object v) : data(std::make_shared<Object>(std::move(v))) {}
  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] bool is_undefined() const { return std::holds_alternative<Undefined>(data); }
  [[nodiscard]] bool is_null() const { return std::holds_alternative<Null>(data); }
  [[nodiscard]] bool is_bool() const { return std::holds_alternative<bool>(data); }
  [[nodiscard]] bool is_integer() const { return std::holds_alternative<std::int64_t>(data); }
  [[nodiscard]] bool is_real() const { return std::holds_alternative<double>(data); }
  [[nodiscard]] bool is_number() const { return is_integer() || is_real(); }
  [[nodiscard]] bool is_string() const { return std::holds_alternative<std::string>(data); }
  [[nodiscard]] bool is_list() const { return std::holds_alternative<std::shared_ptr<List>>(data); }
  [[nodiscard]] bool is_object() const { return std::holds_alternative<std::shared_ptr<Object>>(data); }

  [[nodiscard]] bool boolean() const { return std::get<bool>(data); }
  [[nodiscard]] std::int64_t integer() const { return std::get<std::int64_t>(data); }
  [[nodiscard]] double real() const { return is_integer() ? static_cast<double>(integer()) : std::get<double>(data); }
  [[nodiscard]] const std::string& string() const { return std::get<std::string>(data); }
  [[nodiscard]] List& list() const { return *std::get<std::shared_ptr<List>>(data); }
  [[nodiscard]] Object& object() const { return *std::get<std::shared_ptr<Object>>(data); }

  // The entry of an object, or nullptr (also if this is no object).
  [[nodiscard]] const Value* find(std::string_view key) const;
  // Sets or adds an entry of an object.
  void set(std::string_view key, Value value) const;

  Data data;
};

// As JSON. `indent` below 0: on one line, with a space behind commas and colons, as Python writes it.
std::string to_json(const Value& value, int indent = -1);

// Errors: FormatError naming `where` and the byte.
Value parse_json(std::string_view text, std::string_view where);

// Throws FormatError: the field is not as expected.
[[noreturn]] void fail_field(std::string_view where, std::string_view field, std::string_view expected,
                             const Value* got);

// The field, or nullptr if it is absent or null.
const Value* find_field(const Value& object, std::string_view field);
const Value& get_field(const Value& object, std::string_view field, std::string_view where);
const List& list_field(const Value& object, std::string_view field, std::string_view where);
bool bool_field(const Value& object, std::string_view field, bool fallback, std::string_view where);
const std::string& as_string(const Value& value, std::string_view field, std::string_view where);
std::string string_field(const Value& object, std::string_view field, std::string fallback, std::string_view where);
// A whole number from 0 to `limit`.
std::int64_t as_count(const Value& value, std::string_view field, std::int64_t limit, std::string_view where);
std::int64_t count_field(const Value& object, std::string_view field, std::int64_t fallback, std::int64_t limit,
                         std::string_view where);
double real_field(const Value& object, std::string_view field, double fallback, std::string_view where);

}  // namespace tenon::text
