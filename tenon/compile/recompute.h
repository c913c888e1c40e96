// Values that are computed again where they are read late, instead of being kept until then.
//
// A value that cheap maps make (an activation, a mask, a normalised row, a cast, a turned copy) and that is read long
// after it was made lies in memory all the while: in a training step, from forward to backward. If what it is made of
// is there in any case when it is read, its late readers get copies of the maps: in their own kernel where that is
// possible, else in one kernel before the first of them (a product reads memory). The same maps over the same operands
// give the same bits. What happens is decided by the graph and its sizes alone, only for values that are alive where
// most memory is needed, and only if the plan of the whole then needs less. To change what is cheap: kMostCost.
#pragma once

#include <cstdint>
#include <vector>

#include "tenon/compile/fuse.h"

namespace tenon::compiler {

// Whoever reads the storage in a group behind this place reads a copy.
struct LateCopy {
  int32_t storage = -1;
  int32_t behind = -1;  // a place in the list of groups before anything is computed again
};

struct RecomputeOptions {
  int64_t from = 1 << 16;     // bytes of a value from which on it is worth it
  std::vector<bool> donated;  // of each leaf: a result may take its memory after its last reader
};

struct Recomputed {
  std::vector<LateCopy> copies;  // in the order in which they were made
  int64_t saved_bytes = 0;       // of the memory that values between groups take, by the plan
};

// Rewrites graph and groups, or leaves them if the plan would not need less.
Recomputed recompute(CoreGraph& graph, std::vector<Group>& groups, const RecomputeOptions& options);
// The copies of a graph of the same ops at other sizes, so that the kernels are the same; without what cannot be here.
Recomputed recompute_alike(CoreGraph& graph, std::vector<Group>& groups, const std::vector<LateCopy>& copies);
// What is wrong with the groups (a node in none or two of them, a value that is read before it is made), or nothing.
std::string problem_of(const CoreGraph& graph, const std::vector<Group>& groups);

}  // namespace tenon::compiler
