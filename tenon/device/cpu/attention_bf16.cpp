#include "tenon/device/cpu/attention_bf16.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <numbers>
#include <optional>

#include "tenon/device/cpu/attention_problem.h"
#include "tenon/device/cpu/bf16_attention.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/pieces.h"
#include "tenon/tensor/low_precision.h"

namespace tenon::cpu {
namespace {

using bf16_blocks::kFew;
using bf16_blocks::kPanel;
using bf16_blocks::kSide;
using bf16_blocks::packed_size;

constexpr int64_t kKeys = 128;          // at a time
constexpr int64_t kFewQueries = kSide;  // up to here in panels of kFew, which keys and values are not packed for
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

class Rows : public AttentionRows<uint16_t> {
 public:
  using AttentionRows::AttentionRows;

  // `count` rows as rows of a left side, block after block.
  void pack_left(int64_t matrix, int64_t row, int64_t count, uint16_t* to) const {
    for (int64_t r = 0; r < count; r += kSide, to += packed_size(width()))
      bf16_blocks::pack_left(at(matrix, row + r), step(), 1, std::min(kSide, count - r), width(), to);
  }
  // … as its k, each column a row.
  void pack_left_turned(int64_t matrix, int64_t row, int64_t count, uint16_t* to) const {
    for (int64_t c = 0; c < width(); c += kSide, to += packed_size(count))
      bf16_blocks::pack_left(at(matrix, row) + c, 1, step(), std::min(kSide, width() - c), count, to);
  }
  // … as columns of a right side.
  void pack_right_turned(int64_t matrix, int64_t row, int64_t count, uint16_t* to) const {
    for (int64_t c = 0; c < kPanel; c += kSide, to += packed_size(width()))
      bf16_blocks::pack_right(at(matrix, row + (c < count ? c : 0)), 1, step(), width(),
                              std::clamp<int64_t>(count - c, 0, kSide), to);
  }
  // … as its k.
  void pack_right(int64_t matrix, int64_t row, int64_t count, uint16_t* to) const {
    for (int64_t c = 0; c < width(); c += kSide, to += packed_size(count))
      bf16_blocks::pack_right(at(matrix, row) + c, step(), 1, count, std::min(kSide, width() - c), to);
  }
  // Rows [row, row + count) for few_scores: where they lie, or, unless they are whole tiles, a copy filled up with
  // zeros.
  struct Found {
    const uint16_t* at;
    int64_t row;
  };
  [[nodiscard]] Found find(int64_t matrix, int64_t row, int64_t count, uint16_t* room) const {
    const int64_t whole = rounded_up(width(), bf16_blocks::kDepth), rows = rounded_up(count, kFew);
    if (whole == width() && rows == count) return {at(matrix, row), step()};
    for (int64_t r = 0; r < rows; ++r) {
      uint16_t* to = room + r * whole;
      if (r < count) std::copy_n(at(matrix, row + r), width(), to);
      std::fill(to + (r < count ? width() : 0), to + whole, uint16_t{0});
    }
    return {room, whole};
  }
  // Elements that these write.
  [[nodiscard]] int64_t found_size() const { return kKeys * rounded_up(width(), bf16_blocks::kDepth); }
  [[nodiscard]] int64_t left_size(int64_t count) const { return blocks_of(count) * packed_size(width()); }
  [[nodiscard]] int64_t turned_size(int64_t count) const { return blocks_of(width()) * packed_size(count); }
  [[nodiscard]] int64_t panel_size() const { return kPanel / kSide * packed_size(width()); }
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

