// Where a result may lie: in the memory of an operand that nobody reads later.
//
// That is a property of what computes it. A call may write over the inputs that its op says results may take
// (OpDef::takes), as in an eager run; a map reads each element before it writes the one at its place. Who plans memory
// asks here, and looks at lifetimes. To let a kernel of the device write over an input: the slot of its op.
#pragma once

#include <vector>

#include "tenon/compile/fuse.h"

namespace tenon::compiler {

struct Handover {
  int32_t from = -1, to = -1;  // storages of as many bytes
};
// The pairs of this group, in a fixed order; a storage may be in more than one.
std::vector<Handover> handovers(const CoreGraph& graph, const Group& group);

}  // namespace tenon::compiler
