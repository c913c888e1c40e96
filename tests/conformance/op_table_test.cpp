// Every op of the table, by its own samples: no op is named here.
//
// What a definition says must hold together: kernels equal the reference, inferred types equal real ones, gradients
// equal differences, vmap equals a loop, buffers may be reused or not, a graph of the call says the same after a round
// trip through text. To add a check: a test that loops over for_each_case.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "samples.h"
#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/session.h"
#include "tenon/ir/text.h"
#include "tenon/ops/call.h"
#include "tenon/ops/catalog.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/table.h"
#include "tenon/trace/transforms.h"
#include "tenon/trace/vmap.h"

namespace tenon::conformance {
namespace {

const std::vector<DType> kReal{DType::F32, DType::F64}, kWhole{DType::I32, DType::I64, DType::U8, DType::Bool},
    kShort{DType::F16, DType::BF16};

std::vector<DType> all_dtypes_tested() {
  std::vector<DType> list = kReal;
  list.insert(list.end(), kWhole.begin(), kWhole.end());
  list.insert(list.end(), kShort.begin(), kShort.end());
  return list;
}

Tensors in_session(const exec::SessionOptions& options, const std::function<Tensors()>& fn) {
  exec::Session session(options);
  const exec::SessionScope scope(session);
  return fn();
}

TEST(OpTable, EveryDefinitionIsComplete) {
  for (const ops::OpDef* op : ops::table()) {
    const std::string name(op->name);
    EXPECT_FALSE(op->doc.empty()) << name << " has no doc";
    EXPECT_FALSE(samples_of(*op).empty()) << name << " has no samples";
    if (const auto* none = std::get_if<ops::NoGradient>(&op->gradient)) {
      EXPECT_FALSE(none->reason.empty()) << name << ": no gradient, and no reason";
    }
    if (const auto* none = std::get_if<ops::NotDifferentiable>(&op->gradient)) {
      EXPECT_FALSE(none->reason.empty()) << name << ": not differentiable, and no reason";
    }
    if (const auto* none = std::get_if<ops::NoBatching>(&op->batching)) {
      EXPECT_FALSE(none->reason.empty()) << name << ": no batching, and no reason";
    }
    if (const auto* unrolled = std::get_if<ops::Unrolled>(&op->batching)) {
      EXPECT_FALSE(unrolled->reason.empty()) << name << ": unrolled, and no reason";
    }
    EXPECT_EQ(ops::find(op->name), op) << name << " is in the table twice";
  }
}

TEST(OpTable, KernelsEqualTheReference) {
  for_each_case(all_dtypes_tested(), [](const Case& c) {
    const Tensors in = inputs_of(c);
    const Tensors want = in_session({.threads = 1, .reference = true}, [&] { return call(c, in); });
    const Tensors got = call(c, in);
    std::string what;
    EXPECT_TRUE(near(got, want, c.op->tolerance.epsilons, what)) << c.name() << ": " << what;
  });
}

TEST(OpTable, LayoutsDoNotChangeABit) {
  for_each_case(all_dtypes_tested(), [](const Case& c) {
    const Tensors in = inputs_of(c);
    const Tensors want = call(c, in);
    for (Layout layout : {Layout::Transposed, Layout::Reversed, Layout::Strided}) {
      Tensors moved;
      for (const auto& x : in) moved.push_back(arranged(x, layout));
      std::string what;
      EXPECT_TRUE(same_bits(call(c, moved), want, what))
          << c.name() << ", layout " << static_cast<int>(layout) << ": " << what;
    }
  });
}

TEST(OpTable, InferredTypesAreReal) {
  for_each_case(all_dtypes_tested(), [](const Case& c) {
    if (!ops::has_infer(*c.op)) return;
    const Tensors in = inputs_of(c);
    // By a capture: its values have the inferred types.
    std::vector<InputSpec> specs;
    for (const auto& x : in) specs.push_back({"", x.defined() ? x.type() : TensorType{}});
    const ir::Graph graph = capture(
        [&](const Tensors& traced) {
          Tensors args = traced;
          for (size_t i = 0; i < args.size(); ++i) {
            if (!in[i].defined()) args[i] = Tensor();
          }
          return call(c, args);
        },
        specs);
    const Tensors out = call(c, in);
    ASSERT_EQ(out.size(), graph.outputs.size()) << c.name();
    for (size_t k = 0; k < out.size(); ++k) EXPECT_EQ(graph.type(graph.outputs[k]), out[k].type()) << c.name();
  });
}

// The call as a graph, through its text and back, gives the same bits.
TEST(OpTable, GraphsSurviveTheirText) {
  for_each_case({DType::F32, DType::I64}, [](const Case& c) {
    const Tensors in = inputs_of(c);
    std::vector<InputSpec> specs;
    Tensors given;
    for (const auto& x : in) {
      if (!x.defined()) continue;
      specs.push_back({"", x.type()});
      given.push_back(x);
    }
    const auto fn = [&](const Tensors& traced) {
      Tensors args;
      size_t next = 0;
      for (const auto& x : in) args.push_back(x.defined() ? traced[next++] : Tensor());
      return call(c, args);
    };
    if (std::holds_alternative<ops::DataDependent>(c.op->meaning)) {
      if (!given.empty()) {
        EXPECT_THROW(capture(fn, specs), UnsupportedError) << c.name();
      }
      return;
    }
    const ir::Graph graph = capture(fn, specs);
    const std::string text = ir::to_text(graph, ops::catalog(), {.inline_elements = 1 << 20});
    const ir::Graph back = ir::parse(text, ops::catalog());
    EXPECT_EQ(ir::to_text(back, ops::catalog(), {.inline_elements = 1 << 20}), text) << c.name();
    EXPECT_EQ(ir::find_defect(back, ops::catalog(), ops::type_rule()), "") << c.name();
    std::string what;
    EXPECT_TRUE(same_bits(exec::run(back, given), call(c, in), what)) << c.name() << ": " << what;
  });
}

TEST(OpTable, ReuseThreadsAndLevelsDoNotChangeABit) {
  for_each_case({DType::F32, DType::I64}, [](const Case& c) {
    const auto fresh = [&] { return call(c, inputs_of(c)); };  // the op gets the last handles: it may take buffers
    const Tensors want = in_session({.threads = 1, .reuse = false}, fresh);
    std::string what;
    EXPECT_TRUE(same_bits(in_session({.threads = 1, .reuse = true}, fresh), want, what))
        << c.name() << ", reuse: " << what;
    EXPECT_TRUE(same_bits(in_session({.threads = 1, .reuse = true, .poison = true}, fresh), want, what))
        << c.name() << ", poison: " << what;
    EXPECT_TRUE(same_bits(in_session({.threads = 3}, fresh), want, what)) << c.name() << ", threads: " << what;
  });
}

// ---- gradients ----
struct Differentiated {
  Tensors in;
  std::vector<size_t> wrt;
  trace::Function fn;  // of the differentiable inputs alone: a weighted sum of the real results
  bool any = false;
  bool exact = true;  // every real result is f64: differences can be trusted
};

Tensor random_like(const Tensor& x, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(0.2, 1.2);
  std::vector<double> v(static_cast<size_t>(x.size()));
  for (double& e : v) e = uniform(random);
  return cast(from_vector(v, x.shape()), x.dtype());
}

Differentiated differentiated(const Case& c) {
  Differentiated d{inputs_of(c), {}, {}};
  const auto wanted = differentiable_inputs(c, d.in);
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i]) d.wrt.push_back(i);
  }
  const Tensors out = call(c, d.in);
  Tensors weights(out.size());
  for (size_t k = 0; k < out.size(); ++k) {
    const bool flows = k >= 31 || ((c.op->differentiable_results >> k) & 1U) != 0;
    if (flows && out[k].defined() && is_float(out[k].dtype())) {
      weights[k] = random_like(out[k], 11 + k);
      d.any = true;
      d.exact = d.exact && out[k].dtype() == DType::F64;
    }
  }
  d.fn = [c, in = d.in, wrt = d.wrt, weights](const Tensors& real) {
    Tensors args = in;
    for (size_t i = 0; i < wrt.size(); ++i) args[wrt[i]] = real[i];
    const Tensors results = call(c, args);
    Tensor total = zeros({}, DType::F64);
    for (size_t k = 0; k < results.size(); ++k) {
      if (weights[k].defined()) total = total + sum(results[k] * weights[k]);
    }
    return Tensors{total};
  };
  return d;
}

