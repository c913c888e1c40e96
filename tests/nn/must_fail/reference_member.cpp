// error: the members of this struct cannot be counted: it has a reference member
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Layer {
  Variable weight;
};
struct Net {
#ifdef FIXED
  std::reference_wrapper<Layer> layer;
#else
  Layer& layer;
#endif
  Variable bias;
};
void use(const Net& net) { tenon::nn::parameters(net); }
