#include "tenon/device/cpu/product.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "tenon/device/cpu/pieces.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kBlockK = 512;  // fewer passes over the result count for more than panels in the first cache
constexpr int64_t kMostColumns = 48;
constexpr int64_t kMostLanes = 16;
constexpr int64_t kThinBlockK = 128;              // where a panel is used by one tile of rows only
constexpr int64_t kStreamBlockK = 32;             // rows of b that are read side by side
constexpr int64_t kLeftBytes = 320 * 1024;        // of the rows that stay in the second cache
constexpr int64_t kRightBytes = 4 * 1024 * 1024;  // of panels that all blocks of rows use
constexpr int64_t kSmallRight = 16 * 1024;        // bytes of b up to which it stays where it is
constexpr int64_t kStreamRight = 256 * 1024;      // bytes of b from which on few rows of it are read at a time
constexpr int64_t kShortSum = 256;           // products of an element, up to which the result's memory is slower, …
constexpr int64_t kFarRows = 2048;           // … where its rows lie so many bytes apart, or more; then
constexpr int64_t kFewRight = 1024 * 1024;   // … panels of so many bytes are used by few rows at a time
constexpr int64_t kFewPanels = 4;            // with which rows of a stay where they are
constexpr int64_t kFollowColumns = 384;      // after which the follower runs
constexpr int64_t kSmallResult = 32 * 1024;  // bytes
constexpr int64_t kPartProducts = 2 * 1024 * 1024;  // multiply-adds of one part, at least
constexpr int64_t kShared = 32 * 1024 * 1024;       // multiply-adds from which on parts share what is packed

class Scratch {
 public:
  explicit Scratch(int64_t floats) {
    if (floats > 0) buffer_ = Buffer::allocate_scratch(static_cast<size_t>(floats * kFloat));
  }
  [[nodiscard]] float* data() const { return buffer_ ? reinterpret_cast<float*>(buffer_->data()) : nullptr; }

 private:
  Ref<Buffer> buffer_;
};

// Rows in tiles that differ by one at most.
struct Rows {
  Rows(int64_t m, int64_t most) : tiles(parts_of(m, most)), base(m), more(0) {
    if (tiles > 1) {
      base = m / tiles;
      more = m % tiles;
    }
  }
  [[nodiscard]] int64_t first(int64_t tile) const { return tile * base + std::min(tile, more); }
  [[nodiscard]] int64_t count(int64_t tile) const { return tile < more ? base + 1 : base; }
  int64_t tiles, base, more;  // the first `more` tiles have base + 1 rows
};

class Run {
 public:
  Run(const Product& p, const TileLoops& loops, const ProductFollow* follow)
      : p_(p),
        loops_(loops),
        follow_(follow),
        lanes_(loops.lanes),
        vectors_(vectors_of(p, loops)),
        columns_(vectors_ * loops.lanes),
        most_rows_(loops.most_rows[vectors_]),
        rows_(p.m, most_rows_) {
    const bool thin = rows_.tiles == 1;
    const int64_t right_bytes = p.k * p.n * kFloat;
    as_it_is_ = p.packed == nullptr && p.b_column == 1 && (thin || right_bytes <= kSmallRight);
    const int64_t most_k = as_it_is_ && right_bytes > kStreamRight ? kStreamBlockK
                           : thin && p.packed == nullptr           ? kThinBlockK
                                                                   : kBlockK;
    const int64_t blocks_k = parts_of(p.k, most_k);
    block_k_ = blocks_k == 1 ? p.k : rounded_up(parts_of(p.k, blocks_k), 8);
    const int64_t tile_bytes = block_k_ * most_rows_ * kFloat;
    row_blocks_ = rows_.tiles * tile_bytes <= kLeftBytes
                      ? 1
                      : parts_of(rows_.tiles, std::max<int64_t>(1, kLeftBytes / tile_bytes));
    // With one block of rows each panel is packed just before its only use.
    pack_right_ = p.packed == nullptr && !as_it_is_;
    // Lines of memory are written one after the other along a few rows sooner than across many.
    const bool by_rows = !as_it_is_ && !thin && p.k <= kShortSum && std::max(p.c_row, p.b_k) * kFloat >= kFarRows;
    if (by_rows) row_blocks_ = rows_.tiles;
    const int64_t right = by_rows ? kFewRight : kRightBytes;
    const int64_t most_n = by_rows || (pack_right_ && row_blocks_ > 1)
                               ? std::max(columns_, right / (block_k_ * kFloat) / columns_ * columns_)
                               : p.n;
    const int64_t blocks_n = parts_of(p.n, most_n);
    block_n_ = blocks_n == 1 ? p.n : rounded_up(parts_of(p.n, blocks_n), columns_);
    pack_left_ = !thin && wants_packed_rows();
  }