Tensors picked(const Differentiated& d) {
  Tensors real;
  for (size_t i : d.wrt) real.push_back(d.in[i]);
  return real;
}

// d fn / d real[i], by central differences.
Tensor differences(const trace::Function& fn, const Tensors& real, size_t i, double h) {
  const Tensor& x = real[i];
  auto values = x.to_vector<double>();
  std::vector<double> slopes;
  for (size_t e = 0; e < values.size(); ++e) {
    const double kept = values[e];
    const auto at = [&](double v) {
      values[e] = v;
      Tensors moved = real;
      moved[i] = from_vector(values, x.shape());
      const double y = fn(moved)[0].item<double>();
      values[e] = kept;
      return y;
    };
    slopes.push_back((at(kept + h) - at(kept - h)) / (2 * h));
  }
  return from_vector(slopes, x.shape());
}

std::string compare_slopes(const Tensor& got, const Tensor& want, double relative) {
  const auto a = got.to_vector<double>(), b = want.to_vector<double>();
  double scale = 1;
  for (double v : b) scale = std::max(scale, std::abs(v));
  for (size_t e = 0; e < a.size(); ++e) {
    if (std::abs(a[e] - b[e]) <= relative * scale) continue;
    return fmt::format("element {}: {}, by differences {}", e, a[e], b[e]);
  }
  return {};
}

