// How closely a program keeps to what an eager run computes.
#pragma once

#include <cstdint>

namespace tenon {

enum class Precision : uint8_t {
  Strict,  // bit for bit the results of an eager run
  // Fewer roundings and operations. Results have the same bits in every run and on any number of threads, but not those
  // of an eager run; as a rule they are nearer to the true ones:
  //  - between ops that run together, values are not rounded to f16 or bf16, but stay in f32;
  //  - a multiplication and the addition of its result may be one operation with one rounding;
  //  - numbers by which the filters of a convolution with constant weights are multiplied (batch normalisation) go into
  //    these weights. Products that were finite may overflow then, or the other way round.
  Fast,
};

}  // namespace tenon