  // Whether rows of a and panels of b are copied; all that is copied of a, for runs on the same rows and k.
  [[nodiscard]] bool packs_left() const { return pack_left_; }
  [[nodiscard]] bool packs_right() const { return pack_right_; }
  [[nodiscard]] Ref<Buffer> packed_left(ThreadPool& pool) const {
    const int64_t units = parts_of(p_.k, block_k_) * rows_.tiles, parts = std::min<int64_t>(units, 4 * pool.threads());
    Ref<Buffer> packed = Buffer::allocate_scratch(static_cast<size_t>(units * tile_size() * kFloat));
    auto* to = reinterpret_cast<float*>(packed->data());
    pool.run(parts, [&](int64_t part) {
      for (int64_t u = units * part / parts; u < units * (part + 1) / parts; ++u) {
        const int64_t k0 = u / rows_.tiles * block_k_;
        pack_tile(u % rows_.tiles, k0, std::min(block_k_, p_.k - k0), to + u * tile_size());
      }
    });
    return packed;
  }
  void use_left(const Buffer& packed, const Run& packed_by) {
    if (pack_left_ && block_k_ == packed_by.block_k_ && most_rows_ == packed_by.most_rows_)
      shared_left_ = reinterpret_cast<const float*>(packed.data());
  }

  void operator()() {
    alignas(64) float panel[kBlockK * kMostColumns];
    alignas(64) float edge[kBlockK * kMostLanes];
    const bool own_left = pack_left_ && shared_left_ == nullptr;
    const Scratch left(own_left ? parts_of(rows_.tiles, row_blocks_) * tile_size() : 0);
    const Scratch right(pack_right_ && row_blocks_ > 1 ? rounded_up(block_n_, columns_) * block_k_ : 0);
    const int64_t rest = p_.n & (lanes_ - 1);
    std::optional<TileProgram::Room> room;
    if (follow_ != nullptr) {
      room.emplace(follow_->program, kFollowColumns);
      room_ = &*room;
      fill_constant_operands();
    }
    if (p_.packed == nullptr && p_.b_k == 1 && p_.b_column != 1 && p_.m <= kTurnedRows) {
      turned();
      return;
    }
    own_left_ = left.data();
    right_ = row_blocks_ > 1 ? right.data() : panel;
    if (as_it_is_ && rest != 0) edge_ = edge;
    for (k0_ = 0; k0_ < p_.k; k0_ += block_k_) {
      k_ = std::min(block_k_, p_.k - k0_);
      if (edge_ != nullptr) pack_panel(p_.b + k0_ * p_.b_k + p_.n - rest, p_.b_k, 1, k_, rest, edge_, lanes_, loops_);
      if (row_blocks_ == 1) pack_rows(0, rows_.tiles);
      for (int64_t j = 0; j < p_.n; j += block_n_) {
        const int64_t end = std::min(p_.n, j + block_n_);
        if (row_blocks_ == 1) {
          columns(j, end, 0, rows_.tiles);
          continue;
        }
        if (pack_right_) pack_block(j, end);
        for (int64_t b = 0; b < row_blocks_; ++b) {
          const int64_t first = rows_.tiles * b / row_blocks_, last = rows_.tiles * (b + 1) / row_blocks_;
          pack_rows(first, last);
          columns(j, end, first, last);
        }
      }
    }
  }

