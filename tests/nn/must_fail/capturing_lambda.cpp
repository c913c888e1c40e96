// error: a lambda that captures may hide Variables
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

void use(Variable scale) {
#ifdef FIXED
  struct Scale {
    Variable scale;
    Tensor operator()(Tensor x) const;
  } layer{scale};
#else
  auto layer = [scale](Tensor x) { return scale.defined() ? x : Tensor(); };
#endif
  tenon::nn::parameters(std::tuple{1, layer});
}
