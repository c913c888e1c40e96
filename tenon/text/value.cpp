#include "tenon/text/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"

namespace tenon::text {
namespace {

constexpr std::size_t kDeepest = 200;

// Builds a Value while the parser reads, so that nothing is held twice.
class Builder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(std::string_view where) : where_(where) {}
  Value result;

  bool null() override { return put(Null{}); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(std::int64_t{v}); }
  bool number_unsigned(number_unsigned_t v) override {
    return v > INT64_MAX ? put(static_cast<double>(v)) : put(static_cast<std::int64_t>(v));
  }
  bool number_float(number_float_t v, const string_t&) override { return put(v); }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return false; }
  bool key(string_t& v) override {
    keys_.back() = std::move(v);
    return true;
  }
  bool start_object(std::size_t) override { return open(Object{}); }
  bool start_array(std::size_t) override { return open(List{}); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) override {
    throw FormatError(
        {.where = std::string(where_), .problem = fmt::format("not JSON: {} at byte {}", error.what(), position)});
  }

 private:
  bool put(Value value) {
    if (open_.empty()) {
      result = std::move(value);
    } else if (open_.back().is_list()) {
      open_.back().list().push_back(std::move(value));
    } else {
      open_.back().object().emplace_back(std::move(keys_.back()), std::move(value));
    }
    return true;
  }
  bool open(Value value) {
    if (open_.size() >= kDeepest)
      throw FormatError({.where = std::string(where_),
                         .problem = "lists and objects are nested too deeply",
                         .expected = fmt::format("at most {} levels", kDeepest)});
    open_.push_back(std::move(value));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    Value done = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    return put(std::move(done));
  }

  std::string_view where_;
  std::vector<Value> open_;
  std::vector<std::string> keys_;
};

void write_string(const std::string& text, std::string& out) {
  out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void write(const Value& value, int indent, int level, std::string& out) {
  const auto line = [&](int depth) {
    if (indent >= 0) out += '\n' + std::string(static_cast<std::size_t>(indent * depth), ' ');
  };
  const auto separate = [&](bool first) {
    if (!first) out += indent >= 0 ? "," : ", ";
    line(level + 1);
  };
  if (value.is_list()) {
    out += '[';
    for (bool first = true; const auto& item : value.list()) {
      separate(first);
      first = false;
      write(item, indent, level + 1, out);
    }
    if (!value.list().empty()) line(level);
    out += ']';
  } else if (value.is_object()) {
    out += '{';
    for (bool first = true; const auto& [key, item] : value.object()) {
      separate(first);
      first = false;
      write_string(key, out);
      out += ": ";
      write(item, indent, level + 1, out);
    }
    if (!value.object().empty()) line(level);
    out += '}';
  } else if (value.is_string()) {
    write_string(value.string(), out);
  } else if (value.is_bool()) {
    out += value.boolean() ? "true" : "false";
  } else if (value.is_integer()) {
    out += std::to_string(value.integer());
  } else if (value.is_real()) {
    const double v = value.real();
    out += std::isnan(v) ? "NaN" : std::isinf(v) ? (v > 0 ? "Infinity" : "-Infinity") : nlohmann::json(v).dump();
  } else {
    out += "null";
  }
}

}  // namespace

const Value* Value::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const auto& [name, value] : object())
    if (name == key) return &value;
  return nullptr;
}

void Value::set(std::string_view key, Value value) const {
  for (auto& [name, old] : object()) {
    if (name != key) continue;
    old = std::move(value);
    return;
  }
  object().emplace_back(key, std::move(value));
}

std::string to_json(const Value& value, int indent) {
  std::string out;
  write(value, indent, 0, out);
  return out;
}

Value parse_json(std::string_view text, std::string_view where) {
  Builder builder(where);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.result);
}

void fail_field(std::string_view where, std::string_view field, std::string_view expected, const Value* got) {
  std::string shown = got == nullptr ? "nothing" : to_json(*got);
  if (shown.size() > 80) shown = shown.substr(0, 77) + "...";
  throw FormatError({.where = std::string(where),
                     .problem = fmt::format("'{}' is not as expected", field),
                     .expected = std::string(expected),
                     .got = shown});
}

const Value* find_field(const Value& object, std::string_view field) {
  const Value* found = object.find(field);
  return found == nullptr || found->is_null() ? nullptr : found;
}

const Value& get_field(const Value& object, std::string_view field, std::string_view where) {
  const Value* found = find_field(object, field);
  if (found == nullptr) fail_field(where, field, "a value", nullptr);
  return *found;
}

const List& list_field(const Value& object, std::string_view field, std::string_view where) {
  const Value& found = get_field(object, field, where);
  if (!found.is_list()) fail_field(where, field, "a list", &found);
  return found.list();
}

bool bool_field(const Value& object, std::string_view field, bool fallback, std::string_view where) {
  const Value* found = find_field(object, field);
  if (found == nullptr) return fallback;
  if (!found->is_bool()) fail_field(where, field, "true or false", found);
  return found->boolean();
}

const std::string& as_string(const Value& value, std::string_view field, std::string_view where) {
  if (!value.is_string()) fail_field(where, field, "a string", &value);
  return value.string();
}

std::string string_field(const Value& object, std::string_view field, std::string fallback, std::string_view where) {
  const Value* found = find_field(object, field);
  if (found == nullptr) return fallback;
  return as_string(*found, field, where);
}

std::int64_t as_count(const Value& value, std::string_view field, std::int64_t limit, std::string_view where) {
  if (!value.is_integer() || value.integer() < 0 || value.integer() > limit)
    fail_field(where, field, fmt::format("a whole number up to {}", limit), &value);
  return value.integer();
}

std::int64_t count_field(const Value& object, std::string_view field, std::int64_t fallback, std::int64_t limit,
                         std::string_view where) {
  const Value* found = find_field(object, field);
  return found == nullptr ? fallback : as_count(*found, field, limit, where);
}

double real_field(const Value& object, std::string_view field, double fallback, std::string_view where) {
  const Value* found = find_field(object, field);
  if (found == nullptr) return fallback;
  if (!found->is_number()) fail_field(where, field, "a number", found);
  return found->real();
}

}  // namespace tenon::text