 private:
  // Two vectors where they leave no thin panel over, as in products of 64 columns.
  static int64_t vectors_of(const Product& p, const TileLoops& loops) {
    const int64_t wide = loops.product_vectors, two = 2 * static_cast<int64_t>(loops.lanes);
    const bool few = p.packed == nullptr && p.n <= 4 * two;
    return wide > 2 && few && p.n % two == 0 && p.n % (wide * loops.lanes) != 0 ? 2 : wide;
  }
  [[nodiscard]] bool wants_packed_rows() const {
    if (p_.a_k != 1) return p_.k > 64 || (p_.a_k * kFloat % 1024 == 0 && p_.k >= 32 && p_.n > columns_);
    if (p_.n > kFewPanels * columns_) return true;
    // Rows that lie in the same sets of the first cache.
    return p_.n > columns_ && p_.a_row * kFloat % 2048 == 0 && p_.k >= 64;
  }
  [[nodiscard]] int64_t tile_size() const { return most_rows_ * block_k_; }
  // A tile of packed rows: row after row, or k after k where a is transposed.
  void pack_tile(int64_t t, int64_t k0, int64_t count, float* to) const {
    const float* from = p_.a + rows_.first(t) * p_.a_row + k0 * p_.a_k;
    const int64_t rows = rows_.count(t);
    if (p_.a_k == 1) {
      loops_.copy(from, p_.a_row, rows, count, to, block_k_);
    } else if (p_.a_row == 1) {
      loops_.copy(from, p_.a_k, count, rows, to, most_rows_);
    } else {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t k = 0; k < count; ++k) to[k * most_rows_ + r] = from[r * p_.a_row + k * p_.a_k];
      }
    }
  }
  // The tiles [first, last) of the present block in k, from left_ on.
  void pack_rows(int64_t first, int64_t last) {
    if (!pack_left_) return;
    if (shared_left_ != nullptr) {
      left_ = shared_left_ + (k0_ / block_k_ * rows_.tiles + first) * tile_size();
      return;
    }
    for (int64_t t = first; t < last; ++t) pack_tile(t, k0_, k_, own_left_ + (t - first) * tile_size());
    left_ = own_left_;
  }
  // All panels of the columns [j, end), one after the other.
  void pack_block(int64_t j, int64_t end) {
    // Rows of b are read over several panels, so that they are read in one piece.
    const int64_t step = p_.b_column == 1 ? kStreamBlockK : k_;
    for (int64_t k = 0; k < k_; k += step) {
      const int64_t count = std::min(step, k_ - k);
      for (int64_t i = j; i < end; i += columns_) {
        pack_panel(p_.b + (k0_ + k) * p_.b_k + i * p_.b_column, p_.b_k, p_.b_column, count, std::min(columns_, end - i),
                   right_ + (i - j) * k_ + k * columns_, columns_, loops_);
      }
    }
  }

  // Columns [j, end) of the tiles [first, last), over the present block in k.
  void columns(int64_t j, int64_t end, int64_t first, int64_t last) {
    const bool finished = follow_ != nullptr && k0_ + k_ == p_.k;
    const bool each = pack_right_ && row_blocks_ == 1;
    int64_t followed = j;
    for (int64_t i = j; i < end; i += columns_) {
      const int64_t width = std::min(columns_, end - i);
      Panel panel{i, width, nullptr, columns_, nullptr, 0};
      if (p_.packed != nullptr) {
        panel.weight = p_.packed + i * p_.k + k0_ * columns_;
        if (end - i > columns_) panel.next = panel.weight + p_.k * columns_;
      } else if (each) {
        const float* from = p_.b + k0_ * p_.b_k + i * p_.b_column;
        pack_panel(from, p_.b_k, p_.b_column, k_, width, right_, columns_, loops_);
        panel.weight = right_;
        if (end - i > columns_ && p_.b_column == 1) {
          panel.next = from + columns_;
          panel.next_row = p_.b_k;
        }
      } else if (pack_right_) {
        panel.weight = right_ + (i - j) * k_;
        if (end - i > columns_) panel.next = panel.weight + k_ * columns_;
      } else {
        panel.weight = p_.b + k0_ * p_.b_k + i;
        panel.step = panel.next_row = p_.b_k;
        panel.next = panel.weight + columns_;
      }
      const int64_t rest = as_it_is_ ? width & (lanes_ - 1) : 0;
      if (rest == 0) {
        tiles(panel, first, last);
      } else {
        panel.columns -= rest;
        if (panel.columns > 0) tiles(panel, first, last);
        tiles({i + width - rest, rest, edge_, lanes_, nullptr, 0}, first, last);
      }
      if (finished && (i + width - followed >= kFollowColumns || i + width == end)) {
        for (int64_t r = rows_.first(first); r < rows_.first(last); ++r) follow(r, followed, i + width);
        followed = i + width;
      }
    }
  }

  struct Panel {
    int64_t column, columns;
    const float* weight;
    int64_t step;
    const float* next;  // the panel that the memory is asked for meanwhile: packed, or
    int64_t next_row;   // … rows that lie so far apart
  };
  void tiles(const Panel& panel, int64_t first, int64_t last) const {
    static constexpr int64_t kTap = 0;
    const int64_t vectors = parts_of(panel.columns, lanes_);
    const auto& of_rows = loops_.tile[vectors];
    const int64_t count = last - first;
    const bool prefetch_result = p_.m * p_.n * kFloat > kSmallResult;
    // Each tile asks for its share of the next panel.
    int64_t share = 0;
    if (panel.next != nullptr && panel.next_row == 0)
      share = std::min<int64_t>(kLine, rounded_up(parts_of(columns_, count), 4));
    Tile t{nullptr, p_.a_row, 0,        p_.a_k, &kTap,   1, k_,      panel.weight, panel.step,
           nullptr, nullptr,  p_.c_row, 0,      nullptr, 0, nullptr, nullptr,      0};
    if (pack_left_) {
      t.step = p_.a_k == 1 ? block_k_ : 1;
      t.x_step = p_.a_k == 1 ? 1 : most_rows_;
    }
    t.jump = kTileSegment * t.step;
    t.last = static_cast<int>(panel.columns - (vectors - 1) * lanes_);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = rows_.first(first + i), rows = rows_.count(first + i);
      t.x = pack_left_ ? left_ + i * tile_size() : p_.a + row * p_.a_row + k0_ * p_.a_k;
      t.y = p_.c + row * p_.c_row + panel.column;
      t.from = k0_ > 0 || p_.accumulate ? t.y : nullptr;
      t.next = panel.weight;
      t.next_step = 0;
      if (share != 0 && i * share < columns_) {
        t.next = panel.next + i * k_ * share;
        t.next_step = share;
      } else if (panel.next_row != 0 && i * kLine < columns_) {
        t.next = panel.next + i * kLine;
        t.next_step = panel.next_row;
      }
      if (prefetch_result)
        t.soon = i + 1 < count ? t.y + rows * p_.c_row : p_.c + rows_.first(first) * p_.c_row + panel.column + columns_;
      of_rows[rows](t);
    }
  }

  // Few rows over columns that lie in memory as rows: nothing is packed.
  void turned() {
    TurnedRows t{p_.a,    p_.a_row, p_.a_k,  nullptr, p_.b_column, p_.k, static_cast<int>(lanes_),
                 nullptr, nullptr,  p_.c_row};
    for (int64_t j = 0; j < p_.n; j += lanes_) {
      t.columns = static_cast<int>(std::min(lanes_, p_.n - j));
      t.b = p_.b + j * p_.b_column;
      t.y = p_.c + j;
      t.from = p_.accumulate ? t.y : nullptr;
      loops_.turned[p_.m](t);
    }
    if (follow_ == nullptr) return;
    for (int64_t r = 0; r < p_.m; ++r) follow(r, 0, p_.n);
  }

  void fill_constant_operands() {
    for (size_t i = 0; i < follow_->operands.size(); ++i) {
      const auto& o = follow_->operands[i];
      if (o.row == 0 && o.column == 0) std::fill_n(room_->input(static_cast<int>(i) + 1), kFollowColumns, *o.data);
    }
  }
  // Columns [begin, end) of one row.
  void follow(int64_t row, int64_t begin, int64_t end) const {
    for (; begin < end; begin += kFollowColumns) {
      const int64_t n = std::min(kFollowColumns, end - begin);
      for (size_t i = 0; i < follow_->operands.size(); ++i) {
        const auto& o = follow_->operands[i];
        if (o.row == 0 && o.column == 0) continue;  // there already
        room_->load(static_cast<int>(i) + 1, reinterpret_cast<const std::byte*>(o.data), row * o.row + begin * o.column,
                    o.column, n);
      }
      float* c = p_.c + row * p_.c_row + begin;
      follow_->program.run(*room_, c, n, c);
    }
  }

  const Product& p_;
  const TileLoops& loops_;
  const ProductFollow* follow_;
  int64_t lanes_, vectors_, columns_, most_rows_;
  Rows rows_;
  bool as_it_is_ = false, pack_right_ = false, pack_left_ = false;
  int64_t block_k_ = 0, block_n_ = 0, row_blocks_ = 1;
  const float *shared_left_ = nullptr, *left_ = nullptr;
  float *own_left_ = nullptr, *right_ = nullptr, *edge_ = nullptr;
  TileProgram::Room* room_ = nullptr;
  int64_t k0_ = 0, k_ = 0;
};

