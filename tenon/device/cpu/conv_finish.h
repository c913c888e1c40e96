// What stands between the sums of a tile, places by filters, and the result of a convolution: a scalar program, and the
// way to memory.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "tenon/device/cpu/conv_plan.h"
#include "tenon/device/cpu/tile_program.h"

namespace tenon::cpu {

// The places of the result as rows.
struct PlaceSpace {
  std::array<int64_t, 4> extent{};
  int64_t rows = 1, width = 1;

  // For each tensor the strides of its place axes, innermost last. Whether axis d and the last one are one axis.
  using Tensors = std::vector<std::array<int64_t, 4>*>;
  [[nodiscard]] bool runs_on(const Tensors& tensors, size_t d) const;
  // Axes that run on in every tensor become one; those that vanish have extent 1.
  void merge(const Tensors& tensors);
  void count();
  [[nodiscard]] int64_t offset(const std::array<int64_t, 4>& strides, int64_t row) const {
    if (rows == 1) return 0;
    int64_t at = row % extent[2] * strides[2];
    row /= extent[2];
    return at + row % extent[1] * strides[1] + row / extent[1] * strides[0];
  }
};

// The runs of places that a tile consists of.
struct PlaceTile {
  struct Piece {
    int64_t row, first, count;
  };
  Piece piece[2];
  int pieces = 1;
  [[nodiscard]] int64_t places() const { return piece[0].count + (pieces == 2 ? piece[1].count : 0); }
};

// The result, and what the program reads besides the sums.
struct ConvResult {
  enum class Reach : uint8_t { One, Channels, All };
  struct Operand {
    const float* data = nullptr;
    PlaceStrides strides = {};
    Reach reach = Reach::One;
  };
  float* y = nullptr;
  PlaceStrides strides;
  std::vector<Operand> operands;

  void add_operand(const float* data, const PlaceStrides& strides);
  [[nodiscard]] int64_t place_of(const PlaceSpace& space, const PlaceStrides& of, const PlaceTile::Piece& piece) const {
    return space.offset(of.place, piece.row) + piece.first * of.place[3];
  }
};

// The program after a convolution; as a chain of steps where it is one.
struct ConvProgram {
  ConvProgram(const LevelTable& level, const std::optional<ir::ScalarProgram>& after);
  std::optional<TileProgram> program;
  std::optional<std::vector<ChainStep>> chain;  // empty without a program
};

// Of one thread.
class ConvFinish {
 public:
  // For tiles of up to so many places, in blocks [places, columns].
  ConvFinish(const ConvResult& result, const PlaceSpace& space, const ConvProgram& program, const TileLoops& loops,
             int64_t places, int64_t columns);
  // The filters that the columns of the next blocks are.
  void filters(int64_t first, int64_t count);
  // Where and in which distance tiles may write the result themselves, after these steps: null if they may not, and the
  // block is to be finished here.
  [[nodiscard]] float* straight(const PlaceTile& tile);
  // Whether that is so for every tile of one piece.
  [[nodiscard]] bool in_tiles() const { return in_tiles_; }
  [[nodiscard]] int64_t step() const { return result_.strides.place[3]; }
  [[nodiscard]] std::span<const TileStep> steps() const { return steps_; }
  void operator()(const PlaceTile& tile, float* block);

 private:
  [[nodiscard]] bool runs_on(const PlaceStrides& of, const PlaceTile& tile) const;
  void point_steps(const PlaceTile::Piece& piece);
  void run_chain(const PlaceTile& tile, float* block);
  void run_program(const PlaceTile& tile, float* block);
  void load_repeated(ConvResult::Reach reach, int64_t filters);
  const ConvResult& result_;
  const PlaceSpace& space_;
  const ConvProgram& program_;
  const TileLoops& loops_;
  int64_t places_, columns_;
  int64_t filter_ = 0, filters_ = 0;
  std::vector<TileStep> steps_;
  bool in_tiles_ = false;                     // the tiles may do the steps
  bool every_place_ = false;                  // a step's operand has elements of its own for every place
  std::vector<std::vector<float>> channels_;  // of operands whose channels lie apart
  std::optional<TileProgram::Room> room_;     // unless it is a chain
};

}  // namespace tenon::cpu
