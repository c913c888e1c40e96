// Example: named tensors, in order: one item of a dataset, or a batch of them.
//
//   Example e{{"input", image}, {"label", digit}};
//   e["input"]                  // an error names the fields there are
//   e.set("weight", w)          // adds or replaces
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tenon/tensor/tensor.h"

namespace tenon::data {

class Example {
 public:
  using Field = std::pair<std::string, Tensor>;

  Example() = default;
  Example(std::initializer_list<Field> fields);

  // Errors: IndexError naming the fields there are. Writing to a field needs it to exist: a misspelt name
  // must not make a new one.
  [[nodiscard]] const Tensor& operator[](std::string_view name) const;
  Tensor& operator[](std::string_view name);
  [[nodiscard]] bool contains(std::string_view name) const;

  void set(std::string_view name, Tensor value);
  void erase(std::string_view name);

  [[nodiscard]] std::size_t size() const { return fields_.size(); }
  [[nodiscard]] auto begin() const { return fields_.begin(); }
  [[nodiscard]] auto end() const { return fields_.end(); }

 private:
  std::vector<Field> fields_;
};

// One example whose fields have a new first axis, along which the given ones lie. `indices` are the examples'
// numbers, for errors. Errors: ShapeError and DTypeError naming the field and the example that differs from
// the first, ValueError if its fields do.
Example stack(std::span<const Example> examples, std::span<const std::int64_t> indices);

}  // namespace tenon::data
