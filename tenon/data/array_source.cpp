#include "tenon/data/array_source.h"

#include <fmt/format.h>

#include <cstring>

#include "tenon/base/error.h"
#include "tenon/data/to_tensor.h"

namespace tenon::data {
namespace {

Shape row_shape(const Tensor& rows) { return Shape(rows.shape().begin() + 1, rows.shape().end()); }

// Copies row `index` of the column to `to`.
void copy_row(const ArraySource::Column& column, std::int64_t index, std::byte* to) {
  const auto bytes = column.rows.data<std::byte>();
  const std::size_t row = bytes.size() / static_cast<std::size_t>(column.rows.shape()[0]);
  const std::byte* from = bytes.data() + static_cast<std::size_t>(index) * row;
  if (column.tables.empty()) {
    if (row != 0) std::memcpy(to, from, row);
    return;
  }
  auto* out = reinterpret_cast<float*>(to);
  const std::size_t plane = row / column.tables.size();
  for (const auto& table : column.tables) {
    for (std::size_t i = 0; i < plane; ++i) *out++ = table[std::to_integer<std::size_t>(*from++)];
  }
}

// Rows first … of the column under a leading shape.
Tensor rows_of(const ArraySource::Column& column, const Shape& leading, std::span<const std::int64_t> indices) {
  Shape shape = leading;
  for (const std::int64_t extent : row_shape(column.rows)) shape.push_back(extent);
  Tensor out = empty(shape, column.tables.empty() ? column.rows.dtype() : DType::F32);
  std::byte* to = mutable_data(out);
  const auto row = static_cast<std::size_t>(byte_size(out.dtype(), numel(row_shape(column.rows))));
  for (std::size_t i = 0; i < indices.size(); ++i) copy_row(column, indices[i], to + i * row);
  return out;
}

}  // namespace

ArraySource::ArraySource(std::vector<Column> columns) : columns_(std::move(columns)) {
  bool first = true;
  for (Column& column : columns_) {
    column.rows = materialized(column.name, column.rows);
    if (column.rows.ndim() == 0) {
      throw ShapeError({fmt::format("dataset field '{}'", column.name), "a scalar has no rows",
                        "a tensor whose first axis counts the examples", "[]", ""});
    }
    if (numel(row_shape(column.rows)) * info(column.rows.dtype()).bits % 8 != 0) {
      throw UnsupportedError({fmt::format("dataset field '{}'", column.name),
                              "rows of packed elements that do not fill whole bytes", "", to_string(column.rows.type()),
                              "cast to u8 or i8"});
    }
    const std::int64_t rows = column.rows.shape()[0];
    if (!first && rows != size_) {
      throw ShapeError(
          {fmt::format("dataset field '{}'", column.name), "another number of examples than the other fields",
           fmt::format("{} rows, as '{}' has", size_, columns_[0].name), fmt::format("{} rows", rows), ""});
    }
    size_ = rows;
    first = false;
  }
}

Example ArraySource::get(std::int64_t index, const Draw& /*draw*/) const {
  Example example;
  for (const Column& column : columns_) example.set(column.name, rows_of(column, {}, {&index, 1}));
  return example;
}

Example ArraySource::gather(std::span<const std::int64_t> indices, const Draw& /*draw*/) const {
  Example batch;
  const Shape leading = {static_cast<std::int64_t>(indices.size())};
  for (const Column& column : columns_) batch.set(column.name, rows_of(column, leading, indices));
  return batch;
}

}  // namespace tenon::data
