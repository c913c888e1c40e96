// error: because it has a constructor, private members or virtual functions
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Layer {
#ifndef FIXED
  explicit Layer(int width);
#endif
  Variable weight;
};
struct Net {
  std::vector<Layer> layers;
};
void use(const Net& net) { tenon::nn::parameters(net); }
