// error: because it has a constructor, private members or virtual functions; add one line to it: using Members
#include "tenon/nn/module.h"

using tenon::Tensor;
using tenon::Variable;

class Net {
  Variable weight_;

#ifdef FIXED
 public:
  using Members = tenon::nn::Members<&Net::weight_>;
#endif
};
void use(const Net& net) { tenon::nn::state_dict(net); }
