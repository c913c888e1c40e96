// compile(fn): the same function, whose calls are recorded, fused and run as compiled programs.
//
//   auto step = tenon::compile([&](Tensor x, Tensor y) {
//     optimizer.zero_grad();
//     Tensor loss = loss_fn(model(x), y);
//     loss.backward();
//     optimizer.step();
//     return loss;
//   });
//   for (…) losses.push_back(step(x, y));
//   std::cout << to_string(step.explain());
//
// The host code runs on every call, so conditions, loops, prints and breakpoints keep their meaning; nothing is guarded
// and nothing is assumed. Its ops are recorded instead of computed; at the end, or when a value is looked at (item,
// data, a print), what was recorded is looked up by its structure and the compiled program runs. Forward, backward and
// update are one program. Results, gradients and Variables have the same bits as in an eager run. Whoever keeps the
// function compiles once for each structure: shapes, dtypes and the ops themselves; numbers are inputs. Calls from
// several threads are safe if the function itself is. Link tenon_compile.
#pragma once

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "tenon/compile/engine.h"

namespace tenon {

template <class F>
class Compiled {
 public:
  Compiled(F fn, CompileOptions options)
      : fn_(std::move(fn)), engine_(std::make_shared<compiler::Engine>(std::move(options))) {}
  Compiled(const Compiled&) = default;
  Compiled& operator=(const Compiled&) = default;
  // What was moved from can be called like any moved function: it keeps its compiled programs, so the engine is shared.
  Compiled(Compiled&& other) noexcept(std::is_nothrow_move_constructible_v<F>)
      : fn_(std::move(other.fn_)), engine_(other.engine_) {}  // NOLINT(performance-move-constructor-init)
  Compiled& operator=(Compiled&& other) noexcept(std::is_nothrow_move_assignable_v<F>) {
    fn_ = std::move(other.fn_);
    engine_ = other.engine_;
    return *this;
  }
  ~Compiled() = default;

  // Errors: those of the function. Kernels that depend on values (an index out of range) complain when their segment
  // runs, which is later than in an eager run.
  template <class... A>
  auto operator()(A&&... arguments) {
    compiler::Recording recording(*engine_);
    if constexpr (std::is_void_v<std::invoke_result_t<F&, A...>>) {
      std::invoke(fn_, std::forward<A>(arguments)...);
      recording.finish();
    } else {
      auto result = std::invoke(fn_, std::forward<A>(arguments)...);
      recording.finish();
      return result;
    }
  }
  // What was captured, fused, split, compiled, how long it took, and the planned memory.
  [[nodiscard]] Explanation explain() const { return engine_->explain(); }

 private:
  F fn_;
  std::shared_ptr<compiler::Engine> engine_;
};

// Copies share the compiled programs.
template <class F>
Compiled<std::decay_t<F>> compile(F&& fn, CompileOptions options = {}) {
  return {std::forward<F>(fn), std::move(options)};
}

}  // namespace tenon
