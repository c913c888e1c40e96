#include "tenon/device/cpu/attention_bf16.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <numbers>
#include <optional>

#include "tenon/device/cpu/amx_attention.h"
#include "tenon/device/cpu/attention_problem.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/pieces.h"
#include "tenon/tensor/low_precision.h"

namespace tenon::cpu {
namespace {

using amx::kPanel;
using amx::kSide;
using amx::packed_size;

constexpr int64_t kKeys = 128;      // at a time
constexpr int64_t kFewQueries = 8;  // fewer do not pay for keys and values in another order (measured)
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

int64_t blocks_of(int64_t n) { return parts_of(n, kSide); }
int64_t panels_of(int64_t queries) { return parts_of(queries, kPanel); }

// Memory for `count` numbers, for the length of a call.
template <class T>
class Room {
 public:
  explicit Room(int64_t count)
      : buffer_(Buffer::allocate_scratch(static_cast<size_t>(std::max<int64_t>(1, count)) * sizeof(T))) {}
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(buffer_->data()); }

 private:
  Ref<Buffer> buffer_;
};

// A tensor [N, heads, length, width] whose rows lie in one piece: itself or a copy.
class Rows {
 public:
  Rows(const ConstView& x, ThreadPool& pool) : view_(x) {
    if (x.strides[3] == 1 || x.shape[3] == 1) return;
    copied_.emplace(x, pool);
    view_ = {copied_->data(), x.dtype, x.shape, contiguous_strides(x.shape), 0};
  }
  [[nodiscard]] int64_t width() const { return view_.shape[3]; }
  [[nodiscard]] int64_t step() const { return view_.strides[2]; }
  [[nodiscard]] const uint16_t* at(int64_t matrix, int64_t row) const {
    const int64_t heads = view_.shape[1];
    return view_.as<uint16_t>() + matrix / heads * view_.strides[0] + matrix % heads * view_.strides[1] + row * step();
  }

  // `count` rows as rows of a left side, block after block.
  void pack_left(int64_t matrix, int64_t row, int64_t count, uint16_t* to) const {
    for (int64_t r = 0; r < count; r += kSide, to += packed_size(width()))
      amx::pack_left(at(matrix, row + r), step(), 1, std::min(kSide, count - r), width(), to);
  }
  // … as its k, each column a row.
  void pack_left_turned(int64_t matrix, int64_t row, int64_t count, uint16_t* to) const {
    for (int64_t c = 0; c < width(); c += kSide, to += packed_size(count))
      amx::pack_left(at(matrix, row) + c, 1, step(), std::min(kSide, width() - c), count, to);
  }
  // … as columns of a right side.
  void pack_right_turned(int64_t matrix, int64_t row, int64_t count, uint16_t* to) const {
    for (int64_t c = 0; c < kPanel; c += kSide, to += packed_size(width()))
      amx::pack_right(at(matrix, row + (c < count ? c : 0)), 1, step(), width(),
                      std::clamp<int64_t>(count - c, 0, kSide), to);
  }
  // … as its k.
  void pack_right(int64_t matrix, int64_t row, int64_t count, uint16_t* to) const {
    for (int64_t c = 0; c < width(); c += kSide, to += packed_size(count))
      amx::pack_right(at(matrix, row) + c, step(), 1, count, std::min(kSide, width() - c), to);
  }
  // Elements that these write.
  [[nodiscard]] int64_t left_size(int64_t count) const { return blocks_of(count) * packed_size(width()); }
  [[nodiscard]] int64_t turned_size(int64_t count) const { return blocks_of(width()) * packed_size(count); }
  [[nodiscard]] int64_t panel_size() const { return kPanel / kSide * packed_size(width()); }

 private:
  ConstView view_;
  std::optional<Contiguous> copied_;
};

struct Problem : AttentionProblem {
  Problem(const ConstView& query, const ConstView& key, const ConstView& value, const ConstView& mask_view,
          const ir::Attrs& attrs, ThreadPool& pool)
      : AttentionProblem(query, key, value, mask_view, attrs),
        q(query, pool),
        k(key, pool),
        v(value, pool),
        scales(mask.data != nullptr || !(scale > 0)),
        factor(std::numbers::log2e_v<float> * (scales ? 1.0F : scale)) {}

