// error: because it has a constructor, private members or virtual functions; add one line to it: using Members
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

struct Net {
  explicit Net(int width);
  Variable weight;
#ifdef FIXED
  using Members = tenon::nn::Members<&Net::weight>;
#endif
};
void use(const Net& net) { tenon::nn::parameters(net); }
