// Random numbers: counter-based and splittable.
//
// A key is a u32[2] tensor; the same key and shape always give the same numbers, on any machine and any number of
// threads. The bits are Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011) of the element's number under the key. Where a function takes an optional key and none is given, the
// default generator gives a fresh one.
#pragma once

#include <concepts>
#include <cstdint>

#include "tenon/ops/opdef.h"

namespace tenon {

// ---- the default generator ----
// Its place: the numbers drawn next depend on these two alone.
struct RandomState {
  uint64_t seed = 0;
  uint64_t counter = 0;  // keys given out since the seed was set
  bool operator==(const RandomState&) const = default;
};
RandomState random_state();
void set_random_state(const RandomState& state);
// Restarts the default generator.
void manual_seed(uint64_t seed);
// A key that has not been given out since manual_seed.
Tensor next_key();

// While it lives, the default generator is at another place; afterwards it is where it was.
class RandomStateScope {
 public:
  explicit RandomStateScope(const RandomState& state) : previous_(random_state()) { set_random_state(state); }
  ~RandomStateScope() { set_random_state(previous_); }
  RandomStateScope(const RandomStateScope&) = delete;
  RandomStateScope& operator=(const RandomStateScope&) = delete;

 private:
  RandomState previous_;
};

// ---- keys ----
Tensor random_key(uint64_t seed);
// n keys [n, 2], independent of each other and of the key.
Tensor split_key(const Tensor& key, int64_t n = 2);
// The key of item `data` under this key.
Tensor fold_in(const Tensor& key, uint64_t data);

// ---- numbers ----
// Errors: ValueError for bounds, deviations and probabilities that make no distribution, DTypeError where the numbers
// are real and the dtype is not. Values of tensors (weights, logits) are not looked at.

// Independent uniform bits, u32.
Tensor random_bits(const Shape& shape, Tensor key = {});
// Uniform in [low, high). Floats have 24 random bits (f64: 53).
Tensor uniform(const Shape& shape, double low = 0, double high = 1, DType dtype = DType::F32, Tensor key = {});
// Normal, by the inverse of the distribution function.
Tensor normal(const Shape& shape, double mean = 0, double std = 1, DType dtype = DType::F32, Tensor key = {});
// Normal, cut to [low, high] standard deviations.
Tensor truncated_normal(const Shape& shape, double mean = 0, double std = 1, double low = -2, double high = 2,
                        DType dtype = DType::F32, Tensor key = {});
// Integers in [low, high). Errors: ValueError if there is none, or if the dtype cannot hold them all.
Tensor randint(int64_t low, int64_t high, const Shape& shape, DType dtype = DType::I64, Tensor key = {});
// True with probability p.
Tensor bernoulli(double p, const Shape& shape, Tensor key = {});
// x with elements zeroed with probability p, the others divided by 1 - p (Srivastava et al., JMLR 15, 2014). The
// gradient redraws the same mask from the key: nothing is stored.
Tensor dropout(Tensor x, double p, Tensor key = {});
// PyTorch's third argument would be a key here. Write `training ? dropout(x, p) : x`, or use nn::Dropout.
template <std::same_as<bool> Flag>
Tensor dropout(Tensor x, double p, Flag training) = delete;
// -log(1 - u) / rate.
Tensor exponential(const Shape& shape, double rate = 1, DType dtype = DType::F32, Tensor key = {});
// The distribution of the maximum of many: -log(-log u).
Tensor gumbel(const Shape& shape, DType dtype = DType::F32, Tensor key = {});
// 0 … n-1 in random order (i64), all orders equally likely.
Tensor permutation(int64_t n, Tensor key = {});
// x with its slices along an axis in random order.
Tensor shuffle(const Tensor& x, int64_t axis = 0, Tensor key = {});
// `count` positions for each row of weights (not negative, not all 0, need not sum to 1; not checked), drawn in
// proportion; without replacement one after the other, so that none comes twice. Errors: ValueError for more draws than
// there are to draw from.
Tensor multinomial(const Tensor& weights, int64_t count, bool replacement = false, Tensor key = {});
// One position for each row of unnormalised log probabilities, drawn in proportion (Gumbel's trick).
Tensor categorical(const Tensor& logits, Tensor key = {});

namespace ops {
const OpDef& random_bits_op();
std::vector<const OpDef*> random_ops();
}  // namespace ops

}  // namespace tenon
