// A few op definitions, enough to write graphs with every kind of attribute.
#pragma once

#include <array>

#include "tenon/ir/schema.h"
#include "tenon/ops/opdef.h"

namespace tenon::ir {

inline ops::OpDef named(std::string_view name) {
  ops::OpDef def{};
  def.name = name;
  return def;
}

struct SampleOps {
  ops::OpDef add = named("add");
  ops::OpDef dropout = named("dropout");
  ops::OpDef sum = named("sum");
  ops::OpDef topk = named("topk");
  ops::OpDef pad = named("pad");
  ops::OpDef cond = named("cond");
  std::vector<OpSchema> schemas{
      {"add", {}},
      {"dropout", {{"rate", AttrType::Real}}},
      {"sum", {{"axes", AttrType::IntList}, {"keepdims", AttrType::Flag}}},
      {"topk", {{"k", AttrType::Int}}},
      {"pad", {{"mode", AttrType::Text}, {"dtype", AttrType::Dtype}}},
      {"cond", {{"then", AttrType::Subgraph}, {"otherwise", AttrType::Subgraph}}},
  };

  [[nodiscard]] OpCatalog catalog() const {
    const std::array defs{&add, &dropout, &sum, &topk, &pad, &cond};
    OpCatalog result;
    result.find = [defs](std::string_view name) -> const ops::OpDef* {
      for (const ops::OpDef* def : defs) {
        if (def->name == name) return def;
      }
      return nullptr;
    };
    result.schema = [this](const ops::OpDef& op) -> const OpSchema& {
      for (const OpSchema& schema : schemas) {
        if (schema.name == op.name) return schema;
      }
      return schemas.front();
    };
    for (const OpSchema& schema : schemas) result.names.push_back(schema.name);
    return result;
  }
};

}  // namespace tenon::ir