  // Products of keys [j, j + rows) and a panel of `count` queries from i on become scores, but for a factor that the
  // exponent has; what is behind `rows`, to whole blocks, and what may not be seen is -inf.
  void finish(float* s, int64_t matrix, int64_t i, int64_t count, int64_t j, int64_t rows) const {
    if (scales) {
      alignas(64) float numbers[kKeys * kPanel];
      std::fill_n(numbers, kKeys * kPanel, 0.0F);  // of queries that lack
      const bool by_row = mask_strides[2] == 0 || count == 1;
      if (mask.data != nullptr) read_mask(matrix, i, by_row ? 1 : count, j, rows, by_row ? 1 : kPanel, numbers);
      amx::scale_scores({s, rows, scale, mask.data == nullptr ? nullptr : numbers, by_row});
    }
    if (const int64_t hidden = j - (keys - queries) - i; causal && hidden + rows > 0) amx::hide_scores(s, rows, hidden);
    std::fill(s + rows * kPanel, s + blocks_of(rows) * kSide * kPanel, kMinusInfinity);
  }
  [[nodiscard]] float mask_number(int64_t at) const {
    return mask.dtype == DType::F32 ? mask.as<float>()[at] : bf16_to_f32(mask.as<uint16_t>()[at]);
  }
  // to[key * step + query] = the mask's number.
  void read_mask(int64_t matrix, int64_t i, int64_t count, int64_t j, int64_t rows, int64_t step, float* to) const {
    for (int64_t c = 0; c < count; ++c) {
      const int64_t first = mask_at(matrix, i + c, j);
      for (int64_t r = 0; r < rows; ++r) {
        to[r * step + c] = mask_number(first + r * mask_strides[3]);
      }
    }
  }

