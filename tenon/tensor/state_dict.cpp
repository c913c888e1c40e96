#include "tenon/tensor/state_dict.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"

namespace tenon {

StateDict::StateDict(std::initializer_list<Entry> entries) {
  for (const auto& [key, value] : entries) set(key, value);
}

std::vector<std::string> StateDict::keys() const {
  std::vector<std::string> result;
  result.reserve(entries_.size());
  for (const auto& entry : entries_) result.push_back(entry.first);
  return result;
}

const Tensor* StateDict::find(std::string_view key) const {
  const auto it = std::find_if(begin(), end(), [key](const Entry& entry) { return entry.first == key; });
  return it == end() ? nullptr : &it->second;
}

const Tensor& StateDict::at(std::string_view key) const {
  if (const Tensor* found = find(key)) return *found;
  const std::vector<std::string_view> names = [this] {
    std::vector<std::string_view> list;
    for (const auto& entry : entries_) list.push_back(entry.first);
    return list;
  }();
  const std::string_view near = nearest_name(key, names);
  throw IndexError({"state dict", fmt::format("no tensor is named \"{}\"", key),
                    fmt::format("one of its {} keys", entries_.size()), fmt::format("\"{}\"", key),
                    near.empty() ? "" : fmt::format("\"{}\"", near)});
}

void StateDict::set(std::string key, Tensor value) {
  const auto it = std::find_if(entries_.begin(), entries_.end(), [&key](const Entry& e) { return e.first == key; });
  if (it != entries_.end()) {
    it->second = std::move(value);
  } else {
    entries_.emplace_back(std::move(key), std::move(value));
  }
}

bool StateDict::erase(std::string_view key) {
  return std::erase_if(entries_, [key](const Entry& entry) { return entry.first == key; }) != 0;
}

}  // namespace tenon
