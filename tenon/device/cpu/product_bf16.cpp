#include "tenon/device/cpu/product_bf16.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tenon/device/cpu/pieces.h"
#include "tenon/device/cpu/widen.h"

namespace tenon::cpu {
namespace {

using bf16_blocks::kGroup;
using bf16_blocks::kSide;
using bf16_blocks::packed_size;

constexpr int64_t kStripColumns = 512;              // of the result, after which the follower runs, …
constexpr int64_t kFollowed = 2048;                 // … over so many elements at a time, at most
constexpr int64_t kBlocks = 32;                     // of rows that go together, at most
constexpr int64_t kFirstCache = 32 * 1024;          // bytes of panels that stay there
constexpr int64_t kLeftBytes = 512 * 1024;          // of rows that stay in the second cache
constexpr int64_t kRightBytes = 1024 * 1024;        // of panels that these rows use again and again
constexpr int64_t kPiece = 1024;                    // of sums whose panels are longer than that
constexpr int64_t kPieceRows = 4;                   // blocks of rows that go over a piece together, at most
constexpr int64_t kPartProducts = 6 * 1024 * 1024;  // multiply-adds of one part, about, …
constexpr int64_t kPartBytes = 1024 * 1024;         // … or of a right side that few rows read
constexpr auto kElement = static_cast<int64_t>(sizeof(uint16_t));

Ref<Buffer> room_for(int64_t elements) { return Buffer::allocate(static_cast<size_t>(elements * kElement)); }
Ref<Buffer> scratch_for(int64_t elements) { return Buffer::allocate_scratch(static_cast<size_t>(elements * kElement)); }
uint16_t* elements(const Ref<Buffer>& buffer) { return reinterpret_cast<uint16_t*>(buffer->data()); }

void pack_panels(const Bf16Product& p, int64_t first, int64_t last, uint16_t* to) {
  for (int64_t j = first; j < last; ++j) {
    bf16_blocks::pack_right(p.b + j * kSide * p.b_column, p.b_k, p.b_column, p.k, std::min(kSide, p.n - j * kSide),
                            to + j * packed_size(p.k));
  }
}

// Rows of a matrix that make a block. Without tile registers it may be groups of seven, if they come out even: often
// the rows are places of images.
int64_t block_rows(const Bf16Product& p, const Bf16Follow* follow) {
  const bool may = bf16_blocks::rows_anywhere() && (follow == nullptr || follow->in_registers());
  return may && p.m % kSide != 0 && p.m % (kGroup - 1) == 0 ? bf16_blocks::kSevens : kSide;
}

// The rows of a matrix. Those that consist of whole steps need no packing where a block may have fewer than kSide.
class MatrixRows final : public Bf16Rows {
 public:
  explicit MatrixRows(const Bf16Product& p, int64_t rows = kSide) : p_(p), rows_(rows) {}
  [[nodiscard]] int64_t blocks() const override { return parts_of(p_.m, rows_); }
  [[nodiscard]] int64_t block_bytes() const override { return packed_size(p_.k) * kElement; }
  [[nodiscard]] int64_t room() const override { return packed_size(p_.k); }
  bf16_blocks::Left block(int64_t i, uint16_t* room) const override {
    const uint16_t* at = p_.a + i * rows_ * p_.a_row;
    const int64_t rows = std::min(rows_, p_.m - i * rows_);
    if (p_.a_k == 1 && p_.k % bf16_blocks::kDepth == 0 && (rows == kSide || bf16_blocks::rows_anywhere()))
      return {.at = at, .row = p_.a_row, .steps = nullptr, .step = bf16_blocks::kDepth, .rows = rows};
    bf16_blocks::pack_left(at, p_.a_row, p_.a_k, rows, p_.k, room);
    bf16_blocks::Left left{.at = room};
    left.rows = rows;
    return left;
  }
  int runs(int64_t i, std::span<Bf16Run, kSide> to) const override {
    to[0] = {0, std::min(rows_, p_.m - i * rows_), i * rows_};
    return 1;
  }

