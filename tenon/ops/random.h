// Random numbers: counter-based and splittable.
#pragma once

#include <cstdint>

namespace tenon {

// The default generator's place: the numbers drawn next depend on these two alone.
struct RandomState {
  uint64_t seed = 0;
  uint64_t counter = 0;  // draws made since the seed was set
  bool operator==(const RandomState&) const = default;
};
RandomState random_state();
void set_random_state(const RandomState& state);
// Restarts the default generator.
void manual_seed(uint64_t seed);

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

}  // namespace tenon
