// Attention in tiles of queries and keys: memory grows with the length of the sequences, not with its square.
//
// Forward keeps a running maximum and sum for each query (Milakov and Gimelshein, arXiv 1805.02867; Dao et al.,
// arXiv 2205.14135); backward makes the probabilities again from the logarithm of the denominator. Long sequences run
// in panels of queries with the products and sums of level_attention.h, short ones and odd widths with gemm.h: the
// shapes alone decide.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tenon/device/cpu/attention_bf16.h"
#include "tenon/device/cpu/attention_problem.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/gemm.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/widen.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kQueries = 64;
constexpr int64_t kKeys = 256;
constexpr int64_t kPanel = kAttentionQueries;
constexpr int64_t kPanelKeys = 128;
constexpr int64_t kFewQueries = 32;  // fewer would leave most of a panel empty
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Problem : AttentionProblem {
  using AttentionProblem::AttentionProblem;
  // Scores of queries [i, i + rows) and keys [j, j + columns): scaled, masked, hidden ones -inf.
  void finish_scores(float* s, int64_t matrix, int64_t i, int64_t rows, int64_t j, int64_t columns) const {
    for (int64_t r = 0; r < rows; ++r) {
      float* row = s + r * kKeys;
      for (int64_t c = 0; c < columns; ++c) row[c] *= scale;
      if (mask.data != nullptr) {
        const float* m = mask.as<float>() + mask_at(matrix, i + r, j);
        for (int64_t c = 0; c < columns; ++c) row[c] += m[c * mask_strides[3]];
      }
      if (causal) {
        for (int64_t c = std::max<int64_t>(0, visible(i + r) - j); c < columns; ++c) row[c] = kMinusInfinity;
      }
    }
  }

  // The same for panels: a row for each key.
  void finish_panel(float* s, int64_t matrix, int64_t i, int64_t count, int64_t j, int64_t rows) const {
    for (int64_t r = 0; r < rows; ++r) {
      float* row = s + r * kPanel;
      if (mask.data != nullptr) {
        const float* m = mask.as<float>() + mask_at(matrix, i, j + r);
        for (int64_t c = 0; c < count; ++c) row[c] += m[c * mask_strides[2]];
      }
      if (causal) {
        const int64_t hidden = j + r - (keys - queries) - i;
        for (int64_t c = 0; c < std::min(hidden, kPanel); ++c) row[c] = kMinusInfinity;
      }
    }
  }
  [[nodiscard]] bool in_panels() const {
    return queries >= kFewQueries && width % kAttentionLanes == 0 && value_width % kAttentionLanes == 0;
  }
};

struct Sides {
  AttentionRows<float> q, k, v;
};

void forward_tile(const Problem& p, const RowLoops& loops, const Sides& sides, float* y, float* log_denominator,
                  int64_t matrix, int64_t i) {
  const auto& [q, k, v] = sides;
  alignas(64) float s[kQueries * kKeys];
  float state[kQueries][3];
  const int64_t rows = std::min(kQueries, p.queries - i);
  for (int64_t r = 0; r < rows; ++r) {
    state[r][0] = kMinusInfinity;
    state[r][1] = 0;
  }
  const int64_t end = p.visible(i + rows - 1);
  if (end == 0) std::fill(y, y + rows * p.value_width, 0.0F);
  for (int64_t j = 0; j < end; j += kKeys) {
    const int64_t columns = std::min(kKeys, end - j);
    gemm(Gemm<float>{rows, columns, p.width, q.at(matrix, i), q.step(), false, k.at(matrix, j), k.step(), true, s,
                     kKeys});
    p.finish_scores(s, matrix, i, rows, j, columns);
    for (int64_t r = 0; r < rows; ++r) {
      loops.online_softmax(state[r], s + r * kKeys, columns);
      if (j > 0) loops.scale(y + r * p.value_width, &state[r][2], p.value_width);
    }
    gemm(Gemm<float>{rows, p.value_width, columns, s, kKeys, false, v.at(matrix, j), v.step(), false, y, p.value_width,
                     j > 0});
  }
  for (int64_t r = 0; r < rows; ++r) {
    const float inverse = state[r][1] == 0 ? 0.0F : 1.0F / state[r][1];
    loops.scale(y + r * p.value_width, &inverse, p.value_width);
    log_denominator[r] = state[r][1] == 0 ? kMinusInfinity : state[r][0] + std::log(state[r][1]);
  }
}

