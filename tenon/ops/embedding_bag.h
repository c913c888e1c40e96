// Embedding bag: rows of a table combined, a bag of them at a time, without a name for each row.
#pragma once

#include <optional>

#include "tenon/ops/opdef.h"

namespace tenon {

enum class BagMode : uint8_t { Sum, Mean, Max };
struct EmbeddingBagOptions {
  BagMode mode = BagMode::Mean;
  bool sparse = false;                        // the table's gradient is row-sparse: an update touches only rows used
  std::optional<int64_t> padding_index = {};  // a row (negative: from the end) that counts for nothing
  bool include_last_offset = false;           // the offsets' last element is the end of the last bag
};
// table [n, width] -> [bags, width]. indices is [bags, k], or all bags one after another [total] with `offsets` [bags],
// the positions where they start. `weights`, of the indices' shape, multiply the rows (Sum only). An empty bag gives 0.
// Errors: IndexError for a row that is not there; ShapeError if shapes do not fit; ValueError for offsets that do not
// start at 0 or fall.
Tensor embedding_bag(Tensor table, Tensor indices, Tensor offsets = {}, Tensor weights = {},
                     const EmbeddingBagOptions& options = {});

namespace ops {
const OpDef& embedding_bag_op();
std::vector<const OpDef*> embedding_bag_ops();
}  // namespace ops

}  // namespace tenon
