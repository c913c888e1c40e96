// StateDict: tensors by name, in order. What a model or an optimiser saves, and what a weights file holds.
//
// Keys are dotted paths of members, as PyTorch writes them: "blocks.0.attn.qkv.weight".
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tenon/tensor/tensor.h"

namespace tenon {

class StateDict {
 public:
  using Entry = std::pair<std::string, Tensor>;
  StateDict() = default;
  StateDict(std::initializer_list<Entry> entries);

  [[nodiscard]] size_t size() const { return entries_.size(); }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] auto begin() const { return entries_.begin(); }
  [[nodiscard]] auto end() const { return entries_.end(); }
  [[nodiscard]] std::vector<std::string> keys() const;

  // Null if the key is absent.
  [[nodiscard]] const Tensor* find(std::string_view key) const;
  [[nodiscard]] bool contains(std::string_view key) const { return find(key) != nullptr; }
  // Errors: IndexError naming the nearest key.
  [[nodiscard]] const Tensor& at(std::string_view key) const;
  [[nodiscard]] const Tensor& operator[](std::string_view key) const { return at(key); }

  // Appends, or replaces the tensor of a key that is there.
  void set(std::string key, Tensor value);
  // False if there was no such key.
  bool erase(std::string_view key);

 private:
  std::vector<Entry> entries_;
};

}  // namespace tenon
