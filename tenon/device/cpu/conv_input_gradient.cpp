#include <algorithm>
#include <memory>
#include <vector>

#include "tenon/device/cpu/conv_gradients.h"
#include "tenon/device/cpu/conv_plan.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/direct_conv.h"
#include "tenon/device/cpu/pieces.h"
#include "tenon/device/cpu/planes.h"
#include "tenon/device/cpu/pointwise.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kTogether = 1024 * 1024;  // bytes of dy and dx of the examples that go together

// All phases over a batch: dy is placed once, channels last, and so is dx until all its elements are there.
class Phases {
 public:
  Phases(const ConvShape& s, const std::vector<InputPhase>& phases, const float* weight, const LevelTable& level)
      : s_(s), loops_(level.tiles) {
    placed_ = {.in = s.out, .low = {}, .extent = {}, .channels = s.filters, .channel_stride = s.filters};
    const PhaseRoom room = room_of(phases);
    placed_.low = room.low;
    placed_.extent = room.extent;
    for (const auto& p : phases) {
      Phase phase{{}, p.shape.out, 0, 0};
      ConvShape of = p.shape;
      for (size_t d = 0; d < 3; ++d) {
        const int64_t skipped = placed_.low[d] - of.low[d];
        phase.from += skipped * placed_.strides().place[d + 1];
        phase.to = phase.to * s.in[d] + p.first[d];
        of.in[d] = reach_of(of, d);
        of.low[d] = of.high[d] = 0;
      }
      phase.to *= s.channels;
      phase.conv = std::make_unique<DirectConv>(of, level, std::nullopt);
      phase.conv->use(phase.conv->pack(weight, phase_steps(s, p)));
      elements_ += ConvShape::volume(p.shape.out);
      phases_.push_back(std::move(phase));
    }
  }

  void run(const ConstView& dy, const View& dx, ThreadPool& pool) const {
    const int64_t bytes = (placed_.distance() + s_.x_size()) * kFloat;
    const int64_t together = std::clamp<int64_t>(kTogether / std::max<int64_t>(1, bytes), 1, s_.n);
    const int64_t groups = (s_.n + together - 1) / together;
    const auto group = [&](int64_t g) {
      const int64_t first = s_.n * g / groups;
      run_examples(dy, dx, first, s_.n * (g + 1) / groups - first, pool);
    };
    if (groups < 2 * pool.threads()) {
      for (int64_t g = 0; g < groups; ++g) group(g);
    } else {
      pool.run(groups, group);
    }
  }

 private:
  struct Phase {
    std::unique_ptr<DirectConv> conv;
    ConvShape::Extents out;
    int64_t from, to;  // where its first place begins
  };
  static int64_t reach_of(const ConvShape& s, size_t d) { return s.out[d] + s.dilation[d] * (s.window[d] - 1); }

  void run_examples(const ConstView& dy, const View& dx, int64_t first, int64_t count, ThreadPool& pool) const {
    const int64_t dy_size = count * placed_.distance(), dx_size = count * s_.x_size();
    const Ref<Buffer> space = Buffer::allocate_scratch(static_cast<size_t>(dy_size + dx_size) * sizeof(float));
    auto* placed = reinterpret_cast<float*>(space->data());
    float* result = placed + dy_size;
    const PlaceStrides from = place_strides(dy.strides), inside = placed_.strides();
    for (int64_t i = 0; i < count; ++i) {
      placed_.place(dy.as<float>() + (first + i) * from.place[0], from, placed + i * placed_.distance(), loops_, pool);
    }
    if (elements_ != ConvShape::volume(s_.in)) std::fill_n(result, dx_size, 0.0F);
    const Shape shape{count, s_.channels, s_.in[0], s_.in[1], s_.in[2]};
    const View last{reinterpret_cast<std::byte*>(result), DType::F32, shape, channels_last_strides(shape), 0};
    for (const Phase& phase : phases_) {
      const ConstView in{reinterpret_cast<const std::byte*>(placed),
                         DType::F32,
                         {count, s_.filters, placed_.extent[0], placed_.extent[1], placed_.extent[2]},
                         {inside.place[0], 1, inside.place[1], inside.place[2], inside.place[3]},
                         phase.from};
      View out = last;
      out.offset = phase.to;
      for (size_t d = 0; d < 3; ++d) {
        out.shape[d + 2] = phase.out[d];
        out.strides[d + 2] *= s_.stride[d];
      }
      phase.conv->run(in, {}, out, pool);
    }
    const PlaceStrides to = place_strides(dx.strides);
    if (dx.contiguous()) {
      const int64_t places = ConvShape::volume(s_.in);
      for (int64_t i = 0; i < count; ++i)
        loops_.transpose(result + i * s_.x_size(), s_.channels, places, s_.channels,
                         dx.as<float>() + (first + i) * s_.x_size(), places);
      return;
    }
    View part = dx;
    part.shape[0] = count;
    part.offset += first * to.place[0];
    cpu::copy(last, part, pool);
  }

  ConvShape s_;
  const TileLoops& loops_;
  PlacedInput placed_;
  std::vector<Phase> phases_;
  int64_t elements_ = 0;  // of a channel that a phase computes; the others are zero
};

}  // namespace

void conv_input_gradient(const ConvShape& shape, const ConstView& dy, const float* weight, const View& dx,
                         const LevelTable& level, ThreadPool& pool) {
  if (numel(dx.shape) == 0) return;
  if (shape.filters > 0 && is_pointwise(shape, dx, dy)) {
    pointwise_input_gradient(shape, dy, weight, dx, level, pool);
    return;
  }
  const ConvShape s = moved_to_the_end(shape);
  const std::vector<InputPhase> phases = input_phases(s);
  const View wide = with_three_axes(dx);
  if (phases.empty() || s.y_size() == 0) {
    const float zero = 0;
    copy({reinterpret_cast<const std::byte*>(&zero), DType::F32, wide.shape, Shape(5, 0), 0}, wide, pool);
  } else if (is_by_planes(shape, dx, dy)) {
    planes_input_gradient(s, phases, dy, weight, dx, level, pool);
  } else if (is_whole(s, phases)) {
    DirectConv conv(phases[0].shape, level, std::nullopt);
    conv.use(conv.pack(weight, phase_steps(s, phases[0])));
    conv.run(with_three_axes(dy), {}, wide, pool);
  } else {
    Phases(s, phases, weight, level).run(with_three_axes(dy), wide, pool);
  }
}

}  // namespace tenon::cpu
