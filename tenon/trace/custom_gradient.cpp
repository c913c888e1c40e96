// Functions whose derivative is not that of their calls: custom_vjp, checkpoint, gradient hooks.
//
// A value under vmap may have two histories: its own (a grad inside the vmap) and that of the batch which it stands for
// (a grad around it). Each is linked to the rule by itself, as calls of ops are.
#include <optional>

#include "tenon/base/error.h"
#include "tenon/ops/autocast_state.h"
#include "tenon/ops/broadcast.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/autocast.h"
#include "tenon/trace/state.h"
#include "tenon/trace/tape.h"
#include "tenon/trace/transforms.h"
#include "tenon/trace/vmap.h"

namespace tenon {
namespace {

using trace::BackwardOptions;

bool any_own_history(const Tensors& in) {
  for (const auto& x : in) {
    if (x.requires_grad()) return true;
  }
  return false;
}

bool any_history(const Tensors& in) {
  if (!grad_enabled()) return false;
  for (const auto& x : in) {
    if (x.requires_grad() || trace::differentiated_outside(x)) return true;
  }
  return false;
}

// Absent cotangents as zeros: user code should not have to ask.
Tensors filled(const Tensors& ct, const Tensors& out) {
  Tensors result;
  for (size_t i = 0; i < out.size(); ++i)
    result.push_back(i < ct.size() && ct[i].defined() ? ct[i] : zeros_like(out[i].detach()));
  return result;
}

struct CustomRule {
  std::string name;
  trace::Function forward;
  CustomBackward backward;
};

// The gradient function of one example on whole batches.
CustomBackward backward_over_batches(CustomBackward backward, const trace::WholeBatches& whole, int level) {
  return [backward = std::move(backward), batched = whole.batched, size = whole.size, level](
             const Tensors& in, const Tensors& out, const Tensors& ct) {
    const trace::VmapLevel scope(level);
    const auto example = [level](const Tensor& x) { return trace::make_batched(x, level); };
    Tensors examples = in, outs, cts;
    for (size_t i = 0; i < in.size(); ++i) {
      if (batched[i]) examples[i] = example(in[i]);
    }
    for (const auto& y : out) outs.push_back(example(y));
    for (const auto& c : ct) cts.push_back(example(c));
    Tensors g = backward(examples, outs, cts);
    if (g.size() != in.size()) return g;  // who called says what is wrong
    for (size_t i = 0; i < g.size(); ++i) {
      if (!g[i].defined()) continue;
      if (g[i].shape() != examples[i].shape() && broadcasts_to(examples[i].shape(), g[i].shape()))
        g[i] = sum_to(g[i], examples[i].shape());
      g[i] = trace::whole_batch(g[i], size, level);
      if (!batched[i]) g[i] = sum(g[i], {0});
    }
    return g;
  };
}

Tensors call_custom(const CustomRule& rule, const Tensors& in) {
  if (!any_history(in)) return rule.forward(in);
  Tensors out;
  if (const int level = trace::batch_level(in); level > 0) {
    const trace::WholeBatches whole = trace::whole_batches(in, level);
    std::optional<NoGrad> plain;
    if (!any_history(whole.in)) plain.emplace();
    out = call_custom({rule.name, trace::over_batches(rule.forward, whole.batched, whole.size, level),
                       backward_over_batches(rule.backward, whole, level)},
                      whole.in);
    for (auto& y : out) y = trace::make_batched(y, level);
    if (!any_own_history(in)) return out;
  } else {
    const NoGrad no_grad;
    Tensors plain;
    for (const auto& x : in) plain.push_back(x.detach());
    out = rule.forward(plain);
  }
  const auto gradient = [name = rule.name, backward = rule.backward, in](const Tensors& ct, const Tensors& saved_out) {
    Tensors g = backward(in, saved_out, filled(ct, saved_out));
    if (g.size() != in.size())
      throw GradientError({name,
                           "the gradient function gave the wrong number of cotangents",
                           std::to_string(in.size()),
                           std::to_string(g.size()),
                           {}});
    return g;
  };
  trace::link(out, in, rule.name, gradient, {.keep_outputs = true});
  return out;
}

}  // namespace

trace::Function custom_vjp(std::string name, trace::Function forward, CustomBackward backward) {
  return [rule = CustomRule{std::move(name), std::move(forward), std::move(backward)}](const Tensors& in) {
    trace::expect_visible_gradients(rule.name.c_str());
    return call_custom(rule, in);
  };
}

trace::Function checkpoint(trace::Function fn) {
  return [fn = std::move(fn)](const Tensors& in) {
    if (!grad_enabled()) return fn(in);
    const auto run = [fn](const Tensors& inputs, Tensors& fresh, bool keep_history) {
      const trace::Differentiating scope;
      for (const auto& x : inputs) {
        const Tensor plain = keep_history ? x : trace::without_tape(x);
        fresh.push_back(x.requires_grad() ? trace::make_leaf(plain) : x);
      }
      return fn(fresh);
    };
    // The first run finds out what fn reads beside its inputs (Variables, values of an outer tape); its
    // activations die with `first`.
    Tensors out;
    std::vector<TapeEdge> outside;
    const auto generator = random_state();
    const DType precision = autocast_dtype();
    {
      Tensors fresh;
      const uint64_t start = trace::next_node_sequence();
      const Tensors first = run(in, fresh, false);
      outside = trace::edges_to_older(first, start);
      for (const auto& y : first) out.push_back(trace::without_tape(y));
    }
    trace::link(out, in, "checkpoint",
                [run, in, outside, generator, precision](const Tensors& ct, const Tensors&) {
                  // If the pass is recorded, somebody may differentiate it: the gradient depends on the inputs too.
                  const bool again = grad_enabled();
                  const EnableGrad enable;
                  const RandomStateScope same_numbers(generator);
                  Tensors y, fresh;
                  {
                    const ops::AutocastState same_precision(precision);
                    y = run(in, fresh, again);
                  }
                  Tensors outputs, cotangents;
                  for (size_t i = 0; i < y.size(); ++i) {
                    if (!ct[i].defined() || !y[i].requires_grad()) continue;
                    outputs.push_back(y[i]);
                    cotangents.push_back(ct[i]);
                  }
                  std::vector<TapeEdge> wrt = trace::edges_of(fresh);
                  wrt.insert(wrt.end(), outside.begin(), outside.end());
                  using Record = BackwardOptions::Record;
                  return trace::backpropagate(outputs, cotangents, wrt,
                                              {again, again ? Record::Always : Record::Never});
                },
                {.more = outside});
    return out;
  };
}

Tensor with_gradient_hook(const Tensor& x, std::function<Tensor(const Tensor&)> hook) {
  trace::expect_visible_gradients("with_gradient_hook");
  if (!any_history({x})) return x;
  Tensor y = x;
  if (trace::differentiated_outside(x)) {
    const auto* b = trace::batched(x);
    const auto over_batch = [hook, level = b->level](const Tensor& g) {
      const trace::VmapLevel scope(level);
      const Tensor changed = hook(trace::make_batched(g, level));
      return changed.defined() ? trace::whole_batch(changed, g.shape(0), level) : g;
    };
    y = trace::make_batched(with_gradient_hook(b->inner, over_batch), b->level);
    if (!x.requires_grad()) return y;
  }
  Tensors out{y};
  trace::link(out, {x}, "gradient hook", [hook = std::move(hook)](const Tensors& ct, const Tensors&) {
    if (!ct[0].defined()) return ct;
    Tensor changed = hook(ct[0]);
    return Tensors{changed.defined() ? changed : ct[0]};
  });
  return out[0];
}

}  // namespace tenon
