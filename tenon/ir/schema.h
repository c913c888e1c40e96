// What ir/ must know of ops to print, parse, hash and check graphs. ops/ is above this room, so it hands the
// knowledge down: ops/table.h makes an OpCatalog from the one table of definitions.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "tenon/ir/graph.h"

namespace tenon::ir {

struct AttrField {
  std::string_view name;
  AttrType type;
};

struct OpSchema {
  std::string_view name;
  std::vector<AttrField> attrs;  // in the order of Attrs
  int version = 1;               // rises when the op's meaning changes
};

struct OpCatalog {
  // The op of this name, or nullptr.
  std::function<const ops::OpDef*(std::string_view name)> find;
  // Lives as long as the op.
  std::function<const OpSchema&(const ops::OpDef& op)> schema;
  // All names, for suggestions in error texts; may stay empty.
  std::vector<std::string_view> names = {};
};

}  // namespace tenon::ir