bool has_gradient(const Case& c) {
  return std::holds_alternative<ops::Vjp>(c.op->gradient) ||
         std::holds_alternative<ops::GradientOfBody>(c.op->gradient);
}

TEST(OpTable, GradientsEqualDifferences) {
  for_each_case({DType::F64}, [](const Case& c) {
    if (!has_gradient(c) || c.op->random) return;
    const Differentiated d = differentiated(c);
    if (!d.any || !d.exact || d.wrt.empty()) return;
    const Tensors real = picked(d);
    const Tensors g = grad([&](const Tensors& in) { return d.fn(in)[0]; })(real);
    for (size_t i = 0; i < real.size(); ++i) {
      const std::string what = compare_slopes(g[i], differences(d.fn, real, i, 1e-6), c.op->tolerance.gradient);
      EXPECT_EQ(what, "") << c.name() << ", input " << d.wrt[i];
    }
  });
}

TEST(OpTable, SecondDerivativesEqualDifferencesOfTheFirst) {
  for_each_case({DType::F64}, [](const Case& c) {
    if (!has_gradient(c) || c.op->random) return;
    const Differentiated d = differentiated(c);
    if (!d.any || !d.exact || d.wrt.empty()) return;
    const Tensors real = picked(d);
    const trace::Function slope = [&](const Tensors& in) {
      const Tensors g = grad([&](const Tensors& x) { return d.fn(x)[0]; })(in);
      Tensor total = zeros({}, DType::F64);
      for (size_t k = 0; k < g.size(); ++k) total = total + sum(g[k] * random_like(g[k], 71 + k));
      return Tensors{total};
    };
    Tensors g;
    try {
      g = grad([&](const Tensors& in) { return slope(in)[0]; })(real);
    } catch (const GradientError& error) {
      // The derivative calls an op that has none, with a reason of its own.
      EXPECT_NE(error.parts().problem.find("has no gradient: "), std::string::npos) << c.name();
      return;
    }
    for (size_t i = 0; i < real.size(); ++i) {
      const std::string what = compare_slopes(g[i], differences(slope, real, i, 1e-5), 30 * c.op->tolerance.gradient);
      EXPECT_EQ(what, "") << c.name() << ", input " << d.wrt[i];
    }
  });
}

TEST(OpTable, ForwardAndReverseDerivativesAgree) {
  for_each_case({DType::F64}, [](const Case& c) {
    if (!has_gradient(c) || c.op->random) return;
    const Differentiated d = differentiated(c);
    if (!d.any || !d.exact || d.wrt.empty()) return;
    const Tensors real = picked(d);
    const Tensors g = grad([&](const Tensors& in) { return d.fn(in)[0]; })(real);
    Tensors tangents;
    double want = 0;
    for (size_t i = 0; i < real.size(); ++i) {
      tangents.push_back(random_like(real[i], 5 + i));
      want += sum(g[i] * tangents[i]).item<double>();
    }
    const double got = jvp(d.fn, real, tangents).tangents[0].item<double>();
    EXPECT_NEAR(got, want, 1e-9 * std::max(1.0, std::abs(want))) << c.name();
  });
}

TEST(OpTable, AskingForAGradientThatIsNotThereIsAnError) {
  for_each_case({DType::F64}, [](const Case& c) {
    if (!std::holds_alternative<ops::NotDifferentiable>(c.op->gradient)) return;
    const Differentiated d = differentiated(c);
    if (!d.any || d.wrt.empty()) return;
    EXPECT_THROW(grad([&](const Tensors& in) { return d.fn(in)[0]; })(picked(d)), GradientError) << c.name();
  });
}

