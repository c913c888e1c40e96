// What templates can do with values: Python's operators and methods, Jinja's filters, tests and functions.
//
// To add one: a row in the table of its kind in builtins.cpp.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tenon/text/value.h"

namespace tenon::text::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
  // The i-th argument, or the one of this name, or Undefined.
  [[nodiscard]] Value get(std::size_t i, std::string_view name) const;
};

// A mistake in a template while it runs; the runner adds the line.
struct Mistake {
  std::string text;
};

bool truth(const Value& value);
bool equal(const Value& a, const Value& b);
std::string to_text(const Value& value);  // str(): None, True, ['a']
Value binary(std::string_view op, const Value& a, const Value& b);
Value item(const Value& of, const Value& key);
Value slice(const Value& of, const Value& start, const Value& stop, const Value& step);
List iterate(const Value& value);

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments);
bool apply_test(std::string_view name, const Value& value, const Arguments& arguments);
Value call_method(const Value& object, std::string_view name, const Arguments& arguments);
bool is_function(std::string_view name);
Value call_function(std::string_view name, const Arguments& arguments);

}  // namespace tenon::text::jinja