struct GradientPointers {
  const float *ct, *q, *k, *v, *y, *log_denominator;
  float *dq, *dk, *dv;
};

void backward_tile(const Problem& p, const RowLoops& loops, const GradientPointers& g, int64_t matrix, int64_t i) {
  alignas(64) float s[kQueries * kKeys];
  alignas(64) float ds[kQueries * kKeys];
  float inner[kQueries];
  const int64_t rows = std::min(kQueries, p.queries - i);
  const float* q = g.q + i * p.width;
  const float* ct = g.ct + i * p.value_width;
  for (int64_t r = 0; r < rows; ++r) {
    inner[r] = 0;
    for (int64_t c = 0; c < p.value_width; ++c) {
      inner[r] += ct[r * p.value_width + c] * g.y[(i + r) * p.value_width + c];
    }
  }
  const int64_t end = p.visible(i + rows - 1);
  for (int64_t j = 0; j < end; j += kKeys) {
    const int64_t columns = std::min(kKeys, end - j);
    const float* k = g.k + j * p.width;
    const float* v = g.v + j * p.value_width;
    gemm(Gemm<float>{rows, columns, p.width, q, p.width, false, k, p.width, true, s, kKeys});
    p.finish_scores(s, matrix, i, rows, j, columns);
    gemm(Gemm<float>{rows, columns, p.value_width, ct, p.value_width, false, v, p.value_width, true, ds, kKeys});
    for (int64_t r = 0; r < rows; ++r) {
      const float shift = g.log_denominator[i + r];
      const float parameters[4] = {std::isfinite(shift) ? shift : 0.0F, 0.0F, 1.0F, 0.0F};
      float* probability = s + r * kKeys;
      float* gradient = ds + r * kKeys;
      loops.exp_affine(probability, probability, nullptr, parameters, columns);
      for (int64_t c = 0; c < columns; ++c) gradient[c] = probability[c] * (gradient[c] - inner[r]) * p.scale;
    }
    gemm(Gemm<float>{columns, p.value_width, rows, s, kKeys, true, ct, p.value_width, false, g.dv + j * p.value_width,
                     p.value_width, true});
    gemm(Gemm<float>{rows, p.width, columns, ds, kKeys, false, k, p.width, false, g.dq + i * p.width, p.width, true});
    gemm(Gemm<float>{columns, p.width, rows, ds, kKeys, true, q, p.width, false, g.dk + j * p.width, p.width, true});
  }
}

// to[column][row] = from[row][column] * factor
void transpose(float* to, int64_t to_step, const float* from, int64_t from_step, int64_t rows, int64_t columns,
               float factor = 1) {
  constexpr int64_t kSide = 16;
  for (int64_t i = 0; i < rows; i += kSide) {
    for (int64_t j = 0; j < columns; j += kSide) {
      for (int64_t c = j; c < std::min(j + kSide, columns); ++c) {
        for (int64_t r = i; r < std::min(i + kSide, rows); ++r) to[c * to_step + r] = from[r * from_step + c] * factor;
      }
    }
  }
}
// Of rows that are as long as there are keys, apart enough that not all of them fall on one place of the cache.
int64_t key_step(const Problem& p) { return (p.keys + 15) / 16 * 16 + 16; }

// Memory for `count` floats.
struct Scratch {
  explicit Scratch(int64_t count) : buffer(Buffer::allocate(static_cast<size_t>(count) * sizeof(float))) {}
  [[nodiscard]] float* data() const { return reinterpret_cast<float*>(buffer->data()); }
  Ref<Buffer> buffer;
};

// Scores of keys [j, j + rows) in the panel of queries from i on.
void panel_scores(const Problem& p, const AttentionLoops& loops, const float* k, const float* q_panel, float* s,
                  int64_t matrix, int64_t i, int64_t count, int64_t j, int64_t rows) {
  loops.product({rows, kPanel, p.width, k + j * p.width, p.width, q_panel, kPanel, s, kPanel, false});
  p.finish_panel(s, matrix, i, count, j, rows);
}

