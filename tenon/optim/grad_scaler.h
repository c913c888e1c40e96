// GradScaler: keeps the small gradients of f16 above zero, as PyTorch's torch.amp.GradScaler does.
//
//   optim::GradScaler scaler;
//   optimizer.zero_grad();
//   { Autocast scope(f16); loss = loss_fn(model(x), y); }
//   scaler.scale(loss).backward();        // gradients times the scale
//   scaler.step(optimizer);               // divided again; skipped if one of them is not finite
//   scaler.update();                      // a smaller scale after such a step, a larger one after many good steps
//
// The scale is a Variable, so a compiled step does not depend on its value. bf16 has the range of f32 and needs none.
#pragma once

#include <map>

#include "tenon/optim/optimizer.h"

namespace tenon::optim {

struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  int64_t growth_interval = 2000;  // steps without an overflow until the scale grows
  bool enabled = true;             // false: scale 1, never a skipped step
};

class GradScaler {
 public:
  // Errors: ValueError for factors on the wrong side of 1, an interval below 1, a scale that is not positive.
  explicit GradScaler(GradScalerOptions options = {});

  [[nodiscard]] Tensor scale(const Tensor& loss) const;
  // Divides the gradients by the scale, before step() would: to clip them, or to look at them. Once for each step.
  // Errors: ValueError if it is called twice, or after step().
  void unscale(Optimizer& optimizer);
  // unscale() unless it was called, then optimizer.step() if all gradients are finite. Returns whether the step was
  // taken. Errors: ValueError if it is called twice without update(), and those of the optimiser.
  bool step(Optimizer& optimizer);
  // After the steps of all optimisers. Errors: ValueError if there was none.
  void update();

  [[nodiscard]] double scale_now() const;
  // "scale" and "growth_tracker".
  [[nodiscard]] StateDict state_dict() const;
  // Errors: ValueError if one is missing or of another type; then nothing has changed.
  void load_state_dict(const StateDict& dict);

 private:
  struct Pass {
    bool finite = true;
    bool stepped = false;
  };
  GradScalerOptions options_;
  Variable scale_;                           // f32, 0-d
  Variable tracker_;                         // i64, 0-d: good steps since the scale changed
  std::map<const Optimizer*, Pass> passes_;  // of this step
};

}  // namespace tenon::optim
