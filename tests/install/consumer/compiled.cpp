// Uses an installed compiler from outside the project's tree.
#include <tenon/compile.h>
#include <tenon/tenon.h>

int main() {
  auto f = tenon::compile([](const tenon::Tensor& x) { return exp(x) + x; }, {.disk = {.on = false}});
  const tenon::Tensor y = f(tenon::tensor({0.0, 0.0}));
  return y.to_vector<float>() == std::vector<float>{1, 1} && f.explain().compilations == 1 ? 0 : 1;
}
