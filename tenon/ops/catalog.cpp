#include "tenon/ops/catalog.h"

#include <unordered_map>

#include "tenon/base/error.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/table.h"

namespace tenon::ops {

const ir::OpCatalog& catalog() {
  static const ir::OpCatalog all = [] {
    auto schemas = std::make_shared<std::unordered_map<const OpDef*, ir::OpSchema>>();
    ir::OpCatalog c;
    for (const OpDef* op : table()) {
      ir::OpSchema schema{op->name, {}, op->version};
      for (const auto& attr : op->attrs) schema.attrs.push_back({attr.name, attr.type});
      schemas->emplace(op, std::move(schema));
      c.names.push_back(op->name);
    }
    c.find = [](std::string_view name) { return find(name); };
    c.schema = [schemas](const OpDef& op) -> const ir::OpSchema& {
      const auto found = schemas->find(&op);
      if (found == schemas->end()) throw InternalError("an op that is not in the table: " + std::string(op.name));
      return found->second;
    };
    return c;
  }();
  return all;
}

const ir::TypeRule& type_rule() {
  static const ir::TypeRule rule = [](const OpDef& op, std::span<const TensorType> in, std::span<const bool> present,
                                      const ir::Attrs& attrs) { return infer_types({op, in, present, attrs}); };
  return rule;
}

}  // namespace tenon::ops