// `v_columns`: v of this matrix, each column as a row.
void forward_panel(const Problem& p, const AttentionLoops& loops, const float* q, const float* k,
                   const float* v_columns, float* y, float* log_denominator, int64_t matrix, int64_t i) {
  alignas(64) float s[kPanelKeys * kPanel];
  alignas(64) float most[kPanel], sum[kPanel];
  const Scratch room((p.width + p.value_width) * kPanel);
  float* q_panel = room.data();
  float* out = q_panel + p.width * kPanel;
  std::fill_n(room.data(), (p.width + p.value_width) * kPanel, 0.0F);
  std::fill_n(most, kPanel, kMinusInfinity);
  std::fill_n(sum, kPanel, 0.0F);
  const int64_t count = std::min(kPanel, p.queries - i), end = p.visible(i + count - 1), step = key_step(p);
  transpose(q_panel, kPanel, q, p.width, count, p.width, p.scale);
  for (int64_t j = 0; j < end; j += kPanelKeys) {
    const int64_t rows = std::min(kPanelKeys, end - j);
    panel_scores(p, loops, k, q_panel, s, matrix, i, count, j, rows);
    loops.softmax({s, rows, most, sum, out, j > 0 ? p.value_width : 0});
    loops.product({p.value_width, kPanel, rows, v_columns + j, step, s, kPanel, out, kPanel, j > 0});
  }
  for (int64_t c = 0; c < count; ++c) {
    const float inverse = sum[c] == 0 ? 0.0F : 1.0F / sum[c];
    transpose(y + c * p.value_width, 1, out + c, kPanel, p.value_width, 1, inverse);
    log_denominator[c] = sum[c] == 0 ? kMinusInfinity : most[c] + std::log(sum[c]);
  }
}

// All queries of a matrix.
void backward_panels(const Problem& p, const AttentionLoops& loops, const GradientPointers& g, int64_t matrix) {
  alignas(64) float s[kPanelKeys * kPanel], ds[kPanelKeys * kPanel];
  alignas(64) float shift[kPanel], inner[kPanel];
  const int64_t step = key_step(p);
  const Scratch k_columns(p.width * step), room((2 * p.width + p.value_width) * kPanel);
  transpose(k_columns.data(), step, g.k, p.width, p.keys, p.width);
  float* q_panel = room.data();
  float* ct_panel = q_panel + p.width * kPanel;
  float* dq_panel = ct_panel + p.value_width * kPanel;
  for (int64_t i = 0; i < p.queries; i += kPanel) {
    const int64_t count = std::min(kPanel, p.queries - i), end = p.visible(i + count - 1);
    const float* q = g.q + i * p.width;
    const float* ct = g.ct + i * p.value_width;
    std::fill_n(room.data(), (2 * p.width + p.value_width) * kPanel, 0.0F);
    transpose(q_panel, kPanel, q, p.width, count, p.width, p.scale);
    transpose(ct_panel, kPanel, ct, p.value_width, count, p.value_width);
    for (int64_t c = 0; c < kPanel; ++c) {
      const float log_denominator = c < count ? g.log_denominator[i + c] : 0.0F;
      shift[c] = std::isfinite(log_denominator) ? log_denominator : 0.0F;
      inner[c] = 0;
      for (int64_t d = 0; c < count && d < p.value_width; ++d)
        inner[c] += ct[c * p.value_width + d] * g.y[(i + c) * p.value_width + d];
    }
    for (int64_t j = 0; j < end; j += kPanelKeys) {
      const int64_t rows = std::min(kPanelKeys, end - j);
      panel_scores(p, loops, g.k, q_panel, s, matrix, i, count, j, rows);
      loops.product(
          {rows, kPanel, p.value_width, g.v + j * p.value_width, p.value_width, ct_panel, kPanel, ds, kPanel, false});
      loops.gradient({s, ds, rows, shift, inner, p.scale});
      loops.product(
          {rows, p.value_width, count, s, kPanel, ct, p.value_width, g.dv + j * p.value_width, p.value_width, true});
      loops.product({rows, p.width, count, ds, kPanel, q, p.width, g.dk + j * p.width, p.width, true});
      loops.product({p.width, kPanel, rows, k_columns.data() + j, step, ds, kPanel, dq_panel, kPanel, true});
    }
    transpose(g.dq + i * p.width, p.width, dq_panel, kPanel, p.width, count);
  }
}