 private:
  const Bf16Product& p_;
  int64_t rows_;  // of a block
};

// The steps of a chain, for blocks.
class BlockSteps {
 public:
  BlockSteps(const Bf16Product& p, const Bf16Follow* follow) : finish_{p.bias, nullptr, 0, true} {
    if (follow == nullptr || !follow->in_registers()) return;
    for (const ChainStep& step : *follow->after.chain()) {
      if (step.input == 0) {
        steps_.push_back({step.op, true, false, &step.number, 0});
        continue;
      }
      const Bf16Follow::Operand& o = follow->operands[static_cast<size_t>(step.input) - 1];
      steps_.push_back({step.op, o.row == 0 && o.column == 0, follow->after.narrow(step.input - 1), o.data, o.row});
    }
    finish_.rounds_first = follow->after.rounds_first();
    finish_.narrow = info(follow->after.program().result()).bits == 16;
    finish_.step_count = static_cast<int>(steps_.size());
  }
  // For elements from this row and column of the result on.
  const bf16_blocks::Finish& at(int64_t row, int64_t column) {
    bf16_blocks::Finish& f = moved_finish_ = finish_;
    if (f.bias != nullptr) f.bias += column;
    moved_ = steps_;
    for (bf16_blocks::Step& step : moved_) {
      if (step.one) continue;
      const int64_t to = (row * step.row + column) * (step.narrow ? kElement : static_cast<int64_t>(sizeof(float)));
      step.data = static_cast<const std::byte*>(step.data) + to;
    }
    f.steps = moved_.data();
    return f;
  }
  [[nodiscard]] int64_t size() const { return finish_.narrow ? kElement : static_cast<int64_t>(sizeof(float)); }

 private:
  bf16_blocks::Finish finish_, moved_finish_{};
  std::vector<bf16_blocks::Step> steps_, moved_;
};

// Blocks of rows and columns [begin, end), which begin at blocks, of a product whose right side is packed.
class Part {
 public:
  Part(const Bf16Product& p, const Bf16Rows& rows, const Bf16Follow* follow)
      : p_(p), rows_(rows), follow_(follow), apart_(follow != nullptr && !follow->in_registers()), steps_(p, follow) {
    const int64_t panel_bytes = packed_size(p_.k) * kElement;
    strip_ = std::clamp<int64_t>(kRightBytes / panel_bytes, 1, kStripColumns / kSide) * kSide;
    together_ = std::clamp<int64_t>(kLeftBytes / rows.block_bytes(), 1, kBlocks);
    if (apart_) room_.emplace(follow_->after.program(), kFollowed);
  }
  void operator()(int64_t block_begin, int64_t block_end, int64_t column_begin, int64_t column_end) {
    const bf16_blocks::Tiles tiles;
    const int64_t together = std::min(together_, block_end - block_begin);
    const int64_t room = rows_.room();
    const Ref<Buffer> packed = scratch_for(std::max<int64_t>(1, together * room));
    const int64_t widest = std::min(strip_, column_end - column_begin);
    Ref<Buffer> kept;
    if (apart_) {
      kept = scratch_for(together * kSide * widest);
      kept_ = elements(kept);
      // Whole rows lie one after the other, so that several are one; wide ones are long enough.
      const bool whole = widest == p_.n && follow_->out_row == p_.n;
      group_ = whole ? std::clamp<int64_t>(kFollowed / p_.n, 1, together * kSide) : 1;
      load(Reach::Number, 0, 0, group_, widest);
    }
    for (int64_t i = block_begin; i < block_end; i += together) {
      const int64_t end = std::min(i + together, block_end);
      runs_.clear();
      for (int64_t b = i; b < end; ++b) {
        Block& to = blocks_[static_cast<size_t>(b - i)];
        to.left = rows_.block(b, elements(packed) + (b - i) * room);
        std::array<Bf16Run, kSide> runs{};
        to.first_run = runs_.size();
        to.run_count = static_cast<size_t>(rows_.runs(b, runs));
        runs_.insert(runs_.end(), runs.begin(), runs.begin() + static_cast<std::ptrdiff_t>(to.run_count));
      }
      for (int64_t j = column_begin; j < column_end; j += strip_) strip(i, end, j, std::min(j + strip_, column_end));
    }
  }

