#include "tenon/data/example.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"
#include "tenon/data/to_tensor.h"

namespace tenon::data {
namespace {

std::vector<std::string_view> names_of(const Example& example) {
  std::vector<std::string_view> names;
  for (const auto& [name, value] : example) names.emplace_back(name);
  return names;
}

[[noreturn]] void throw_no_field(const Example& example, std::string_view name) {
  const auto names = names_of(example);
  const std::string_view nearest = nearest_name(name, names);
  throw IndexError({"Example", "no such field",
                    names.empty() ? "a field, but there are none" : fmt::format("one of {}", fmt::join(names, ", ")),
                    fmt::format("'{}'", name), nearest.empty() ? "" : fmt::format("batch[\"{}\"]", nearest)});
}

template <class Fields>
auto find(Fields& fields, std::string_view name) {
  return std::ranges::find(fields, name, [](const auto& field) { return std::string_view(field.first); });
}

void require_same(const std::string& field, std::int64_t first, const Tensor& a, std::int64_t other, const Tensor& b) {
  const auto where = fmt::format("batch field '{}'", field);
  const auto problem = [&](std::string_view what) {
    return fmt::format("examples {} and {} differ in {}", first, other, what);
  };
  if (a.dtype() != b.dtype()) {
    throw DTypeError({where, problem("element type"), std::string(name(a.dtype())), std::string(name(b.dtype())),
                      "cast in a map function"});
  }
  if (a.shape() != b.shape()) {
    throw ShapeError({where, problem("shape"), to_string(a.shape()), to_string(b.shape()),
                      "pad or crop the examples to one shape in a map function"});
  }
}

}  // namespace

Example::Example(std::initializer_list<Field> fields) {
  for (const Field& field : fields) set(field.first, field.second);
}

const Tensor& Example::operator[](std::string_view name) const {
  const auto found = find(fields_, name);
  if (found == fields_.end()) throw_no_field(*this, name);
  return found->second;
}

Tensor& Example::operator[](std::string_view name) {
  const auto found = find(fields_, name);
  if (found == fields_.end()) throw_no_field(*this, name);
  return found->second;
}

bool Example::contains(std::string_view name) const { return find(fields_, name) != fields_.end(); }

void Example::set(std::string_view name, Tensor value) {
  const auto found = find(fields_, name);
  if (found != fields_.end()) {
    found->second = std::move(value);
  } else {
    fields_.emplace_back(std::string(name), std::move(value));
  }
}

void Example::erase(std::string_view name) {
  const auto found = find(fields_, name);
  if (found == fields_.end()) throw_no_field(*this, name);
  fields_.erase(found);
}

Example stack(std::span<const Example> examples, std::span<const std::int64_t> indices) {
  Example batch;
  if (examples.empty()) return batch;
  const auto names = names_of(examples[0]);
  for (std::size_t i = 1; i < examples.size(); ++i) {
    const auto others = names_of(examples[i]);
    if (!std::ranges::is_permutation(names, others)) {
      throw ValueError({"batch", fmt::format("examples {} and {} have different fields", indices[0], indices[i]),
                        fmt::format("{}", fmt::join(names, ", ")), fmt::format("{}", fmt::join(others, ", ")), ""});
    }
  }
  for (const auto& [name, value] : examples[0]) {
    const Tensor first = materialized(name, value);
    Shape shape = first.shape();
    shape.insert(shape.begin(), static_cast<std::int64_t>(examples.size()));
    const std::size_t size = first.data<std::byte>().size();
    if (first.size() * info(first.dtype()).bits % 8 != 0) {
      throw UnsupportedError({fmt::format("batch field '{}'", name),
                              "examples of packed elements that do not fill whole bytes cannot be stacked", "",
                              fmt::format("{} {}", tenon::name(first.dtype()), to_string(first.shape())),
                              "cast to u8 or i8"});
    }
    Tensor stacked = empty(shape, first.dtype());
    std::byte* to = mutable_data(stacked);
    for (std::size_t i = 0; i < examples.size(); ++i) {
      const Tensor part = materialized(name, examples[i][name]);
      require_same(name, indices[0], first, indices[i], part);
      if (size != 0) std::memcpy(to + i * size, part.data<std::byte>().data(), size);
    }
    batch.set(name, std::move(stacked));
  }
  return batch;
}

}  // namespace tenon::data