  // Products of keys [j, j + rows) and `count` queries from i on, in rows of `panel`, become scores, but for a factor
  // that the exponent has; what is behind `rows`, to whole blocks, and what may not be seen is -inf.
  void finish(float* s, int64_t panel, int64_t matrix, int64_t i, int64_t count, int64_t j, int64_t rows) const {
    if (scales) {
      alignas(64) float numbers[kKeys * kPanel];
      std::fill_n(numbers, rows * panel, 0.0F);  // of queries that lack
      const bool by_row = mask_strides[2] == 0 || count == 1;
      if (mask.data != nullptr) read_mask(matrix, i, by_row ? 1 : count, j, rows, by_row ? 1 : panel, numbers);
      bf16_blocks::scale_scores({s, rows, panel, scale, mask.data == nullptr ? nullptr : numbers, by_row});
    }
    if (const int64_t hidden = j - (keys - queries) - i; causal && hidden + rows > 0)
      bf16_blocks::hide_scores(s, rows, panel, hidden);
    std::fill(s + rows * panel, s + rounded_up(rows, kSide) * panel, kMinusInfinity);
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
      bf16_blocks::block({.at = left + r * left_size}, {right + c * right_size, steps},
                         to + r * kSide * kPanel + c * kSide, kPanel, more);
  }
}

// ---- forward -------------------------------------------------------------------------------
struct Sides {
  const uint16_t *k, *v;  // a matrix's keys as rows, its values turned
};

void forward(const Problem& p, const Sides& sides, int64_t matrix, int64_t i, uint16_t* y, float* log_denominator) {
  const bf16_blocks::Tiles tiles;
  alignas(64) float s[kKeys * kPanel];
  alignas(64) uint16_t probabilities[kKeys * kPanel];
  alignas(64) float most[kPanel], sum[kPanel], inverse[kPanel];
  std::fill_n(most, kPanel, kMinusInfinity);
  std::fill_n(sum, kPanel, 0.0F);
  std::fill_n(inverse, kPanel, 0.0F);
  const int64_t count = std::min(kPanel, p.queries - i), end = p.visible(i + count - 1);
  const int64_t out_rows = blocks_of(p.value_width) * kSide, width_steps = bf16_blocks::steps(p.width);
  const Room<uint16_t> query(p.q.panel_size());
  const Room<float> out(out_rows * kPanel);
  p.q.pack_right_turned(matrix, i, count, query.data());
  if (end == 0) std::fill_n(out.data(), out_rows * kPanel, 0.0F);
  for (int64_t j = 0; j < end; j += kKeys) {
    const int64_t rows = std::min(kKeys, end - j), whole = blocks_of(rows) * kSide;
    product(sides.k + j / kSide * packed_size(p.width), packed_size(p.width), query.data(), packed_size(p.width), rows,
            width_steps, s, false);
    p.finish(s, kPanel, matrix, i, count, j, rows);
    bf16_blocks::softmax(
        bf16_blocks::Softmax{s, whole, p.factor, most, sum, out.data(), j > 0 ? out_rows : 0, probabilities});
    product(sides.v + j / kSide * bf16_blocks::kStepSize, packed_size(p.keys), probabilities, packed_size(whole),
            out_rows, whole / kSide, out.data(), j > 0);
  }
  for (int64_t c = 0; c < count; ++c) {
    inverse[c] = sum[c] == 0 ? 0.0F : 1.0F / sum[c];
    log_denominator[c] = sum[c] == 0 ? kMinusInfinity : most[c] * std::numbers::ln2_v<float> + std::log(sum[c]);
  }
  bf16_blocks::turn_and_round(out.data(), p.value_width, count, inverse, y, p.value_width);
}

// All queries of a matrix, a few. Keys are read where they lie, values once, into another order for a moment.
void forward_few(const Problem& p, int64_t matrix, uint16_t* y, float* log_denominator) {
  const bf16_blocks::Tiles tiles;
  alignas(64) float s[kKeys * kFew];
  alignas(64) uint16_t probabilities[kKeys * kFew];
  alignas(64) float most[kSide], sum[kSide], inverse[kSide];
  std::fill_n(most, kSide, kMinusInfinity);
  std::fill_n(sum, kSide, 0.0F);
  const int64_t blocks = blocks_of(p.value_width), columns = blocks * kSide, end = p.visible(p.queries - 1);
  const Room<uint16_t> query(packed_size(p.width)), keys(p.k.found_size()), values(p.v.turned_size(kKeys));
  const Room<float> out(kSide * columns);
  bf16_blocks::pack_right(p.q.at(matrix, 0), 1, p.q.step(), p.width, p.queries, query.data());
  if (end == 0) std::fill_n(out.data(), kSide * columns, 0.0F);
  for (int64_t j = 0; j < end; j += kKeys) {
    const int64_t rows = std::min(kKeys, end - j), whole = rounded_up(rows, kSide);
    const Rows::Found found = p.k.find(matrix, j, rows, keys.data());
    p.v.pack_right(matrix, j, rows, values.data());
    for (int64_t i = 0; i < p.queries; i += kFew) {
      float* sums = out.data() + i * columns;
      bf16_blocks::few_scores(found.at, found.row, rounded_up(rows, kFew), query.data() + i * kSide,
                              bf16_blocks::steps(p.width), s);
      p.finish(s, kFew, matrix, i, std::min(kFew, p.queries - i), j, rows);
      bf16_blocks::softmax(
          bf16_blocks::FewSoftmax{s, whole, p.factor, most + i, sum + i, sums, j > 0 ? columns : 0, probabilities});
      bf16_blocks::few_sums(probabilities, whole / kSide, values.data(), blocks, sums, j > 0);
    }
  }
  for (int64_t c = 0; c < p.queries; ++c) {
    inverse[c] = sum[c] == 0 ? 0.0F : 1.0F / sum[c];
    log_denominator[c] = sum[c] == 0 ? kMinusInfinity : most[c] * std::numbers::ln2_v<float> + std::log(sum[c]);
  }
  bf16_blocks::scale_and_round(out.data(), columns, p.queries, p.value_width, inverse, y);
}

// One query, as a model asks that makes a text: keys and values are read where they lie.
void forward_alone(const Problem& p, int64_t matrix, uint16_t* y, float* log_denominator) {
  const RowLoops& loops = level_table(best_level()).rows(DType::F32);
  const int64_t seen = p.visible(0);
  const Room<float> room(seen + p.value_width);
  float *s = room.data(), *out = s + seen, state[3] = {kMinusInfinity, 0, 0};
  bf16_blocks::row_products(p.k.at(matrix, 0), p.k.step(), p.q.at(matrix, 0), 0, seen, p.width, s);
  for (int64_t c = 0; c < seen; ++c) s[c] *= p.scale;
  if (p.mask.data != nullptr) {
    for (int64_t c = 0; c < seen; ++c) s[c] += p.mask_number(p.mask_at(matrix, 0, c));
  }
  if (seen > 0) loops.online_softmax(state, s, seen);
  const float inverse = state[1] == 0 ? 0.0F : 1.0F / state[1];
  bf16_blocks::sum_of_rows(s, p.v.at(matrix, 0), p.v.step(), seen, p.value_width, out);
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
      bf16_blocks::row_products(ct.at(matrix, i), ct.step(), y + i * p.value_width, p.value_width, count, p.value_width,
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
      const bf16_blocks::Left block{
          .at = left + r * kSide * kPanel, .row = kPanel, .steps = nullptr, .step = bf16_blocks::kDepth};
      for (int64_t c = 0; c < blocks_of(width_); ++c)
        bf16_blocks::block(block, {right + c * packed_size(count), bf16_blocks::steps(count)}, at(r, c), kSide, true);
    }
  }
  void round(int64_t rows, uint16_t* to) const {
    for (int64_t r = 0; r < rows; r += kSide) {
      for (int64_t c = 0; c < width_; c += kSide)
        bf16_blocks::finish(at(r / kSide, c / kSide), {}, std::min(kSide, rows - r), std::min(kSide, width_ - c),
                            to + r * width_ + c, width_);
    }
  }

