#include "tenon/device/cpu/product_i8.h"

#include <algorithm>
#include <optional>

#include "tenon/device/cpu/amx.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/pieces.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kLeftBytes = 256 * 1024;           // of packed rows that stay in the second cache
constexpr int64_t kPartProducts = 16 * 1024 * 1024;  // multiply-adds of one part, at least
constexpr int64_t kMostSums = 32 * 32;               // of a block
constexpr uint32_t kShift = 128;                     // level_i8.h: of shifted sides

bool has_vnni() {
#if defined(__x86_64__)
  return best_level() >= 4 && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

// A packed right side: its panels of columns, then the sum of each column as it is packed.
struct Right {
  int64_t panel_bytes, panels;
  Right(const I8Product& p, const I8Loops& loops)
      : panel_bytes(parts_of(p.k, loops.depth) * loops.depth * loops.columns * loops.element),
        panels(parts_of(p.n, loops.columns)) {}
  [[nodiscard]] int64_t bytes(const I8Product& p) const {
    return panels * panel_bytes + p.n * static_cast<int64_t>(sizeof(uint32_t));
  }
  [[nodiscard]] const uint32_t* sums(const std::byte* packed) const {
    return reinterpret_cast<const uint32_t*>(packed + panels * panel_bytes);
  }
};

// The sum over k of each line, with `flip` in the highest bit of each element, as `loops` takes it: the left side
// without a sign, the right one with.
void sums_of_lines(const I8Side& side, int64_t lines, int64_t k, bool left, uint32_t* to) {
  const auto of = [&](auto value) {
    std::fill_n(to, lines, 0U);
    if (side.k == 1) {
      for (int64_t l = 0; l < lines; ++l) {
        const uint8_t* from = side.data + l * side.line;
        uint32_t sum = 0;
        for (int64_t i = 0; i < k; ++i) sum += static_cast<uint32_t>(value(from[i]));
        to[l] = sum;
      }
      return;
    }
    for (int64_t i = 0; i < k; ++i) {
      const uint8_t* from = side.data + i * side.k;
      for (int64_t l = 0; l < lines; ++l) to[l] += static_cast<uint32_t>(value(from[l * side.line]));
    }
  };
  const bool flips = left == side.is_signed;
  if (left)
    flips ? of([](uint8_t v) { return static_cast<int32_t>(v ^ kShift); })
          : of([](uint8_t v) { return static_cast<int32_t>(v); });
  else
    flips ? of([](uint8_t v) { return static_cast<int32_t>(static_cast<int8_t>(v ^ kShift)); })
          : of([](uint8_t v) { return static_cast<int32_t>(static_cast<int8_t>(v)); });
}

void pack_panels(const I8Product& p, const I8Loops& loops, int64_t first, int64_t last, std::byte* to) {
  const Right right(p, loops);
  auto* sums = reinterpret_cast<uint32_t*>(to + right.panels * right.panel_bytes);
  for (int64_t j = first; j < last; ++j) {
    const int64_t column = j * loops.columns, count = std::min(loops.columns, p.n - column);
    const I8Side side{p.b + column * p.b_column, p.b_column, p.b_k, p.b_signed};
    loops.pack_right(side, count, p.k, to + j * right.panel_bytes);
    if (loops.shifted) sums_of_lines(side, count, p.k, false, sums + column);
  }
}

// Rows and columns [begin, end), which begin at blocks, of a product whose right side is packed.
class Part {
 public:
  Part(const I8Product& p, const I8Loops& loops) : p_(p), loops_(loops), right_(p, loops) {}
  void operator()(int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end) {
    std::optional<amx::Tiles> tiles;
    if (loops_.tiles) tiles.emplace();
    const int64_t steps = parts_of(p_.k, loops_.depth),
                  block_bytes = steps * loops_.depth * loops_.rows * loops_.element;
    const int64_t blocks = parts_of(row_end - row_begin, loops_.rows);
    const int64_t together = std::clamp<int64_t>(kLeftBytes / block_bytes, 1, blocks);
    const Ref<Buffer> packed = Buffer::allocate_scratch(static_cast<size_t>(together * block_bytes));
    const auto block = loops_.block[p_.a_signed][p_.b_signed];
    const bool plain = !loops_.shifted || (!p_.a_signed && p_.b_signed);  // the sums are the result
    alignas(64) int32_t sums[kMostSums];
    std::optional<I8Finish> finish;
    if (p_.follow != nullptr) finish.emplace(*p_.follow, loops_);
    std::vector<uint32_t> row_sums(static_cast<size_t>(together * loops_.rows));
    for (int64_t row = row_begin; row < row_end; row += together * loops_.rows) {
      const int64_t rows = std::min(together * loops_.rows, row_end - row);
      const I8Side left{p_.a + row * p_.a_row, p_.a_row, p_.a_k, p_.a_signed};
      for (int64_t r = 0; r < rows; r += loops_.rows) {
        const I8Side part{left.data + r * left.line, left.line, left.k, left.is_signed};
        loops_.pack_left(part, std::min(loops_.rows, rows - r), p_.k, packed->data() + r / loops_.rows * block_bytes);
      }
      if (loops_.shifted && !p_.b_signed) sums_of_lines(left, rows, p_.k, true, row_sums.data());
      for (int64_t j = panel_begin; j < panel_end; ++j) {
        for (int64_t r = 0; r < rows; r += loops_.rows) {
          const std::byte* left_block = packed->data() + r / loops_.rows * block_bytes;
          const std::byte* right_block = p_.packed + j * right_.panel_bytes;
          if (plain && !finish && rows - r >= loops_.rows && p_.n - j * loops_.columns >= loops_.columns) {
            block(left_block, right_block, steps, p_.c + (row + r) * p_.c_row + j * loops_.columns, p_.c_row);
            continue;
          }
          block(left_block, right_block, steps, sums, loops_.columns);
          const int64_t here = std::min(loops_.rows, rows - r), column = j * loops_.columns;
          if (!finish) {
            write(sums, here, column, row_sums.data() + r, p_.c + (row + r) * p_.c_row + column, p_.c_row);
            continue;
          }
          if (!plain) write(sums, here, column, row_sums.data() + r, sums, loops_.columns);
          (*finish)({sums, loops_.columns, nullptr, 0, row + r, here, column, std::min(loops_.columns, p_.n - column)});
        }
      }
    }
  }

 private:
  // Shifted sides: with a' = a + x and b' = b - y, the sum of a b is that of a' b', plus y times that of a', minus x
  // times that of b', minus k x y. All modulo 2^32.
  void write(const int32_t* sums, int64_t rows, int64_t column, const uint32_t* row_sums, int32_t* to,
             int64_t to_row) const {
    const int64_t columns = std::min(loops_.columns, p_.n - column);
    const uint32_t x = loops_.shifted && p_.a_signed ? kShift : 0, y = loops_.shifted && !p_.b_signed ? kShift : 0;
    const uint32_t* column_sums = right_.sums(p_.packed) + column;
    for (int64_t r = 0; r < rows; ++r, sums += loops_.columns, to += to_row) {
      if (x == 0 && y == 0) {
        std::copy_n(sums, columns, to);
        continue;
      }
      const uint32_t all = (y == 0 ? 0 : y * row_sums[r]) - static_cast<uint32_t>(p_.k) * x * y;
      for (int64_t c = 0; c < columns; ++c)
        to[c] = static_cast<int32_t>(static_cast<uint32_t>(sums[c]) + all - x * column_sums[c]);
    }
  }

  const I8Product& p_;
  const I8Loops& loops_;
  Right right_;
};

}  // namespace