// Columns of the result as rows where there is one, so that vectors have something to hold.
bool is_column(const Product& p) { return p.n == 1 && p.m > 1 && p.c_row == 1 && p.packed == nullptr; }
Product turned(const Product& p) {
  return {1, p.m, p.k, p.b, 0, p.b_k, p.a, p.a_k, p.a_row, nullptr, p.c, p.m, p.accumulate};
}

Product rows_of(Product p, int64_t begin, int64_t end) {
  p.m = end - begin;
  p.a += begin * p.a_row;
  p.c += begin * p.c_row;
  return p;
}
Product columns_of(Product p, int64_t begin, int64_t end) {
  p.n = end - begin;
  if (p.packed != nullptr)
    p.packed += begin * p.k;
  else
    p.b += begin * p.b_column;
  p.c += begin;
  return p;
}

}  // namespace

void pack_panel(const float* b, int64_t b_k, int64_t b_column, int64_t k, int64_t columns, float* to, int64_t to_step,
                const TileLoops& loops) {
  const int64_t whole = (columns + loops.lanes - 1) & -static_cast<int64_t>(loops.lanes);
  if (whole > columns) {
    for (int64_t i = 0; i < k; ++i) std::fill(to + i * to_step + columns, to + i * to_step + whole, 0.0F);
  }
  if (b_column == 1) {
    loops.copy(b, b_k, k, columns, to, to_step);
  } else if (b_k == 1) {
    loops.transpose(b, b_column, columns, k, to, to_step);
  } else {
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < columns; ++j) to[i * to_step + j] = b[i * b_k + j * b_column];
    }
  }
}

