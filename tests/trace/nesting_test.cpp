// Transformations nested in each other, against central differences in f64.
//
// A layer makes a function of a function f: [3] -> [3]. Its check says the same with values of f alone: derivatives as
// differences, loops for vmap. So a nest is compared with one that is less deep by one layer, and every nest of two
// layers is tried. A new transformation: one line in layers().
#include <gtest/gtest.h>

#include <random>

#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/index.h"
#include "tenon/ops/linalg.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"
#include "tenon/trace/control.h"
#include "tenon/trace/transforms.h"
#include "tenon/trace/vmap.h"

using namespace tenon;

namespace {

using F = UnaryFunction;

Tensor row_of(const std::vector<double>& v) { return from_vector(v, {static_cast<int64_t>(v.size())}); }
const Tensor& direction() {
  static const Tensor v = row_of({0.3, -0.7, 1.1});
  return v;
}
const Tensor& weights() {
  static const Tensor w = row_of({-0.2, 0.9, 0.4});
  return w;
}

trace::Function listed(const F& f) {
  return [f](const Tensors& in) { return Tensors{f(in[0])}; };
}
F weighted(const F& f) {
  return [f](const Tensor& x) { return sum(f(x) * weights()); };
}
F summed(const F& f) {
  return [f](const Tensor& x) { return sum(f(x)); };
}

Tensor difference(const F& f, const Tensor& x, const Tensor& v) {
  const double h = 1e-5;
  return (f(x + v * h) - f(x - v * h)) / (2 * h);
}
Tensor difference_along(const F& f, const Tensor& x) { return difference(f, x, direction()); }
// The weights times the Jacobian.
Tensor difference_back(const F& f, const Tensor& x) {
  Tensors columns;
  for (int64_t i = 0; i < x.size(); ++i) {
    std::vector<double> unit(3);
    unit[static_cast<size_t>(i)] = 1;
    columns.push_back(sum(weights() * difference(f, x, row_of(unit))));
  }
  return stack(columns, 0);
}
Tensor second_difference(const F& f, const Tensor& x) { return difference_along(grad(summed(f)), x); }

// The same value with twice the derivative, and with half of it, by different means: one that is passed over shows.
Tensor doubled_by_detach(const Tensor& x) { return x * 2.0 - x.detach(); }
Tensor halved_by_detach(const Tensor& x) { return (x + x.detach()) * 0.5; }
Tensor halved_by_hook(const Tensor& x) {
  return with_gradient_hook(x, [](const Tensor& g) { return g * 0.5; });
}
Tensor doubled_by_rule(const Tensor& x) {
  return custom_vjp(
      "doubled", [](const Tensors& in) { return Tensors{in[0] * 1.0}; },
      [](const Tensors&, const Tensors&, const Tensors& ct) { return Tensors{ct[0] * 2.0}; })({x})[0];
}
// x^3 by a rule that reads the input, the output and a value from outside.
Tensor cubed_by_rule(const Tensor& x, const Tensor& one) {
  return custom_vjp(
      "cubed", [one](const Tensors& in) { return Tensors{in[0] * in[0] * in[0] * one}; },
      [one](const Tensors& in, const Tensors& out, const Tensors& ct) {
        return Tensors{ct[0] * (in[0] * in[0] * 2.0 * one + out[0] / in[0])};
      })({x})[0];
}

struct Layer {
  const char* name;
  std::function<Tensor(const F&, const Tensor&)> apply, check;
};

Tensor same(const F& f, const Tensor& x) { return f(x); }

std::vector<Layer> derivatives() {
  return {
      {"jvp", [](const F& f, const Tensor& x) { return jvp(listed(f), {x}, {direction()}).tangents[0]; },
       difference_along},
      {"vjp", [](const F& f, const Tensor& x) { return vjp(listed(f), {x}).pullback({weights()})[0]; },
       difference_back},
      {"grad", [](const F& f, const Tensor& x) { return grad(weighted(f))(x); }, difference_back},
      {"value_and_grad",
       [](const F& f, const Tensor& x) {
         const auto r = value_and_grad([f](const Tensors& in) { return sum(f(in[0]) * weights()); })({x});
         return r.grads[0] + r.value;
       },
       [](const F& f, const Tensor& x) { return difference_back(f, x) + sum(f(x) * weights()); }},
      {"jacobian", [](const F& f, const Tensor& x) { return matmul(jacobian(f, x), direction()); }, difference_along},
      {"hvp", [](const F& f, const Tensor& x) { return hvp(summed(f), x, direction()); }, second_difference},
      {"hessian", [](const F& f, const Tensor& x) { return matmul(hessian(summed(f), x), direction()); },
       second_difference},
  };
}

std::vector<Layer> layers() {
  std::vector<Layer> all = derivatives();
  const std::vector<Layer> more{
      {"vmap",
       [](const F& f, const Tensor& x) {
         const Tensor y = vmap(listed(f))({stack({x, x * 0.5, x + 1.0})})[0];
         return y[0] + y[1] * 2.0 - y[2];
       },
       [](const F& f, const Tensor& x) { return f(x) + f(x * 0.5) * 2.0 - f(x + 1.0); }},
      {"vmap of a closure",
       [](const F& f, const Tensor& x) {
         return sum(vmap([&](const Tensors& in) { return Tensors{f(x * in[0])}; })({row_of({1, 0.5})})[0], {0});
       },
       [](const F& f, const Tensor& x) { return f(x) + f(x * 0.5); }},
      {"checkpoint", [](const F& f, const Tensor& x) { return checkpoint(listed(f))({x})[0]; }, same},
      {"checkpoint of a closure",
       [](const F& f, const Tensor& x) {
         return checkpoint([f, x](const Tensors& in) { return Tensors{f(x * in[0])}; })({ones_like(x)})[0];
       },
       same},
      {"detach and hook", [](const F& f, const Tensor& x) { return f(halved_by_hook(doubled_by_detach(x))); }, same},
      {"custom_vjp and detach", [](const F& f, const Tensor& x) { return halved_by_detach(doubled_by_rule(f(x))); },
       same},
      {"custom_vjp", [](const F& f, const Tensor& x) { return f(cubed_by_rule(x, ones_like(x)) / (x * x)); }, same},
      {"custom_vjp of the function",
       [](const F& f, const Tensor& x) {
         return custom_vjp("mine", listed(f), [f](const Tensors& in, const Tensors&, const Tensors& ct) {
           return vjp(listed(f), in).pullback(ct);
         })({x})[0];
       },
       same},
      {"cond",
       [](const F& f, const Tensor& x) {
         return cond(sum(x) > -100.0, listed(f), [](const Tensors& in) { return Tensors{in[0] * 2.0}; }, {x})[0];
       },
       same},
      {"scan",
       [](const F& f, const Tensor& x) {
         const auto step = [f](const Tensors& carry, const Tensors& in) { return ScanStep{{carry[0] + f(in[0])}, {}}; };
         return scan(step, {x * 0.0}, {stack({x, x * 0.5})}).carry[0];
       },
       [](const F& f, const Tensor& x) { return f(x) + f(x * 0.5); }},
  };
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

struct Base {
  const char* name;
  F f;
};
std::vector<Base> bases() {
  return {
      {"polynomial", [](const Tensor& x) { return x * x * flip(x, {0}) + sin(x); }},
      {"softmax", [](const Tensor& x) { return softmax(x * 2.0); }},
      {"inverse",
       [](const Tensor& x) {
         const Tensor m = matmul(unsqueeze(x, {1}), unsqueeze(x, {0})) + eye(3, 3, f64) * 3.0;
         return matmul(inverse(m), x);
       }},
      {"sort", [](const Tensor& x) { return cumsum(sort(tanh(x)).values); }},
      {"index",
       [](const Tensor& x) {
         const Tensor y = set(x, {tensor({0, 2})}, exp(index(x, {tensor({1, 1})})), ScatterMode::Add);
         return index(y, {tensor({2, 0, 1})});
       }},
      {"layer_norm", [](const Tensor& x) { return layer_norm(x, x, x); }},
  };
}

void expect_equal(const std::string& name, const F& f, const Layer& outer) {
  SCOPED_TRACE(name);
  const Tensor x = row_of({0.5, -0.3, 0.8});
  try {
    const Tensor got = outer.apply(f, x), want = outer.check(f, x);
    ASSERT_EQ(got.shape(), want.shape());
    const double scale = 1 + max(abs(want)).item();
    EXPECT_LT(max(abs(got - want)).item(), 2e-5 * scale) << "got " << to_string(got) << "\nwant " << to_string(want);
  } catch (const std::exception& e) {
    ADD_FAILURE() << e.what();
  }
}

F layered(const Layer& layer, F f) {
  return [layer, f = std::move(f)](const Tensor& x) { return layer.apply(f, x); };
}

TEST(Nesting, OneLayer) {
  for (const auto& base : bases()) {
    for (const auto& layer : layers()) expect_equal(std::string(layer.name) + "(" + base.name + ")", base.f, layer);
  }
}

TEST(Nesting, EveryTwoLayers) {
  const std::vector<Base> all = bases();
  size_t turn = 0;
  for (const auto& outer : layers()) {
    for (const auto& inner : layers()) {
      // Two functions for each pair, taken in turns.
      for (int k = 0; k < 2; ++k) {
        const Base& base = all[turn++ % all.size()];
        expect_equal(std::string(outer.name) + "(" + inner.name + "(" + base.name + "))", layered(inner, base.f),
                     outer);
      }
    }
  }
}

TEST(Nesting, AtRandom) {
  const std::vector<Layer> all = layers(), outermost = derivatives();
  const std::vector<Base> functions = bases();
  for (const unsigned seed : {1u, 2u, 3u, 4u}) {
    std::mt19937 random(seed);
    for (int k = 0; k < 60; ++k) {
      const Base& base = functions[random() % functions.size()];
      const Layer &a = all[random() % all.size()], &b = all[random() % all.size()];
      const Layer& outer = outermost[random() % outermost.size()];
      expect_equal(std::string(outer.name) + "(" + a.name + "(" + b.name + "(" + base.name + ")))",
                   layered(a, layered(b, base.f)), outer);
    }
  }
}

}  // namespace
