// error: this struct has a base class
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Base {
  Variable weight;
};
#ifdef FIXED
struct Net {
  Base base;
  Variable bias;
};
#else
struct Net : Base {
  Variable bias;
};
#endif
void use(const Net& net) { tenon::nn::parameters(net); }
