#include "tenon/ops/table.h"

#include <unordered_map>

#include "tenon/ops/attention.h"
#include "tenon/ops/control.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/einsum.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/embedding_bag.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/grid_sample.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/interpolate.h"
#include "tenon/ops/linalg.h"
#include "tenon/ops/loss.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/patches.h"
#include "tenon/ops/pooling.h"
#include "tenon/ops/random.h"
#include "tenon/ops/recurrent.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"
#include "tenon/ops/special.h"

namespace tenon::ops {

std::span<const OpDef* const> table() {
  // To add a family: one line.
  // clang-format off
  static const std::vector<const OpDef*> all = [] {
    std::vector<const OpDef*> list;
    for (const auto& family : {
             creation_ops(),      arithmetic_ops(), unary_ops(),     logic_ops(),       activation_ops(), reduce_ops(),
             movement_ops(),      indexing_ops(),   matmul_ops(),    gather_ops(),      random_ops(),     softmax_ops(),
             normalization_ops(), loss_ops(),       attention_ops(), convolution_ops(), pooling_ops(),    control_ops(),
             einsum_ops(),        cumulative_ops(), ordering_ops(), linalg_ops(),
             interpolate_ops(),   grid_sample_ops(), patch_ops(), embedding_bag_ops(),
             recurrent_ops(),     special_ops(),
         })
      list.insert(list.end(), family.begin(), family.end());
    return list;
  }();
  // clang-format on
  return all;
}

const OpDef* find(std::string_view name) {
  static const std::unordered_map<std::string_view, const OpDef*> by_name = [] {
    std::unordered_map<std::string_view, const OpDef*> map;
    for (const OpDef* op : table()) map.emplace(op->name, op);
    return map;
  }();
  auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second;
}

}  // namespace tenon::ops
