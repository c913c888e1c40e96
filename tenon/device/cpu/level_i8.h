// Products of matrices of 8-bit integers, added up in i32 modulo 2^32. Sums of integers have no order, so all loops
// give the same bits, and product_i8.h takes the fastest that the CPU has: the tile registers of AMX (TDPBSSD and its
// like), VPDPBUSD of AVX512-VNNI (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2), or PMADDWD
// on elements widened to i16.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tenon::cpu {

// Lines of k elements: the rows of a left side, the columns of a right one. Steps are in elements.
struct I8Side {
  const uint8_t* data;
  int64_t line, k;  // from line to line, from k to k + 1
  bool is_signed;
};
// From sums to 8 bits: steps in i32, which wrap, then in f64, then to whole numbers, ties to even, and the zero point.
// Numbers of steps are so small or large that nothing becomes infinite or a NaN (i8_finish.h).
inline constexpr int kI8Steps = 3;  // of a kind, at most
struct I8Rescale {
  struct Step {
    const void* data;  // of the first row and column
    int64_t row;       // from row to row
    bool along;        // neighbours are those of neighbouring columns; else one is for the row
    bool inverse;      // subtracts, or divides; else adds, or multiplies
  };
  const int32_t* sums;
  int64_t from, rows, columns;  // rows are `from` numbers apart
  const uint32_t* less;         // null, or of each row what is taken off first
  Step of_sums[kI8Steps], of_reals[kI8Steps];
  int sum_steps, real_steps;
  double low, high;  // whole numbers: the result's range without the zero point
  bool single;       // products of factors are normal numbers of f32, and low and high at most 512
  int32_t zero;
  uint8_t* to;
  int64_t row;
};
inline constexpr int64_t kI8Ahead = 64;
// Units of an image, one line of them after the other: to[unit][place] = image[offset of the unit + place's own]. Up to
// kI8Ahead bytes beyond an end are read and written.
struct I8Gather {
  struct Run {
    int64_t at, count;  // places side by side in the result, `step` apart in the image
  };
  const uint32_t* image;
  const int64_t* offsets;
  int64_t units, step;
  const Run* runs;
  int64_t run_count;
  std::byte* to;
  int64_t line_bytes;
};
// A row of sums, tap by tap: sums[i] = the sum over taps of x[tap][i] * weight[tap], less a number. Whole vectors are
// read: up to kI8Ahead bytes beyond an end. Weights have at most 9 bits.
struct I8Taps {
  const uint8_t* const* x;
  const int16_t* weight;
  int64_t count;
  bool x_signed;
  uint32_t less;
  int32_t* sums;
  int64_t n;
};
struct I8Loops {
  const char* name;
  int64_t rows, columns;  // of a block of sums
  int64_t depth;          // k of one step; the last is filled up with zeros
  int64_t element;        // bytes of a packed one
  int64_t piece;  // of the columns: a step of a right side has the units of one piece, then of the next, each unit four
                  // bytes of each column
  bool shifted;   // packed are a + 128 of a signed left side, b - 128 of an unsigned right one: the caller makes up for
                  // it
  bool tiles;     // the calling thread needs amx::Tiles
  // `lines` lines up to `rows` or `columns`; what lacks is zero.
  void (*pack_left)(const I8Side& side, int64_t lines, int64_t k, std::byte* to);
  void (*pack_right)(const I8Side& side, int64_t lines, int64_t k, std::byte* to);
  // One unit of a right side, of any number of lines: their first elements, at most as many as a unit has.
  void (*pack_unit)(const I8Side& side, int64_t lines, int64_t k, std::byte* to);
  // The rows x columns sums of so many steps, rows `row` numbers apart; by whether left and right are signed.
  void (*block[2][2])(const std::byte* left, const std::byte* right, int64_t steps, int32_t* sums, int64_t row);
  // The same of a signed left side and an unsigned right one that nobody shifted; null unless `shifted`.
  void (*turned)(const std::byte* left, const std::byte* right, int64_t steps, int32_t* sums, int64_t row);
  // Convolutions. A block of sums, `from` numbers apart, to where it belongs, less a number for each row.
  void (*move)(const int32_t* sums, int64_t from, int64_t rows, int64_t columns, const uint32_t* less, int32_t* to,
               int64_t row);
  void (*gather)(const I8Gather&);
  void (*rescale)(const I8Rescale&);
  void (*taps)(const I8Taps&);
  // sums[i] += (x[i * step] - zero) * weight, by whether x is signed; both factors have at most 9 bits.
  void (*add_products[2])(const uint8_t* x, int64_t step, int64_t n, int32_t zero, int32_t weight, int32_t* sums);
};

// level_i8_*.cpp, each built for its CPUs only.
namespace v2 {
const I8Loops& i8_loops();
}
namespace v3 {
const I8Loops& i8_loops();
}
namespace v4 {
const I8Loops& i8_loops();
}
namespace vnni {
const I8Loops& i8_loops();
}
namespace amx {
const I8Loops& i8_loops();
}

}  // namespace tenon::cpu