  Rows q, k, v;
  bool scales;   // scores are made in memory: there is a mask, or larger products are no larger scores
  float factor;  // of scores in exponents of 2
};

// to[rows, kPanel] (+)= left[rows, k] right[k, kPanel], of whole blocks.
void product(const uint16_t* left, int64_t left_size, const uint16_t* right, int64_t right_size, int64_t rows,
             int64_t steps, float* to, bool more) {
  for (int64_t r = 0; r < blocks_of(rows); ++r) {
    for (int64_t c = 0; c < kPanel / kSide; ++c)
      amx::block({.at = left + r * left_size}, right + c * right_size, steps, to + r * kSide * kPanel + c * kSide,
                 kPanel, more);
  }
}

// ---- forward -------------------------------------------------------------------------------
struct Sides {
  const uint16_t *k, *v;  // a matrix's keys as rows, its values turned
};

void forward(const Problem& p, const Sides& sides, int64_t matrix, int64_t i, uint16_t* y, float* log_denominator) {
  const amx::Tiles tiles;
  alignas(64) float s[kKeys * kPanel];
  alignas(64) uint16_t probabilities[kKeys * kPanel];
  alignas(64) float most[kPanel], sum[kPanel], inverse[kPanel];
  std::fill_n(most, kPanel, kMinusInfinity);
  std::fill_n(sum, kPanel, 0.0F);
  std::fill_n(inverse, kPanel, 0.0F);
  const int64_t count = std::min(kPanel, p.queries - i), end = p.visible(i + count - 1);
  const int64_t out_rows = blocks_of(p.value_width) * kSide, width_steps = amx::steps(p.width);
  const Room<uint16_t> query(p.q.panel_size());
  const Room<float> out(out_rows * kPanel);
  p.q.pack_right_turned(matrix, i, count, query.data());
  if (end == 0) std::fill_n(out.data(), out_rows * kPanel, 0.0F);
  for (int64_t j = 0; j < end; j += kKeys) {
    const int64_t rows = std::min(kKeys, end - j), whole = blocks_of(rows) * kSide;
    product(sides.k + j / kSide * packed_size(p.width), packed_size(p.width), query.data(), packed_size(p.width), rows,
            width_steps, s, false);
    p.finish(s, matrix, i, count, j, rows);
    amx::softmax({s, whole, p.factor, most, sum, out.data(), j > 0 ? out_rows : 0, probabilities});
    product(sides.v + j / kSide * amx::kStepSize, packed_size(p.keys), probabilities, packed_size(whole), out_rows,
            whole / kSide, out.data(), j > 0);
  }
  for (int64_t c = 0; c < count; ++c) {
    inverse[c] = sum[c] == 0 ? 0.0F : 1.0F / sum[c];
    log_denominator[c] = sum[c] == 0 ? kMinusInfinity : most[c] * std::numbers::ln2_v<float> + std::log(sum[c]);
  }
  amx::turn_and_round(out.data(), p.value_width, count, inverse, y, p.value_width);
}

// One query, as a model asks that makes a text: keys and values are read where they lie.
void forward_alone(const Problem& p, int64_t matrix, int64_t i, uint16_t* y, float* log_denominator) {
  const RowLoops& loops = level_table(best_level()).rows(DType::F32);
  const int64_t seen = p.visible(i);
  const Room<float> room(seen + p.value_width);
  float *s = room.data(), *out = s + seen, state[3] = {kMinusInfinity, 0, 0};
  amx::row_products(p.k.at(matrix, 0), p.k.step(), p.q.at(matrix, i), 0, seen, p.width, s);
  for (int64_t c = 0; c < seen; ++c) s[c] *= p.scale;
  if (p.mask.data != nullptr) {
    for (int64_t c = 0; c < seen; ++c) s[c] += p.mask_number(p.mask_at(matrix, i, c));
  }
  if (seen > 0) loops.online_softmax(state, s, seen);
  const float inverse = state[1] == 0 ? 0.0F : 1.0F / state[1];
  amx::sum_of_rows(s, p.v.at(matrix, 0), p.v.step(), seen, p.value_width, out);
  for (int64_t c = 0; c < p.value_width; ++c) y[c] = f32_to_bf16(out[c] * inverse);
  *log_denominator = state[1] == 0 ? kMinusInfinity : state[0] + std::log(state[1]);
}

// ---- backward ------------------------------------------------------------------------------
// What the way back needs of a matrix's queries, panel after panel.
class Queries {
 public:
  Queries(const Problem& p, const Rows& ct, const uint16_t* y, const float* log_denominator, int64_t matrix)
      : q_size_(p.q.panel_size()),
        ct_size_(ct.panel_size()),
        q_rows_size_(p.q.turned_size(kPanel)),
        ct_rows_size_(ct.turned_size(kPanel)),
        packed_(panels_of(p.queries) * (q_size_ + ct_size_ + q_rows_size_ + ct_rows_size_)),
        numbers_(panels_of(p.queries) * 2 * kPanel) {
    for (int64_t i = 0, panel = 0; i < p.queries; i += kPanel, ++panel) {
      const int64_t count = std::min(kPanel, p.queries - i);
      p.q.pack_right_turned(matrix, i, count, q(panel));
      ct.pack_right_turned(matrix, i, count, this->ct(panel));
      p.q.pack_right(matrix, i, count, q_rows(panel));
      ct.pack_right(matrix, i, count, ct_rows(panel));
      std::fill_n(shift(panel), 2 * kPanel, 0.0F);
      for (int64_t c = 0; c < count; ++c) {
        const float l = log_denominator[i + c];
        shift(panel)[c] = std::isfinite(l) ? l * std::numbers::log2e_v<float> : 0.0F;
      }
      amx::row_products(ct.at(matrix, i), ct.step(), y + i * p.value_width, p.value_width, count, p.value_width,
                        inner(panel));
    }
  }
  [[nodiscard]] uint16_t* q(int64_t panel) const { return at(panel); }
  [[nodiscard]] uint16_t* ct(int64_t panel) const { return at(panel) + q_size_; }
  [[nodiscard]] uint16_t* q_rows(int64_t panel) const { return at(panel) + q_size_ + ct_size_; }
  [[nodiscard]] uint16_t* ct_rows(int64_t panel) const { return at(panel) + q_size_ + ct_size_ + q_rows_size_; }
  [[nodiscard]] float* shift(int64_t panel) const { return numbers_.data() + panel * 2 * kPanel; }
  [[nodiscard]] float* inner(int64_t panel) const { return shift(panel) + kPanel; }

