// error: this struct has a base class
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Module {};
#ifdef FIXED
struct Net {
#else
struct Net : Module {
#endif
  Variable weight;
};
void use(const Net& net) { tenon::nn::parameters(net); }
