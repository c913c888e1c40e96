// error: a raw pointer to a layer does not say who owns it
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Net {
#ifdef FIXED
  Variable weight;
#else
  Variable* weight = nullptr;
#endif
};
void use(const Net& net) { tenon::nn::parameters(net); }