 private:
  [[nodiscard]] uint16_t* at(int64_t panel) const {
    return packed_.data() + panel * (q_size_ + ct_size_ + q_rows_size_ + ct_rows_size_);
  }
  int64_t q_size_, ct_size_, q_rows_size_, ct_rows_size_;
  Room<uint16_t> packed_;
  Room<float> numbers_;
};

// The gradient of 128 keys, or of their values: blocks of sums.
class KeySums {
 public:
  explicit KeySums(int64_t width) : width_(width), sums_(size()) {}
  void clear() { std::fill_n(sums_.data(), size(), 0.0F); }
  // Columns of `left`, rows of kPanel for each key, by `count` packed rows of the right side.
  void add(const uint16_t* left, int64_t rows, const uint16_t* right, int64_t count) {
    for (int64_t r = 0; r < blocks_of(rows); ++r) {
      const amx::Left block{.at = left + r * kSide * kPanel,
                            .row = kPanel,
                            .half = kSide / 2 * kPanel,
                            .steps = nullptr,
                            .step = amx::kDepth};
      for (int64_t c = 0; c < blocks_of(width_); ++c)
        amx::block(block, right + c * packed_size(count), amx::steps(count), at(r, c), kSide, true);
    }
  }
  void round(int64_t rows, uint16_t* to) const {
    for (int64_t r = 0; r < rows; r += kSide) {
      for (int64_t c = 0; c < width_; c += kSide)
        amx::finish(at(r / kSide, c / kSide), {}, std::min(kSide, rows - r), std::min(kSide, width_ - c),
                    to + r * width_ + c, width_);
    }
  }

 private:
  [[nodiscard]] int64_t size() const { return kKeys / kSide * blocks_of(width_) * amx::kBlockSize; }
  [[nodiscard]] float* at(int64_t r, int64_t c) const {
    return sums_.data() + (r * blocks_of(width_) + c) * amx::kBlockSize;
  }
  int64_t width_;
  Room<float> sums_;
};

struct Gradients {
  uint16_t *dq, *dk, *dv;  // of a matrix
};

// One matrix: keys in blocks, and for each all queries that see any of them.
class Backward {
 public:
  Backward(const Problem& p, const Rows& ct, const Queries& queries, int64_t matrix)
      : p_(p),
        queries_(queries),
        matrix_(matrix),
        ct_steps_(amx::steps(ct.width())),
        dq_rows_(blocks_of(p.width) * kSide),
        keys_(p.k.left_size(kKeys)),
        keys_turned_(p.k.turned_size(kKeys)),
        values_(p.v.left_size(kKeys)),
        dq_(panels_of(p.queries) * dq_rows_ * kPanel),
        dk_(p.width),
        dv_(p.value_width) {
    std::fill_n(dq_.data(), panels_of(p.queries) * dq_rows_ * kPanel, 0.0F);
  }
  void operator()(const Gradients& to) {
    const amx::Tiles tiles;
    for (int64_t j = 0; j < p_.keys; j += kKeys) {
      const int64_t count = std::min(kKeys, p_.keys - j);
      p_.k.pack_left(matrix_, j, count, keys_.data());
      p_.k.pack_left_turned(matrix_, j, count, keys_turned_.data());
      p_.v.pack_left(matrix_, j, count, values_.data());
      dk_.clear();
      dv_.clear();
      for (int64_t i = first_query(j) / kPanel * kPanel; i < p_.queries; i += kPanel) one(i, j, count);
      dk_.round(count, to.dk + j * p_.width);
      dv_.round(count, to.dv + j * p_.value_width);
    }
    alignas(64) float ones[kPanel];
    std::fill_n(ones, kPanel, 1.0F);
    for (int64_t i = 0; i < p_.queries; i += kPanel)
      amx::turn_and_round(dq(i), p_.width, std::min(kPanel, p_.queries - i), ones, to.dq + i * p_.width, p_.width);
  }

 private:
  // … that sees this key.
  [[nodiscard]] int64_t first_query(int64_t key) const {
    return p_.causal ? std::max<int64_t>(0, key - (p_.keys - p_.queries)) : 0;
  }
  [[nodiscard]] float* dq(int64_t i) const { return dq_.data() + i / kPanel * dq_rows_ * kPanel; }

  // Queries from i on, of `keys` keys from j on.
  void one(int64_t i, int64_t j, int64_t keys) {
    const int64_t panel = i / kPanel, count = std::min(kPanel, p_.queries - i);
    const int64_t rows = std::min(keys, p_.visible(i + count - 1) - j), whole = blocks_of(rows) * kSide;
    const int64_t size = packed_size(p_.width), value_size = packed_size(p_.value_width);
    product(keys_.data(), size, queries_.q(panel), size, rows, amx::steps(p_.width), s_.data(), false);
    p_.finish(s_.data(), matrix_, i, count, j, rows);
    product(values_.data(), value_size, queries_.ct(panel), value_size, rows, ct_steps_, into_.data(), false);
    amx::slopes({s_.data(), into_.data(), whole, p_.factor, p_.scale, queries_.shift(panel), queries_.inner(panel),
                 probabilities_.data(), slopes_.data(), packed_.data()});
    dv_.add(probabilities_.data(), rows, queries_.ct_rows(panel), count);
    dk_.add(slopes_.data(), rows, queries_.q_rows(panel), count);
    product(keys_turned_.data(), packed_size(keys), packed_.data(), packed_size(whole), dq_rows_, whole / kSide, dq(i),
            true);
  }