namespace {

// What pack_right gives. Rows of b are read over all panels, so that they are read in one piece; else panels one by
// one.
void pack_all_panels(const float* b, int64_t b_k, int64_t b_column, int64_t k, int64_t n, float* to,
                     const TileLoops& loops, ThreadPool& pool) {
  const int64_t columns = loops.product_vectors * static_cast<int64_t>(loops.lanes), panels = parts_of(n, columns);
  const int64_t step = b_column == 1 ? kStreamBlockK : k, steps = parts_of(k, step);
  const int64_t units = b_column == 1 ? steps : panels, parts = std::min<int64_t>(units, 4 * pool.threads());
  const auto one = [&](int64_t panel, int64_t first) {
    const int64_t j = panel * columns;
    pack_panel(b + first * b_k + j * b_column, b_k, b_column, std::min(step, k - first), std::min(columns, n - j),
               to + j * k + first * columns, columns, loops);
  };
  pool.run(parts, [&](int64_t part) {
    for (int64_t u = units * part / parts; u < units * (part + 1) / parts; ++u) {
      if (b_column != 1) {
        one(u, 0);
        continue;
      }
      for (int64_t panel = 0; panel < panels; ++panel) one(panel, u * step);
    }
  });
}
int64_t packed_size(int64_t k, int64_t n, const TileLoops& loops) {
  return rounded_up(n, loops.product_vectors * static_cast<int64_t>(loops.lanes)) * k * kFloat;
}

}  // namespace