std::vector<const I8Loops*> all_i8_loops() {
  std::vector<const I8Loops*> list;
#if defined(__x86_64__)
  if (amx::has_int8()) list.push_back(&amx::i8_loops());
  if (has_vnni()) list.push_back(&vnni::i8_loops());
  if (best_level() >= 4) list.push_back(&v4::i8_loops());
  if (best_level() >= 3) list.push_back(&v3::i8_loops());
#endif
  list.push_back(&v2::i8_loops());
  return list;
}

const I8Loops& i8_loops() {
  static const I8Loops& best = *all_i8_loops().front();
  return best;
}

Ref<Buffer> pack_right_i8(const I8Product& p, const I8Loops& loops, ThreadPool& pool) {
  const Right right(p, loops);
  Ref<Buffer> packed = Buffer::allocate(static_cast<size_t>(right.bytes(p)));
  const int64_t parts = p.k * p.n < kPartProducts / 64 ? 1 : std::min<int64_t>(right.panels, 4 * pool.threads());
  pool.run(parts, [&](int64_t i) {
    pack_panels(p, loops, right.panels * i / parts, right.panels * (i + 1) / parts, packed->data());
  });
  return packed;
}

void product(const I8Product& given, const I8Loops& loops) {
  I8Product p = given;
  const Right right(p, loops);
  Ref<Buffer> packed;
  if (p.packed == nullptr) {
    packed = Buffer::allocate_scratch(static_cast<size_t>(right.bytes(p)));
    pack_panels(p, loops, 0, right.panels, packed->data());
    p.packed = packed->data();
  }
  Part{p, loops}(0, p.m, 0, right.panels);
}

void product(const I8Product& given, const I8Loops& loops, ThreadPool& pool) {
  I8Product p = given;
  const Right right(p, loops);
  Ref<Buffer> packed;
  if (p.packed == nullptr) {
    packed = pack_right_i8(p, loops, pool);
    p.packed = packed->data();
  }
  const int64_t work = p.m * p.n * p.k, threads = work < 2 * kPartProducts ? 1 : pool.threads();
  const bool by_rows = p.m >= p.n;
  const int64_t units = by_rows ? parts_of(p.m, loops.rows) : right.panels;
  const int64_t parts = parts_for(threads, work / kPartProducts, units);
  pool.run(parts, [&](int64_t i) {
    const int64_t begin = units * i / parts, end = units * (i + 1) / parts;
    if (by_rows)
      Part{p, loops}(begin * loops.rows, std::min(end * loops.rows, p.m), 0, right.panels);
    else
      Part{p, loops}(0, p.m, begin, end);
  });
}

}  // namespace tenon::cpu