  const Problem& p_;
  const Queries& queries_;
  int64_t matrix_, ct_steps_, dq_rows_;
  Room<uint16_t> keys_, keys_turned_, values_;
  Room<float> dq_;  // by panels, turned
  KeySums dk_, dv_;
  Room<float> s_{kKeys * kPanel}, into_{kKeys * kPanel};
  Room<uint16_t> probabilities_{kKeys * kPanel}, slopes_{kKeys * kPanel}, packed_{kKeys * kPanel};
};

// Whether these inputs are of bf16, and the mask, if there is one, of what is read.
bool is_ours(const KernelArgs& a, std::initializer_list<size_t> inputs, const ConstView& mask) {
  const bool readable = mask.data == nullptr || mask.dtype == DType::BF16 || mask.dtype == DType::F32;
  return amx::available() && readable &&
         std::ranges::all_of(inputs, [&](size_t i) { return a.inputs[i].dtype == DType::BF16; });
}

}  // namespace

bool run_attention_bf16(const KernelArgs& a) {
  const ConstView mask = a.inputs.size() > 3 ? a.inputs[3] : ConstView{};
  if (!is_ours(a, {0, 1, 2}, mask)) return false;
  const Problem p(a.inputs[0], a.inputs[1], a.inputs[2], mask, a.attrs, a.pool);
  if (p.queries < kFewQueries) {
    for_units(a.pool, p.matrices * p.queries, p.keys * (p.width + p.value_width), [&](int64_t row) {
      forward_alone(p, row / p.queries, row % p.queries, a.outputs[0].as<uint16_t>() + row * p.value_width,
                    a.outputs[1].as<float>() + row);
    });
    return true;
  }
  const int64_t key_size = p.k.left_size(p.keys), value_size = p.v.turned_size(p.keys), panels = panels_of(p.queries);
  const Room<uint16_t> packed(p.matrices * (key_size + value_size));
  const auto sides = [&](int64_t matrix) { return packed.data() + matrix * (key_size + value_size); };
  for_units(a.pool, p.matrices, p.keys * (p.width + p.value_width), [&](int64_t matrix) {
    p.k.pack_left(matrix, 0, p.keys, sides(matrix));
    p.v.pack_left_turned(matrix, 0, p.keys, sides(matrix) + key_size);
  });
  for_units(a.pool, p.matrices * panels, kPanel * std::max<int64_t>(1, p.keys), [&](int64_t u) {
    const int64_t matrix = u / panels, i = u % panels * kPanel, row = matrix * p.queries + i;
    forward(p, {sides(matrix), sides(matrix) + key_size}, matrix, i, a.outputs[0].as<uint16_t>() + row * p.value_width,
            a.outputs[1].as<float>() + row);
  });
  return true;
}

bool run_attention_grad_bf16(const KernelArgs& a) {
  if (!is_ours(a, {0, 1, 2, 3, 5}, a.inputs[4]) || a.inputs[6].dtype != DType::F32) return false;
  const Problem p(a.inputs[1], a.inputs[2], a.inputs[3], a.inputs[4], a.attrs, a.pool);
  const Rows ct(a.inputs[0], a.pool);
  const Contiguous y(a.inputs[5], a.pool), log_denominator(a.inputs[6], a.pool);
  for_units(a.pool, p.matrices, p.queries * std::max<int64_t>(1, p.keys), [&](int64_t matrix) {
    const int64_t row = matrix * p.queries, key = matrix * p.keys;
    const Queries queries(p, ct, y.as<uint16_t>() + row * p.value_width, log_denominator.as<float>() + row, matrix);
    Backward backward(p, ct, queries, matrix);
    backward({a.outputs[0].as<uint16_t>() + row * p.width, a.outputs[1].as<uint16_t>() + key * p.width,
              a.outputs[2].as<uint16_t>() + key * p.value_width});
  });
  return true;
}

}  // namespace tenon::cpu