// ---- vmap ----
TEST(OpTable, VmapEqualsALoop) {
  for_each_case({DType::F64, DType::I64}, [](const Case& c) {
    if (c.op->random) return;
    constexpr int64_t kSize = 3;
    std::vector<Tensors> examples;
    for (uint64_t b = 0; b < kSize; ++b) examples.push_back(inputs_of(c, b));
    const size_t n = examples[0].size();
    if (n == 0) return;
    std::vector<uint32_t> subsets{(1U << n) - 1};
    for (size_t i = 0; n > 1 && i < n; ++i) subsets.push_back(1U << i);
    for (uint32_t subset : subsets) {
      Tensors in = examples[0];
      VmapOptions options;
      bool any = false;
      for (size_t i = 0; i < n; ++i) {
        const bool batched = ((subset >> i) & 1U) != 0 && in[i].defined();
        options.in_axes.push_back(batched ? 0 : kNotBatched);
        any = any || batched;
        if (!batched) continue;
        Tensors rows;
        for (const auto& e : examples) rows.push_back(e[i]);
        in[i] = stack(rows, 0);
      }
      if (!any) continue;
      const auto mapped = vmap([&](const Tensors& x) { return call(c, x); }, options);
      if (std::holds_alternative<ops::NoBatching>(c.op->batching)) {
        EXPECT_THROW(mapped(in), UnsupportedError) << c.name();
        continue;
      }
      std::vector<Tensors> loop;
      for (int64_t b = 0; b < kSize; ++b) {
        Tensors args = examples[0];
        for (size_t i = 0; i < n; ++i) {
          if (((subset >> i) & 1U) != 0) args[i] = examples[static_cast<size_t>(b)][i];
        }
        loop.push_back(call(c, args));
      }
      Tensors want;
      for (size_t k = 0; k < loop[0].size(); ++k) {
        Tensors rows;
        for (auto& r : loop) rows.push_back(r[k]);
        want.push_back(stack(rows, 0));
      }
      std::string what;
      EXPECT_TRUE(near(mapped(in), want, 8 * c.op->tolerance.epsilons, what))
          << c.name() << ", inputs " << subset << ": " << what;
    }
  });
}

TEST(OpTable, VmapOfTheGradientEqualsALoop) {
  for_each_case({DType::F64}, [](const Case& c) {
    if (!has_gradient(c) || c.op->random || std::holds_alternative<ops::NoBatching>(c.op->batching)) return;
    const Differentiated d = differentiated(c);
    if (!d.any || d.wrt.empty()) return;
    const Tensors one = picked(d);
    const auto slope = [&](const Tensors& x) { return grad([&](const Tensors& in) { return d.fn(in)[0]; })(x); };
    Tensors batch, want;
    for (const auto& x : one) batch.push_back(stack({x, x * 0.75, x}, 0));
    std::vector<Tensors> loop;
    for (int64_t b = 0; b < 3; ++b) {
      Tensors x;
      for (const auto& all : batch) x.push_back(all[b]);
      loop.push_back(slope(x));
    }
    for (size_t k = 0; k < one.size(); ++k) want.push_back(stack({loop[0][k], loop[1][k], loop[2][k]}, 0));
    std::string what;
    EXPECT_TRUE(near(vmap(slope)(batch), want, 64 * c.op->tolerance.epsilons, what)) << c.name() << ": " << what;
  });
}

// ---- mistakes ----
TEST(OpTable, WrongCallsAreRefusedWithATextThatSaysWhy) {
  size_t count = 0;
  for (const ops::OpDef* op : ops::table()) {
    if (!op->invalid_samples) continue;
    const auto list = op->invalid_samples();
    for (size_t n = 0; n < list.size(); ++n) {
      const Case c{op, {list[n].inputs, list[n].attrs, {}}, n, DType::F32};
      ++count;
      try {
        (void)call(c, inputs_of(c));
        ADD_FAILURE() << op->name << ", invalid sample " << n << " is accepted";
      } catch (const Error& error) {
        const std::string text = error.what();
        EXPECT_NE(text.find(std::string(list[n].message)), text.npos)
            << op->name << ", invalid sample " << n << ": \"" << text << "\" lacks \"" << list[n].message << '"';
        EXPECT_FALSE(error.parts().where.empty()) << text;
      } catch (const std::exception& error) {
        ADD_FAILURE() << op->name << ", invalid sample " << n << ": not a typed error: " << error.what();
      }
    }
  }
  EXPECT_GE(count, 60U);
}

}  // namespace
}  // namespace tenon::conformance
