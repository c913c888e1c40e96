#include "tenon/train/config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tenon/base/error.h"

namespace tenon::train {
namespace {

using Json = nlohmann::ordered_json;

ConfigValue from_json(const Json& value, std::string_view name, std::string_view where) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  throw FormatError({.where = std::string(where),
                     .problem = fmt::format("entry \"{}\" is not a plain value", name),
                     .expected = "true, false, a number or a text",
                     .got = value.dump()});
}

template <typename T>
constexpr std::string_view kind = "a text";
template <>
constexpr std::string_view kind<bool> = "true or false";
template <>
constexpr std::string_view kind<std::int64_t> = "an integer";
template <>
constexpr std::string_view kind<double> = "a number";

}  // namespace

Config Config::parse(std::string_view json, std::string_view where) {
  const Json object = Json::parse(json, nullptr, false);
  if (!object.is_object())
    throw FormatError({.where = std::string(where),
                       .problem = object.is_discarded() ? "not JSON" : "not a JSON object",
                       .expected = R"(an object such as {"task": "language-model"})"});
  Config config;
  config.where_ = where;
  for (const auto& [name, value] : object.items()) config.set(name, from_json(value, name, where));
  return config;
}

void Config::set(std::string_view name, ConfigValue value) {
  for (auto& entry : entries_)
    if (entry.first == name) {
      entry.second = std::move(value);
      return;
    }
  entries_.emplace_back(name, std::move(value));
}

const ConfigValue* Config::find(std::string_view name) const {
  for (const auto& entry : entries_)
    if (entry.first == name) return &entry.second;
  return nullptr;
}

template <typename T>
T Config::get(std::string_view name) const {
  const ConfigValue* value = find(name);
  if (value == nullptr) throw FormatError({.where = where_, .problem = fmt::format("no entry \"{}\"", name)});
  if constexpr (std::is_same_v<T, double>)
    if (const auto* integer = std::get_if<std::int64_t>(value)) return static_cast<double>(*integer);
  if (const auto* typed = std::get_if<T>(value)) return *typed;
  throw FormatError({.where = where_,
                     .problem = fmt::format("entry \"{}\" has the wrong type", name),
                     .expected = std::string(kind<T>),
                     .got = to_text(*value)});
}
template bool Config::get(std::string_view) const;
template std::int64_t Config::get(std::string_view) const;
template double Config::get(std::string_view) const;
template std::string Config::get(std::string_view) const;

std::string Config::to_json() const {
  Json object = Json::object();
  for (const auto& [name, value] : entries_) std::visit([&, &key = name](const auto& v) { object[key] = v; }, value);
  return object.dump(2) + "\n";
}

std::string to_text(const ConfigValue& value) {
  return std::visit([](const auto& v) { return fmt::format("{}", v); }, value);
}

}  // namespace tenon::train
