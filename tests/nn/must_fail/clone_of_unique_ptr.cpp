// error: clone needs a model that can be copied
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
  std::unique_ptr<Layer> layer;
#endif
};
Net use(const Net& net) { return tenon::nn::clone(net); }
