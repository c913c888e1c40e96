// error: inherits the Members line of its base and adds members that the line does not list
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Layer {
  explicit Layer(int width);
  Variable weight;
  using Members = tenon::nn::Members<&Layer::weight>;
};
struct Scaled : Layer {
  using Layer::Layer;
  Variable scale;
#ifdef FIXED
  using Members = tenon::nn::Members<&Layer::weight, &Scaled::scale>;
#endif
};
void use(const Scaled& net) { tenon::nn::parameters(net); }
