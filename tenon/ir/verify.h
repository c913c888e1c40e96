// What a well-formed graph is.
//
//  - Every value is defined once, by an input or by one node, before it is used; ids are within the graph; outputs
//    are defined; names of values are unique where given.
//  - A constant node has elements, of its value's type, and neither operands nor attributes. A call has the
//    attributes that its op declares, of their types; sub-graphs are well-formed themselves. Extents are not negative.
//  - With a TypeRule: results are what the op's inference says.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tenon/ir/schema.h"

namespace tenon::ir {

// The types that a call's results have; throws tenon::Error if the op refuses the operands. Absent optional
// operands have present[i] == false.
using TypeRule = std::function<std::vector<TensorType>(const ops::OpDef& op, std::span<const TensorType> in,
                                                       std::span<const bool> present, const Attrs& attrs)>;

// The first thing wrong, with the offending node in text form; "" if the graph is well-formed. Foreign graphs
// (a package) are checked by this.
std::string find_defect(const Graph& graph, const OpCatalog& ops, const TypeRule& rule = {});
// InternalError with that text: a pass of ours broke the graph. `where` names the pass.
void verify(std::string_view where, const Graph& graph, const OpCatalog& ops, const TypeRule& rule = {});

}  // namespace tenon::ir
