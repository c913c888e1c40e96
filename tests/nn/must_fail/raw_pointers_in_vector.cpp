// error: a raw pointer to a layer does not say who owns it
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Layer {
  Variable weight;
};
struct Net {
#ifdef FIXED
  std::vector<std::unique_ptr<Layer>> layers;
#else
  std::vector<Layer*> layers;
#endif
};
void use(const Net& net) { tenon::nn::parameters(net); }
