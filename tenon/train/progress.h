// Progress: what a training loop tells whoever wants to watch. The library itself prints nothing.
#pragma once

#include <cstdint>
#include <string_view>

namespace tenon::train {

struct Progress {
  std::int64_t step = 0;   // optimiser steps done
  std::int64_t steps = 0;  // in all
  double epoch = 0;
  double loss = 0;               // of recent steps, smoothed
  double seconds = 0;            // since this session began
  double per_second = 0;         // recent rate, in units
  std::string_view unit{};       // "examples" or "tokens"
  double remaining_seconds = 0;  // estimate
};

}  // namespace tenon::train