 private:
  // Panels that stay in the first cache together go over the rows one after the other; of larger ones each goes over
  // all rows before the next.
  void strip(int64_t block, int64_t block_end, int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    if (parts_of(width, kSide) * packed_size(p_.k) * kElement <= kFirstCache) {
      for (int64_t i = block; i < block_end; ++i) {
        for (int64_t j = begin; j < end; j += kSide) one(i - block, j, i == block, {begin, width});
      }
    } else {
      for (int64_t j = begin; j < end; j += kSide) {
        for (int64_t i = block; i < block_end; ++i) one(i - block, j, i >= block_end - 2, {begin, width});
      }
    }
    if (!apart_) return;
    const int64_t row = block * kSide;
    follow(row, std::min(block_end * kSide, p_.m), begin, width);
  }
  struct Strip {
    int64_t begin, width;
  };
  struct Block {
    bf16_blocks::Left left;
    size_t first_run = 0, run_count = 0;
  };
  // Block `local` of those that go together; `last` before the next panel.
  void one(int64_t local, int64_t j, bool last, const Strip& strip) {
    const Block& block = blocks_[static_cast<size_t>(local)];
    bf16_blocks::Right panel{p_.packed + j / kSide * packed_size(p_.k), bf16_blocks::steps(p_.k)};
    if (last && j + kSide < p_.n) panel.next = panel.at + packed_size(p_.k);
    const int64_t columns = std::min(kSide, p_.n - j);
    const std::span<const Bf16Run> runs = std::span(runs_).subspan(block.first_run, block.run_count);
    if (runs.size() == 1 && runs[0].first == 0 && runs[0].count == block.left.rows) {
      const Place y = place(local, runs[0], j, strip);
      bf16_blocks::finished_block(block.left, panel, steps_.at(runs[0].row, j), columns, y.at, y.row);
      return;
    }
    alignas(64) float sums[bf16_blocks::kBlockSize];
    bf16_blocks::block(block.left, panel, sums);
    for (const Bf16Run& run : runs) {
      const Place y = place(local, run, j, strip);
      bf16_blocks::finish(sums + run.first * kSide, steps_.at(run.row, j), run.count, columns, y.at, y.row);
    }
  }
  // Where a run's results from column j on go, and how many elements are from row to row.
  struct Place {
    void* at;
    int64_t row;
  };
  [[nodiscard]] Place place(int64_t local, const Bf16Run& run, int64_t j, const Strip& strip) const {
    if (apart_) return {kept_ + (local * kSide + run.first) * strip.width + j - strip.begin, strip.width};
    if (follow_ == nullptr) return {p_.c + run.row * p_.c_row + j, p_.c_row};
    return {follow_->out + (run.row * follow_->out_row + j) * steps_.size(), follow_->out_row};
  }
  void follow(int64_t row, int64_t row_end, int64_t begin, int64_t width) {
    if (begin != columns_begin_ || width != columns_width_) load(Reach::Column, 0, begin, group_, width);
    columns_begin_ = begin;
    columns_width_ = width;
    const int64_t size = element_size(follow_->after.program().result());
    for (int64_t r = row; r < row_end; r += group_) {
      const int64_t count = std::min(group_, row_end - r);
      load(Reach::Element, r, begin, count, width);
      follow_->after.program().run(*room_, kept_ + (r - row) * width, count * width,
                                   follow_->out + (r * follow_->out_row + begin) * size);
    }
  }

  // What an operand is different for.
  enum class Reach : uint8_t { Number, Column, Element };
  static Reach reach_of(const Bf16Follow::Operand& o) {
    if (o.row != 0) return Reach::Element;
    return o.column != 0 ? Reach::Column : Reach::Number;
  }
  // The operands of this reach for `rows` rows of `width` elements.
  void load(Reach reach, int64_t row, int64_t column, int64_t rows, int64_t width) {
    for (size_t i = 0; i < follow_->operands.size(); ++i) {
      const Bf16Follow::Operand& o = follow_->operands[i];
      if (reach_of(o) != reach) continue;
      const int64_t first = row * o.row + column * o.column;
      const int input = static_cast<int>(i) + 1;
      if (reach == Reach::Number || rows == 1 || (o.column == 1 && o.row == width)) {
        room_->load(input, o.data, first, o.column, rows * width);
      } else {
        room_->load_rows(input, o.data, first, o.row, o.column, rows, width);
      }
    }
  }

