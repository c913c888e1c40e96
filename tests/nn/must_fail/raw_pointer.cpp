// error: a raw pointer to a layer does not say who owns it
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Layer {
  Variable weight;
};
struct Net {
#ifdef FIXED
  std::shared_ptr<Layer> layer;
#else
  Layer* layer = nullptr;
#endif
};
void use(const Net& net) { tenon::nn::parameters(net); }
