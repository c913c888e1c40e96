// Sorting along an axis: elements become unsigned keys that compare as they do, and keys are sorted with their places.
// Long lines by radix, a byte at a time from the lowest (stable, and bytes that are the same everywhere cost nothing);
// short ones by comparing.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "tenon/device/cpu/around.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"

namespace tenon::cpu {
namespace {

enum class Kind : uint8_t { Unsigned, Signed, Float };

// What an element of the bits U is to be compared as. Float: -0 is 0, and any NaN is the largest.
template <class U>
U ordered(U v, Kind kind, U infinity) {
  constexpr U sign = static_cast<U>(U{1} << (8 * sizeof(U) - 1));
  if (kind == Kind::Unsigned) return v;
  if (kind == Kind::Signed) return static_cast<U>(v ^ sign);
  const U size = static_cast<U>(v & ~sign);
  if (size > infinity) return std::numeric_limits<U>::max();
  if (size == 0) return sign;
  return static_cast<U>((v & sign) != 0 ? ~v : v | sign);
}

template <class U>
struct Entry {
  U key;
  uint32_t place;
};

template <class U>
class Sorter {
 public:
  Sorter(Kind kind, U infinity, bool descending, int64_t length)
      : kind_(kind), infinity_(infinity), descending_(descending), entries_(static_cast<size_t>(length)) {}

  // The places of the elements x[0], x[step], … in order.
  const std::vector<Entry<U>>& sort(const U* x, int64_t step) {
    for (size_t k = 0; k < entries_.size(); ++k) {
      const U key = ordered(x[static_cast<int64_t>(k) * step], kind_, infinity_);
      entries_[k] = {descending_ ? static_cast<U>(~key) : key, static_cast<uint32_t>(k)};
    }
    if (entries_.size() < kShort) {
      // Places break ties, so the order is the stable one.
      std::sort(entries_.begin(), entries_.end(), [](const Entry<U>& a, const Entry<U>& b) {
        return a.key != b.key ? a.key < b.key : a.place < b.place;
      });
    } else {
      radix();
    }
    return entries_;
  }

 private:
  static constexpr size_t kShort = 256;

  void radix() {
    std::array<std::array<uint32_t, 256>, sizeof(U)> counts{};
    for (const Entry<U>& e : entries_)
      for (size_t b = 0; b < sizeof(U); ++b) ++counts[b][(e.key >> (8 * b)) & 0xff];
    other_.resize(entries_.size());
    for (size_t b = 0; b < sizeof(U); ++b) {
      if (std::find(counts[b].begin(), counts[b].end(), entries_.size()) != counts[b].end()) continue;
      uint32_t start = 0;
      for (uint32_t& c : counts[b]) start += std::exchange(c, start);
      for (const Entry<U>& e : entries_) other_[counts[b][(e.key >> (8 * b)) & 0xff]++] = e;
      entries_.swap(other_);
    }
  }

  Kind kind_;
  U infinity_;
  bool descending_;
  std::vector<Entry<U>> entries_, other_;
};

template <class U>
void sort_lines(const KernelArgs& a, Kind kind, U infinity) {
  const Around around(a.inputs[0].shape, a.attrs.integer(0));
  const int64_t length = around.extent, inner = around.inner, lines = around.outer * inner;
  if (length == 0 || lines == 0) return;
  const Contiguous x(a.inputs[0], a.pool);
  U* values = a.outputs[0].as<U>() + a.outputs[0].offset;
  int64_t* places = a.outputs[1].as<int64_t>() + a.outputs[1].offset;
  const bool descending = a.attrs.flag(1);
  // Each part has one sorter, so that its scratch memory is made once.
  const int64_t group = std::max<int64_t>(1, 8192 / length);
  a.pool.run((lines + group - 1) / group, [&](int64_t part) {
    Sorter<U> sorter(kind, infinity, descending, length);
    for (int64_t line = part * group; line < std::min(lines, (part + 1) * group); ++line) {
      const int64_t at = line / inner * length * inner + line % inner;
      const U* from = x.as<U>() + at;
      const auto& order = sorter.sort(from, inner);
      for (int64_t k = 0; k < length; ++k) {
        const int64_t place = order[static_cast<size_t>(k)].place;
        values[at + k * inner] = from[place * inner];
        places[at + k * inner] = place;
      }
    }
  });
}

Kind kind_of(DType dtype) {
  return is_float(dtype) ? Kind::Float : info(dtype).kind == DTypeKind::Signed ? Kind::Signed : Kind::Unsigned;
}

}  // namespace

bool accepts_sort(Types in, const ir::Attrs& attrs) {
  const DType t = in[0].dtype;
  if (info(t).bits < 8 || (is_float(t) && info(t).bits == 8) || in[0].shape.empty()) return false;
  return Around(in[0].shape, attrs.integer(0)).extent <= std::numeric_limits<uint32_t>::max();
}

void run_sort(const KernelArgs& a) {
  const DType t = a.inputs[0].dtype;
  const Kind kind = kind_of(t);
  switch (info(t).bits) {
    case 8:
      return sort_lines<uint8_t>(a, kind, 0);
    case 16:
      return sort_lines<uint16_t>(a, kind, t == DType::BF16 ? 0x7f80 : 0x7c00);
    case 32:
      return sort_lines<uint32_t>(a, kind, 0x7f800000u);
    default:
      return sort_lines<uint64_t>(a, kind, 0x7ff0000000000000u);
  }
}

}  // namespace tenon::cpu