 private:
  [[nodiscard]] int64_t size() const { return kKeys / kSide * blocks_of(width_) * bf16_blocks::kBlockSize; }
  [[nodiscard]] float* at(int64_t r, int64_t c) const {
    return sums_.data() + (r * blocks_of(width_) + c) * bf16_blocks::kBlockSize;
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
        ct_steps_(bf16_blocks::steps(ct.width())),
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
    const bf16_blocks::Tiles tiles;
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
      bf16_blocks::turn_and_round(dq(i), p_.width, std::min(kPanel, p_.queries - i), ones, to.dq + i * p_.width,
                                  p_.width);
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
    product(keys_.data(), size, queries_.q(panel), size, rows, bf16_blocks::steps(p_.width), s_.data(), false);
    p_.finish(s_.data(), kPanel, matrix_, i, count, j, rows);
    product(values_.data(), value_size, queries_.ct(panel), value_size, rows, ct_steps_, into_.data(), false);
    bf16_blocks::slopes(bf16_blocks::Slopes{s_.data(), into_.data(), whole, p_.factor, p_.scale, queries_.shift(panel),
                                            queries_.inner(panel), probabilities_.data(), slopes_.data(),
                                            packed_.data()});
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

// One matrix with few queries, up to kSide: their gradients with respect to keys and values are products of one step.
class FewBackward {
 public:
  FewBackward(const Problem& p, const Rows& ct, const uint16_t* y, const float* log_denominator, int64_t matrix)
      : p_(p), matrix_(matrix), ct_rows_(ct.turned_size(p.queries)), ct_(packed_size(ct.width())) {
    bf16_blocks::pack_right(p.q.at(matrix, 0), 1, p.q.step(), p.width, p.queries, q_.data());
    bf16_blocks::pack_right(ct.at(matrix, 0), 1, ct.step(), ct.width(), p.queries, ct_.data());
    p.q.pack_right(matrix, 0, p.queries, q_rows_.data());
    ct.pack_right(matrix, 0, p.queries, ct_rows_.data());
    std::fill_n(probabilities_.data(), kKeys * kSide, uint16_t{0});
    std::fill_n(slopes_.data(), kKeys * kSide, uint16_t{0});
    for (int64_t c = 0; c < p.queries; ++c)
      shift_[c] = std::isfinite(log_denominator[c]) ? log_denominator[c] * std::numbers::log2e_v<float> : 0.0F;
    bf16_blocks::row_products(ct.at(matrix, 0), ct.step(), y, p.value_width, p.queries, p.value_width, inner_);
  }
  void operator()(const Gradients& to) {
    const bf16_blocks::Tiles tiles;
    const int64_t end = p_.visible(p_.queries - 1), columns = rounded_up(p_.width, kSide);
    if (end == 0) std::fill_n(dq_.data(), kSide * columns, 0.0F);
    for (int64_t j = 0; j < end; j += kKeys) {
      const int64_t rows = std::min(kKeys, end - j);
      scores_to_slopes(j, rows);
      write(probabilities_.data(), rows, ct_rows_.data(), p_.value_width, to.dv + j * p_.value_width);
      write(slopes_.data(), rows, q_rows_.data(), p_.width, to.dk + j * p_.width);
    }
    std::fill(to.dk + end * p_.width, to.dk + p_.keys * p_.width, uint16_t{0});
    std::fill(to.dv + end * p_.value_width, to.dv + p_.keys * p_.value_width, uint16_t{0});
    alignas(64) float ones[kSide];
    std::fill_n(ones, kSide, 1.0F);
    bf16_blocks::scale_and_round(dq_.data(), columns, p_.queries, p_.width, ones, to.dq);
  }

 private:
  // Probabilities and slopes of keys [j, j + rows); what they are of the queries' gradients is added up.
  void scores_to_slopes(int64_t j, int64_t rows) {
    const int64_t whole = rounded_up(rows, kSide), some = rounded_up(rows, kFew), blocks = blocks_of(p_.width);
    const Rows::Found keys = p_.k.find(matrix_, j, rows, keys_.data());
    const Rows::Found values = p_.v.find(matrix_, j, rows, values_.data());
    p_.k.pack_right(matrix_, j, rows, packed_.data());
    for (int64_t i = 0; i < p_.queries; i += kFew) {
      bf16_blocks::few_scores(keys.at, keys.row, some, q_.data() + i * kSide, bf16_blocks::steps(p_.width), s_);
      p_.finish(s_, kFew, matrix_, i, std::min(kFew, p_.queries - i), j, rows);
      bf16_blocks::few_scores(values.at, values.row, some, ct_.data() + i * kSide, bf16_blocks::steps(p_.value_width),
                              into_);
      std::fill(into_ + some * kFew, into_ + whole * kFew, 0.0F);
      bf16_blocks::slopes(bf16_blocks::FewSlopes{s_, into_, whole, p_.factor, p_.scale, shift_ + i, inner_ + i,
                                                 probabilities_.data() + i, slopes_.data() + i, tiles_});
      bf16_blocks::few_sums(tiles_, whole / kSide, packed_.data(), blocks, dq_.data() + i * blocks * kSide, j > 0);
    }
  }
  // The products of rows of kSide queries and of a packed right side, rounded.
  static void write(const uint16_t* left, int64_t rows, const uint16_t* right, int64_t width, uint16_t* to) {
    alignas(64) float sums[bf16_blocks::kBlockSize];
    for (int64_t r = 0; r < rows; r += kSide) {
      const bf16_blocks::Left block{
          .at = left + r * kSide, .row = kSide, .steps = nullptr, .step = bf16_blocks::kDepth};
      for (int64_t c = 0; c < width; c += kSide) {
        bf16_blocks::block(block, {right + c / kSide * bf16_blocks::kStepSize, 1}, sums);
        bf16_blocks::finish(sums, {}, std::min(kSide, rows - r), std::min(kSide, width - c), to + r * width + c, width);
      }
    }
  }

  const Problem& p_;
  int64_t matrix_;
  Room<uint16_t> ct_rows_, ct_;
  Room<uint16_t> q_{packed_size(p_.width)}, q_rows_{p_.q.turned_size(p_.queries)};
  Room<uint16_t> keys_{p_.k.found_size()}, values_{p_.v.found_size()}, packed_{p_.k.turned_size(kKeys)};
  Room<uint16_t> probabilities_{kKeys * kSide}, slopes_{kKeys * kSide};  // rows of kSide queries
  Room<float> dq_{kSide * rounded_up(p_.width, kSide)};
  alignas(64) float shift_[kSide] = {}, inner_[kSide] = {};
  alignas(64) float s_[kKeys * kFew], into_[kKeys * kFew];
  alignas(64) uint16_t tiles_[kKeys * kFew];
};

// Whether these inputs are of bf16, and the mask, if there is one, of what is read.
bool is_ours(const KernelArgs& a, std::initializer_list<size_t> inputs, const ConstView& mask) {
  const bool readable = mask.data == nullptr || mask.dtype == DType::BF16 || mask.dtype == DType::F32;
  return bf16_blocks::available() && readable &&
         std::ranges::all_of(inputs, [&](size_t i) { return a.inputs[i].dtype == DType::BF16; });
}

}  // namespace

bool run_attention_bf16(const KernelArgs& a) {
  const ConstView mask = a.inputs.size() > 3 ? a.inputs[3] : ConstView{};
  if (!is_ours(a, {0, 1, 2}, mask)) return false;
  const Problem p(a.inputs[0], a.inputs[1], a.inputs[2], mask, a.attrs, a.pool);
  if (p.queries > 1 && p.queries <= kFewQueries) {
    for_units(a.pool, p.matrices, p.keys * (p.width + p.value_width), [&](int64_t matrix) {
      const int64_t row = matrix * p.queries;
      forward_few(p, matrix, a.outputs[0].as<uint16_t>() + row * p.value_width, a.outputs[1].as<float>() + row);
    });
    return true;
  }
  if (p.queries == 1) {
    for_units(a.pool, p.matrices, p.keys * (p.width + p.value_width), [&](int64_t matrix) {
      forward_alone(p, matrix, a.outputs[0].as<uint16_t>() + matrix * p.value_width, a.outputs[1].as<float>() + matrix);
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
    const uint16_t* result = y.as<uint16_t>() + row * p.value_width;
    const float* denominators = log_denominator.as<float>() + row;
    const Gradients to{a.outputs[0].as<uint16_t>() + row * p.width, a.outputs[1].as<uint16_t>() + key * p.width,
                       a.outputs[2].as<uint16_t>() + key * p.value_width};
    if (p.queries <= kFewQueries) {
      FewBackward backward(p, ct, result, denominators, matrix);
      backward(to);
      return;
    }
    const Queries queries(p, ct, result, denominators, matrix);
    Backward backward(p, ct, queries, matrix);
    backward(to);
  });
  return true;
}

}  // namespace tenon::cpu
