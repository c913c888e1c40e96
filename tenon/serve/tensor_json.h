// Tensors from nested JSON lists and back, without a tree in between.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/serve/json_reader.h"
#include "tenon/serve/value.h"

namespace tenon::serve {

// Elements of one type in memory that grows without a second copy (realloc), handed on as a tensor.
class ElementStore {
 public:
  explicit ElementStore(ElementType type);
  void reserve(int64_t elements);
  // Reads one scalar of the store's type: numbers, true and false, strings, {"b64": "..."}. RequestError for another.
  void read(JsonReader& json);
  [[nodiscard]] int64_t count() const { return type_.strings() ? static_cast<int64_t>(texts_.size()) : count_; }
  // The store is empty afterwards.
  Value take(const Shape& shape);

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  [[noreturn]] void wrong_type(JsonReader& json) const;
  std::byte* next();

  ElementType type_;
  int64_t width_ = 0;
  std::unique_ptr<std::byte, Free> data_;
  int64_t count_ = 0, capacity_ = 0;
  std::vector<std::string> texts_;
};

// Builds a tensor from values of one shape: each read() takes one.
class TensorBuilder {
 public:
  explicit TensorBuilder(ElementType type) : store_(type) {}
  // RequestError if the value is ragged, of another type, or not shaped as the ones before.
  void read(JsonReader& json);
  [[nodiscard]] int64_t values() const { return values_; }
  // As one value (there must have been one read) or as a list of them, with a new first axis.
  Value take_one();
  Value take_rows();

 private:
  ElementStore store_;
  bool shaped_ = false;
  std::vector<int64_t> dims_;
  int64_t values_ = 0;
};

// True if the next value is an object whose only key is "b64".
bool is_base64_object(JsonReader& json);

// Nested lists. `binary`: texts as {"b64": …}.
void append_tensor(std::string& out, const Value& value, bool binary);
// One row of the first axis.
void append_row(std::string& out, const Value& value, int64_t row, bool binary);
// All elements in one list.
void append_flat(std::string& out, const Value& value);

}  // namespace tenon::serve