  const Bf16Product& p_;
  const Bf16Rows& rows_;
  const Bf16Follow* follow_;
  bool apart_;  // what follows is not done in registers
  BlockSteps steps_;
  int64_t strip_ = 0, together_ = 0;
  std::array<Block, kBlocks> blocks_;
  std::vector<Bf16Run> runs_;                       // of these blocks
  uint16_t* kept_ = nullptr;                        // what the follower takes
  int64_t group_ = 1;                               // rows that the follower takes at a time
  int64_t columns_begin_ = -1, columns_width_ = 0;  // that operands of columns are there for
  std::optional<TileProgram::Room> room_;
};

void run_part(const Bf16Product& p, const Bf16Follow* follow, bool by_rows, int64_t begin, int64_t end) {
  const MatrixRows matrix(p, block_rows(p, follow));
  const Bf16Rows& rows = p.rows != nullptr ? *p.rows : matrix;
  Part part(p, rows, follow);
  if (by_rows)
    part(begin, end, 0, p.n);
  else
    part(0, rows.blocks(), begin * kSide, std::min(end * kSide, p.n));
}

// Sums so long that rows would read the right side from far away again and again: a piece of all sums after the other,
// so that all rows read a piece while it is near. In between sums wait in memory, which changes no bit of them.
void product_in_pieces(const Bf16Product& p, ThreadPool& pool) {
  const int64_t rows = parts_of(p.m, kSide), columns = parts_of(p.n, kSide);
  const int64_t together = std::clamp<int64_t>(rows / (4 * pool.threads()), 1, kPieceRows);
  const int64_t parts = parts_of(rows, together);
  const Ref<Buffer> sums =
      Buffer::allocate_scratch(static_cast<size_t>(rows * columns * bf16_blocks::kBlockSize) * sizeof(float));
  const auto sums_at = [&](int64_t i, int64_t j) {
    return reinterpret_cast<float*>(sums->data()) + (i * columns + j) * bf16_blocks::kBlockSize;
  };
  for (int64_t from = 0; from < p.k; from += kPiece) {
    Bf16Product piece = p;
    piece.a += from * p.a_k;
    piece.k = std::min(kPiece, p.k - from);
    const MatrixRows left(piece);
    const uint16_t* right = p.packed + from / bf16_blocks::kDepth * bf16_blocks::kStepSize;
    pool.run(parts, [&](int64_t part) {
      const bf16_blocks::Tiles tiles;
      const int64_t begin = part * together, count = std::min(together, rows - begin);
      const Ref<Buffer> room = scratch_for(count * left.room());
      std::array<bf16_blocks::Left, kPieceRows> blocks;
      for (int64_t i = 0; i < count; ++i)
        blocks[static_cast<size_t>(i)] = left.block(begin + i, elements(room) + i * left.room());
      for (int64_t j = 0; j < columns; ++j) {
        bf16_blocks::Right panel{right + j * packed_size(p.k), bf16_blocks::steps(piece.k)};
        for (int64_t i = 0; i < count; ++i) {
          if (i + 1 == count && j + 1 < columns) panel.next = panel.at + packed_size(p.k);
          bf16_blocks::block(blocks[static_cast<size_t>(i)], panel, sums_at(begin + i, j), kSide, from > 0);
        }
      }
    });
  }
  pool.run(rows, [&](int64_t i) {
    for (int64_t j = 0; j < columns; ++j) {
      const float* bias = p.bias == nullptr ? nullptr : p.bias + j * kSide;
      bf16_blocks::finish(sums_at(i, j), {bias, nullptr, 0, true}, std::min(kSide, p.m - i * kSide),
                          std::min(kSide, p.n - j * kSide), p.c + i * kSide * p.c_row + j * kSide, p.c_row);
    }
  });
}

}  // namespace

Bf16After::Bf16After(const ir::ScalarProgram& program, Precision precision)
    : program_(level_table(best_level()), program), rounds_first_(precision == Precision::Strict) {
  for (int i = 1; i < program.inputs; ++i) narrow_.push_back(program.input(i) == DType::BF16 ? 1 : 0);
  const ir::ScalarProgram wide = widened_program(program, precision);
  auto steps = chain_of(wide);
  if (!steps || !std::ranges::all_of(*steps, [](const ChainStep& s) {
        return bf16_blocks::finishes(s.op) && s.input != ChainStep::kKept;
      }))
    return;
  if (rounds_first_ && !steps->empty() && steps->front().op == TileOp::Short) steps->erase(steps->begin());
  bool exact = rounds_first_;
  for (ChainStep& s : *steps) {
    const bool above_zero = s.op == TileOp::Larger && s.input == 0 && s.number == 0 && !std::signbit(s.number);
    if (above_zero) s.op = TileOp::AboveZero;
    if (s.op == TileOp::Short)
      exact = true;
    else if (s.op != TileOp::AboveZero && s.op != TileOp::Negate)
      exact = false;
  }
  if (program.result() == DType::BF16 && !exact) steps->push_back({TileOp::Short, 0, 0.0F});
  chain_ = std::move(steps);
}

bool Bf16Follow::in_registers() const {
  return after.chain().has_value() &&
         std::ranges::all_of(operands, [](const Operand& o) { return o.column == 1 || (o.column == 0 && o.row == 0); });
}

Ref<Buffer> pack_right_bf16(const uint16_t* b, int64_t b_k, int64_t b_column, int64_t k, int64_t n, ThreadPool& pool) {
  const int64_t panels = parts_of(n, kSide);
  Ref<Buffer> packed = room_for(panels * packed_size(k));
  const Bf16Product p{.m = 0, .n = n, .k = k, .a = nullptr, .b = b, .b_k = b_k, .b_column = b_column};
  const int64_t parts = k * n < kPartProducts / 64 ? 1 : std::min<int64_t>(panels, 4 * pool.threads());
  pool.run(parts, [&](int64_t i) { pack_panels(p, panels * i / parts, panels * (i + 1) / parts, elements(packed)); });
  return packed;
}

void product(const Bf16Product& given) {
  Bf16Product p = given;
  Ref<Buffer> packed;
  if (p.packed == nullptr) {
    const int64_t panels = parts_of(p.n, kSide);
    packed = scratch_for(panels * packed_size(p.k));
    pack_panels(p, 0, panels, elements(packed));
    p.packed = elements(packed);
  }
  run_part(p, nullptr, false, 0, parts_of(p.n, kSide));
}

void product(const Bf16Product& given, ThreadPool& pool, const Bf16Follow* follow) {
  Bf16Product p = given;
  Ref<Buffer> packed;
  if (p.packed == nullptr) {
    packed = pack_right_bf16(p.b, p.b_k, p.b_column, p.k, p.n, pool);
    p.packed = elements(packed);
  }
  const int64_t work = std::max(p.m * p.n * p.k / kPartProducts, p.n * p.k * kElement / kPartBytes);
  const int64_t threads = work < 2 ? 1 : pool.threads();
  const bool is_far = packed_size(p.k) * kElement > kLeftBytes && parts_of(p.m, kSide) >= 2 * threads;
  if (is_far && p.rows == nullptr && follow == nullptr) return product_in_pieces(p, pool);
  const bool by_rows = p.m >= p.n;
  const int64_t units = !by_rows            ? parts_of(p.n, kSide)
                        : p.rows != nullptr ? p.rows->blocks()
                                            : parts_of(p.m, block_rows(p, follow));
  const int64_t parts = parts_for(threads, work, units);
  pool.run(parts, [&](int64_t i) { run_part(p, follow, by_rows, units * i / parts, units * (i + 1) / parts); });
}

}  // namespace tenon::cpu