void forward_in_panels(const Problem& p, const KernelArgs& a, const float* q, const float* k, const float* v) {
  const AttentionLoops& loops = level_table(best_level()).attention;
  const int64_t step = key_step(p), panels = (p.queries + kPanel - 1) / kPanel;
  const Scratch v_columns(p.matrices * p.value_width * step);
  for_units(a.pool, p.matrices, p.keys * p.value_width, [&](int64_t m) {
    transpose(v_columns.data() + m * p.value_width * step, step, v + m * p.keys * p.value_width, p.value_width, p.keys,
              p.value_width);
  });
  for_units(a.pool, p.matrices * panels, kPanel * std::max<int64_t>(1, p.keys), [&](int64_t u) {
    const int64_t m = u / panels, i = u % panels * kPanel;
    forward_panel(p, loops, q + (m * p.queries + i) * p.width, k + m * p.keys * p.width,
                  v_columns.data() + m * p.value_width * step,
                  a.outputs[0].as<float>() + (m * p.queries + i) * p.value_width,
                  a.outputs[1].as<float>() + m * p.queries + i, m, i);
  });
}

bool has_halves(const KernelArgs& a) {
  return std::ranges::any_of(a.inputs, [](const ConstView& x) { return x.data != nullptr && is_half(x.dtype); });
}

}  // namespace

bool accepts_attention(Types in, const ir::Attrs& /*attrs*/) {
  return std::ranges::all_of(in, [](const TensorType& t) { return t.dtype == DType::F32 || is_half(t.dtype); });
}

void run_attention(const KernelArgs& a) {
  if (run_attention_bf16(a)) return;
  if (has_halves(a)) return run_widened(a, run_attention);
  const Problem p(a.inputs[0], a.inputs[1], a.inputs[2], a.inputs.size() > 3 ? a.inputs[3] : ConstView{}, a.attrs);
  // Panels read keys and values often: there a copy in one piece pays.
  if (p.in_panels()) {
    const Contiguous q(a.inputs[0], a.pool), k(a.inputs[1], a.pool), v(a.inputs[2], a.pool);
    return forward_in_panels(p, a, q.as<float>(), k.as<float>(), v.as<float>());
  }
  const Sides sides{{a.inputs[0], a.pool}, {a.inputs[1], a.pool}, {a.inputs[2], a.pool}};
  const RowLoops& loops = level_table(best_level()).rows(DType::F32);
  const int64_t tiles = (p.queries + kQueries - 1) / kQueries;
  const int64_t work = std::min(kQueries, p.queries) * std::max<int64_t>(1, p.keys);
  for_units(a.pool, p.matrices * tiles, work, [&](int64_t u) {
    const int64_t matrix = u / tiles;
    const int64_t i = u % tiles * kQueries;
    forward_tile(p, loops, sides, a.outputs[0].as<float>() + (matrix * p.queries + i) * p.value_width,
                 a.outputs[1].as<float>() + matrix * p.queries + i, matrix, i);
  });
}

void run_attention_grad(const KernelArgs& a) {
  if (run_attention_grad_bf16(a)) return;
  if (has_halves(a)) return run_widened(a, run_attention_grad);
  const Problem p(a.inputs[1], a.inputs[2], a.inputs[3], a.inputs[4], a.attrs);
  const Contiguous ct(a.inputs[0], a.pool);
  const Contiguous q(a.inputs[1], a.pool);
  const Contiguous k(a.inputs[2], a.pool);
  const Contiguous v(a.inputs[3], a.pool);
  const Contiguous y(a.inputs[5], a.pool);
  const Contiguous log_denominator(a.inputs[6], a.pool);
  const LevelTable& level = level_table(best_level());
  const RowLoops& loops = level.rows(DType::F32);
  for (const View& out : a.outputs) std::fill_n(out.as<float>(), numel(out.shape), 0.0F);
  for_units(a.pool, p.matrices, p.queries * std::max<int64_t>(1, p.keys), [&](int64_t matrix) {
    const GradientPointers g{ct.as<float>() + matrix * p.queries * p.value_width,
                             q.as<float>() + matrix * p.queries * p.width,
                             k.as<float>() + matrix * p.keys * p.width,
                             v.as<float>() + matrix * p.keys * p.value_width,
                             y.as<float>() + matrix * p.queries * p.value_width,
                             log_denominator.as<float>() + matrix * p.queries,
                             a.outputs[0].as<float>() + matrix * p.queries * p.width,
                             a.outputs[1].as<float>() + matrix * p.keys * p.width,
                             a.outputs[2].as<float>() + matrix * p.keys * p.value_width};
    if (p.in_panels()) return backward_panels(p, level.attention, g, matrix);
    for (int64_t i = 0; i < p.queries; i += kQueries) backward_tile(p, loops, g, matrix, i);
  });
}

}  // namespace tenon::cpu
