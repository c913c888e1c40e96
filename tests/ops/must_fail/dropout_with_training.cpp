// error: deleted function
#include "tenon/tenon.h"

// PyTorch's order of arguments: the flag would become a key.
tenon::Tensor f(const tenon::Tensor& x, bool training) {
#ifdef FIXED
  return training ? dropout(x, 0.1) : x;
#else
  return dropout(x, 0.1, training);
#endif
}