Ref<Buffer> pack_right(const float* b, int64_t b_k, int64_t b_column, int64_t k, int64_t n, const TileLoops& loops) {
  Ref<Buffer> packed = Buffer::allocate(static_cast<size_t>(packed_size(k, n, loops)));
  ThreadPool alone(1);
  pack_all_panels(b, b_k, b_column, k, n, reinterpret_cast<float*>(packed->data()), loops, alone);
  return packed;
}

void product(const Product& p, const TileLoops& loops, const ProductFollow* follow) {
  if (follow == nullptr && is_column(p)) {
    Run(turned(p), loops, nullptr)();
  } else {
    Run(p, loops, follow)();
  }
}

void product(const Product& given, const TileLoops& loops, ThreadPool& pool, const ProductFollow* follow) {
  const Product p = follow == nullptr && is_column(given) ? turned(given) : given;
  const int64_t work = p.m * p.n * p.k;
  const int64_t threads = work < 2 * kPartProducts ? 1 : pool.threads();
  if (threads == 1) {
    Run(p, loops, follow)();
    return;
  }
  const bool by_rows = p.m >= p.n;
  const int64_t unit =
      by_rows ? loops.most_rows[loops.product_vectors] : static_cast<int64_t>(loops.product_vectors) * loops.lanes;
  const int64_t units = parts_of(by_rows ? p.m : p.n, unit);
  const int64_t parts = parts_for(threads, work / kPartProducts, units);
  const auto begin_of = [&](int64_t i) { return std::min(units * i / parts * unit, by_rows ? p.m : p.n); };
  Product all = p;
  const auto part_of = [&](int64_t i) {
    const int64_t begin = begin_of(i), end = begin_of(i + 1);
    return by_rows ? rows_of(all, begin, end) : columns_of(all, begin, end);
  };
  // Every part reads the whole of the other, smaller side, which is packed once for all of them.
  const Product first = part_of(0);
  const Run of_first(first, loops, nullptr);
  Ref<Buffer> shared;
  if (work >= kShared && by_rows && of_first.packs_right()) {
    shared = Buffer::allocate_scratch(static_cast<size_t>(packed_size(p.k, p.n, loops)));
    auto* to = reinterpret_cast<float*>(shared->data());
    pack_all_panels(p.b, p.b_k, p.b_column, p.k, p.n, to, loops, pool);
    all.packed = to;
  } else if (work >= kShared && !by_rows && of_first.packs_left()) {
    shared = of_first.packed_left(pool);
  }
  pool.run(parts, [&](int64_t i) {
    const Product part = part_of(i);
    std::vector<ProductFollow::Operand> operands;
    std::optional<ProductFollow> own;
    if (follow != nullptr) {
      for (ProductFollow::Operand o : follow->operands) {
        o.data += begin_of(i) * (by_rows ? o.row : o.column);
        operands.push_back(o);
      }
      own.emplace(follow->program, operands);
    }
    Run run(part, loops, own ? &*own : nullptr);
    if (shared && !by_rows) run.use_left(*shared, of_first);
    run();
  });
}

}  // namespace tenon::cpu
