// RowRecipe: what a claimed kernel computes row by row, as data, so that a compiler can fuse it with what is around.
//
// Rows run along the last axes of the first input, n elements each. Steps are maps over elements or over rows, and
// folds of elements to one value of the row. A fold goes through 32 lanes that begin with `empty` (element i into lane
// i mod 32), combined as a tree: lane j with lane j + 16, then j + 8, … The kernel itself must do just that, for the
// compiled and the eager bits are compared.
#pragma once

#include <vector>

#include "tenon/ir/scalar.h"

namespace tenon {

struct RowRecipe {
  // How an input lies over the rows.
  enum class Along : uint8_t { Elements, Rows, Columns };
  struct Step {
    bool fold = false;
    bool of_row = false;                       // one value for each row; always for a fold
    std::vector<int> operands;                 // steps by number; inputs as -1 - number
    ir::ScalarProgram program;                 // of a map
    ir::ScalarOp combine = ir::ScalarOp::Add;  // of a fold: Add or Max
    double empty = 0;
  };
  int64_t n = 0;
  std::vector<Along> inputs;
  std::vector<Step> steps;
  std::vector<int> results;  // steps
};

}  // namespace tenon
