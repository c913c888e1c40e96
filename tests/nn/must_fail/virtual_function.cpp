// error: because it has a constructor, private members or virtual functions
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Net {
#ifndef FIXED
  virtual
#endif
      Tensor
      forward(Tensor x) const;
  Variable weight;
};
void use(const Net& net) { tenon::nn::parameters(net); }
