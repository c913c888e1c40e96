#include "tenon/device/cpu/product_bf16.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "tenon/device/cpu/amx.h"
#include "tenon/device/cpu/pieces.h"

namespace tenon::cpu {
namespace {

using amx::kSide;

constexpr int64_t kStripColumns = 512;               // of the result, after which the follower runs, …
constexpr int64_t kFollowed = 2048;                  // … over so many elements at a time, at most
constexpr int64_t kRows = 256;                       // that go together, at most
constexpr int64_t kFirstCache = 32 * 1024;           // bytes of panels that stay there
constexpr int64_t kLeftBytes = 512 * 1024;           // of packed rows that stay in the second cache
constexpr int64_t kRightBytes = 1024 * 1024;         // of panels that these rows use again and again
constexpr int64_t kPartProducts = 16 * 1024 * 1024;  // multiply-adds of one part, at least
constexpr auto kElement = static_cast<int64_t>(sizeof(uint16_t));

// Elements of 32 packed rows or columns.
int64_t packed_size(int64_t k) { return amx::steps(k) * amx::kStepSize; }

Ref<Buffer> room_for(int64_t elements) { return Buffer::allocate(static_cast<size_t>(elements * kElement)); }
uint16_t* elements(const Ref<Buffer>& buffer) { return reinterpret_cast<uint16_t*>(buffer->data()); }

void pack_panels(const Bf16Product& p, int64_t first, int64_t last, uint16_t* to) {
  for (int64_t j = first; j < last; ++j) {
    amx::pack_right(p.b + j * kSide * p.b_column, p.b_k, p.b_column, p.k, std::min(kSide, p.n - j * kSide),
                    to + j * packed_size(p.k));
  }
}

// The rows [row_begin, row_end) and columns [column_begin, column_end), which begin at blocks, of a product whose right
// side is packed.
class Part {
 public:
  Part(const Bf16Product& p, const Bf16Follow* follow) : p_(p), follow_(follow) {
    const int64_t panel_bytes = packed_size(p.k) * kElement;
    strip_ = std::clamp<int64_t>(kRightBytes / panel_bytes, 1, kStripColumns / kSide) * kSide;
    rows_ = std::clamp<int64_t>(kLeftBytes / panel_bytes, 1, kRows / kSide) * kSide;
    if (follow_ != nullptr) room_.emplace(follow_->program, kFollowed);
  }
  void operator()(int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end) {
    const amx::Tiles tiles;
    const int64_t together = std::min(rows_, parts_of(row_end - row_begin, kSide) * kSide);
    const Ref<Buffer> left = room_for(together / kSide * packed_size(p_.k));
    left_ = elements(left);
    const int64_t widest = std::min(strip_, column_end - column_begin);
    Ref<Buffer> kept;
    if (follow_ != nullptr) {
      kept = room_for(together * widest);
      kept_ = elements(kept);
      // Whole rows lie one after the other, so that several are one; wide ones are long enough.
      const bool whole = widest == p_.n && follow_->out_row == p_.n;
      group_ = whole ? std::clamp<int64_t>(kFollowed / p_.n, 1, together) : 1;
      load(Reach::Number, 0, 0, group_, widest);
    }
    for (int64_t i = row_begin; i < row_end; i += together) {
      const int64_t end = std::min(i + together, row_end);
      for (int64_t r = i; r < end; r += kSide) {
        uint16_t* to = left_ + (r - i) / kSide * packed_size(p_.k);
        const int64_t rows = std::min(kSide, end - r);
        if (p_.rows != nullptr)
          p_.rows->pack(r, rows, to);
        else
          amx::pack_left(p_.a + r * p_.a_row, p_.a_row, p_.a_k, rows, p_.k, to);
      }
      for (int64_t j = column_begin; j < column_end; j += strip_) strip(i, end, j, std::min(j + strip_, column_end));
    }
  }

 private:
  // Panels that stay in the first cache together go over the rows one after the other; of larger ones each goes over
  // all rows before the next.
  void strip(int64_t row, int64_t row_end, int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    uint16_t* to = follow_ == nullptr ? p_.c + row * p_.c_row + begin : kept_;
    const int64_t step = follow_ == nullptr ? p_.c_row : width;
    const auto one = [&](int64_t r, int64_t j) {
      alignas(64) float sums[amx::kBlockSize];
      amx::block(left_ + (r - row) / kSide * packed_size(p_.k), p_.packed + j / kSide * packed_size(p_.k),
                 amx::steps(p_.k), sums);
      amx::store_rounded(sums, p_.bias == nullptr ? nullptr : p_.bias + j, std::min(kSide, row_end - r),
                         std::min(kSide, end - j), to + (r - row) * step + (j - begin), step);
    };
    if (parts_of(width, kSide) * packed_size(p_.k) * kElement <= kFirstCache) {
      for (int64_t r = row; r < row_end; r += kSide) {
        for (int64_t j = begin; j < end; j += kSide) one(r, j);
      }
    } else {
      for (int64_t j = begin; j < end; j += kSide) {
        for (int64_t r = row; r < row_end; r += kSide) one(r, j);
      }
    }
    if (follow_ != nullptr) follow(row, row_end, begin, width);
  }
  void follow(int64_t row, int64_t row_end, int64_t begin, int64_t width) {
    if (begin != columns_begin_ || width != columns_width_) load(Reach::Column, 0, begin, group_, width);
    columns_begin_ = begin;
    columns_width_ = width;
    const int64_t size = element_size(follow_->program.result());
    for (int64_t r = row; r < row_end; r += group_) {
      const int64_t count = std::min(group_, row_end - r);
      load(Reach::Element, r, begin, count, width);
      follow_->program.run(*room_, kept_ + (r - row) * width, count * width,
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
  const Bf16Follow* follow_;
  int64_t strip_ = 0, rows_ = 0;
  uint16_t *left_ = nullptr, *kept_ = nullptr;      // packed rows; what the follower takes
  int64_t group_ = 1;                               // rows that the follower takes at a time
  int64_t columns_begin_ = -1, columns_width_ = 0;  // that operands of columns are there for
  std::optional<TileProgram::Room> room_;
};

}  // namespace

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
    packed = room_for(panels * packed_size(p.k));
    pack_panels(p, 0, panels, elements(packed));
    p.packed = elements(packed);
  }
  Part(p, nullptr)(0, p.m, 0, p.n);
}

void product(const Bf16Product& given, ThreadPool& pool, const Bf16Follow* follow) {
  Bf16Product p = given;
  Ref<Buffer> packed;
  if (p.packed == nullptr) {
    packed = pack_right_bf16(p.b, p.b_k, p.b_column, p.k, p.n, pool);
    p.packed = elements(packed);
  }
  const int64_t work = p.m * p.n * p.k;
  const int64_t threads = work < 2 * kPartProducts ? 1 : pool.threads();
  const bool by_rows = p.m >= p.n;
  const int64_t side = by_rows ? p.m : p.n, units = parts_of(side, kSide);
  const int64_t parts = threads == 1 ? 1 : std::min({units, 4 * threads, std::max(threads, work / kPartProducts)});
  pool.run(parts, [&](int64_t i) {
    const int64_t begin = units * i / parts * kSide, end = std::min(units * (i + 1) / parts * kSide, side);
    Part part(p, follow);
    if (by_rows) {
      part(begin, end, 0, p.n);
    } else {
      part(0, p.m, begin, end);
    }
  });
}

}  // namespace tenon::cpu
