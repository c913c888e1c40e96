// What the graph's text form, its checks and its hash know of ops, read from the one table.
#pragma once

#include "tenon/ir/schema.h"
#include "tenon/ir/verify.h"

namespace tenon::ops {

const ir::OpCatalog& catalog();
// The types of a call by the op's own rule.
const ir::TypeRule& type_rule();

}  // namespace tenon::ops
