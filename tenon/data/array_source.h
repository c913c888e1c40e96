// ArraySource: examples that are rows of tensors in memory. A batch is gathered with one copy per row.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "tenon/data/source.h"

namespace tenon::data {

class ArraySource final : public Source {
 public:
  struct Column {
    std::string name;
    Tensor rows;  // materialized, rank at least 1
    // Not empty: `rows` is u8 and is given out as f32 through tables[c][value], c counting the first axis of a row
    // (one table: all of the row). So pixels stay bytes in memory and are normalised while they are copied.
    std::vector<std::array<float, 256>> tables;
  };

  // Errors: ShapeError unless all columns have the same number of rows.
  explicit ArraySource(std::vector<Column> columns);

  [[nodiscard]] std::int64_t size() const override { return size_; }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override;
  [[nodiscard]] Example gather(std::span<const std::int64_t> indices, const Draw& draw) const override;

 private:
  std::vector<Column> columns_;
  std::int64_t size_ = 0;
};

}  // namespace tenon::data
