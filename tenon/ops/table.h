// The one table of ops.
#pragma once

#include <span>
#include <string_view>

#include "tenon/ops/opdef.h"

namespace tenon::ops {

// Every op, family by family.
std::span<const OpDef* const> table();
// The op of this name, or null.
const OpDef* find(std::string_view name);

}  // namespace tenon::ops
