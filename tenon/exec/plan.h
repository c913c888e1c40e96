// Where each value of a program lies: one arena for what does not outlive a run, planned before the first run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tenon::exec {

struct Lifetime {
  int64_t bytes = 0;
  int32_t first = 0;  // the step that writes it
  int32_t last = 0;   // the last step that reads it
  // The value in whose memory it may lie, or -1: one of as many bytes that the step which writes this one reads last,
  // and reads where this one is written before it writes there. No other value names the same one.
  int32_t from = -1;
};
struct MemoryPlan {
  std::vector<int64_t> offsets;  // of each value, multiples of 64
  int64_t size = 0;              // of the arena
  int64_t sum = 0;               // what the values would take side by side
};
// The largest values first, each at the lowest place where nothing lies that lives at the same time. Values that may
// lie where another one lay all do, or none if the arena is not smaller then.
MemoryPlan plan_memory(const std::vector<Lifetime>& values);
// What is wrong with a plan (two values that live at the same time and overlap, one outside of the arena, memory that
// is taken too early), or nothing.
std::string problem_of(const std::vector<Lifetime>& values, const MemoryPlan& plan);

}  // namespace tenon::exec
