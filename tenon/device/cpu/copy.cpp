#include "tenon/device/cpu/copy.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/nest.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kApart = 8;      // bytes between the lines of a square
constexpr int64_t kChunk = 65536;  // elements of one part of a parallel copy, about
constexpr int64_t kTile = 32;      // edge of the square tiles of a transpose

template <class T>
void gather_as(std::byte* to, const std::byte* from, int64_t stride, int64_t n) {
  T* out = reinterpret_cast<T*>(to);
  const T* in = reinterpret_cast<const T*>(from);
  if (stride == 0) {
    std::fill(out, out + n, *in);
  } else if (stride == 1) {
    std::memcpy(out, in, static_cast<size_t>(n) * sizeof(T));
  } else if (stride == 2) {  // which compilers have vectors for
    for (int64_t i = 0; i < n; ++i) out[i] = in[2 * i];
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = in[i * stride];
  }
}
template <class T>
void scatter_as(std::byte* to, int64_t stride, const std::byte* from, int64_t n) {
  T* out = reinterpret_cast<T*>(to);
  const T* in = reinterpret_cast<const T*>(from);
  if (stride == 1) {
    std::memcpy(out, in, static_cast<size_t>(n) * sizeof(T));
  } else {
    for (int64_t i = 0; i < n; ++i) out[i * stride] = in[i];
  }
}

// As transpose_as, for few columns, such as an image's channels.
template <class T, int Columns>
void transpose_few(T* out, int64_t out_stride, const T* in, int64_t in_stride, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i, out += out_stride) {
    T row[Columns];
    for (int j = 0; j < Columns; ++j) row[j] = in[i + j * in_stride];
    for (int j = 0; j < Columns; ++j) out[j] = row[j];
  }
}

// out[i][j] = in[i][j] where in runs along i and out along j: by squares, each read line by line first, because lines
// whose distance is a power of two push each other out of the first cache. Bytes gain nothing by that.
template <class T>
void transpose_as(std::byte* to, int64_t out_stride, const std::byte* from, int64_t in_stride, int64_t rows,
                  int64_t columns) {
  T* out = reinterpret_cast<T*>(to);
  const T* in = reinterpret_cast<const T*>(from);
  if (columns == 2) return transpose_few<T, 2>(out, out_stride, in, in_stride, rows);
  if (columns == 3) return transpose_few<T, 3>(out, out_stride, in, in_stride, rows);
  if (columns == 4) return transpose_few<T, 4>(out, out_stride, in, in_stride, rows);
  T square[kTile][kTile + kApart / sizeof(T)];
  for (int64_t i0 = 0; i0 < rows; i0 += kTile) {
    const int64_t i1 = std::min(rows, i0 + kTile);
    for (int64_t j0 = 0; j0 < columns; j0 += kTile) {
      const int64_t width = std::min(columns - j0, kTile);
      const T* lines = in + j0 * in_stride;
      if constexpr (sizeof(T) > 1) {
        for (int64_t j = 0; j < width; ++j)
          std::copy(lines + j * in_stride + i0, lines + j * in_stride + i1, square[j]);
        for (int64_t i = i0; i < i1; ++i) {
          for (int64_t j = 0; j < width; ++j) out[i * out_stride + j0 + j] = square[j][i - i0];
        }
      } else {
        for (int64_t i = i0; i < i1; ++i) {
          for (int64_t j = 0; j < width; ++j) out[i * out_stride + j0 + j] = lines[i + j * in_stride];
        }
      }
    }
  }
}
using TransposeFn = void (*)(std::byte*, int64_t, const std::byte*, int64_t, int64_t, int64_t);
TransposeFn transpose_of(int bytes) {
  switch (bytes) {
    case 1:
      return transpose_as<uint8_t>;
    case 2:
      return transpose_as<uint16_t>;
    case 4:
      return transpose_as<uint32_t>;
    default:
      return transpose_as<uint64_t>;
  }
}

void copy_packed(const ConstView& in, const View& out) {
  const Nest nest = make_nest(out.shape, std::array{&out.strides, &in.strides});
  RowCursor to(nest.shape, nest.strides[0], 0);
  RowCursor from(nest.shape, nest.strides[1], 0);
  std::byte block[256];
  for (int64_t r = nest.rows(); r-- > 0; to.next(), from.next()) {
    for (int64_t j = 0; j < nest.inner(); j += 256) {
      const int64_t n = std::min<int64_t>(256, nest.inner() - j);
      const int64_t in_stride = nest.strides[1].back();
      const int64_t out_stride = nest.strides[0].back();
      gather_packed(block, in.data, in.offset + from.offset() + j * in_stride, in_stride, n, in.dtype);
      scatter_packed(out.data, out.offset + to.offset() + j * out_stride, out_stride, block, n, in.dtype);
    }
  }
}

// The loop along which the input runs, if it is a long one and the output runs along the innermost: -1 if none.
int transposed_loop(const Nest& nest) {
  if (nest.strides[0].back() != 1 || nest.strides[1].back() == 1 || nest.strides[1].back() == 0) return -1;
  for (size_t d = 0; d + 1 < nest.shape.size(); ++d) {
    if (nest.strides[1][d] == 1 && nest.shape[d] >= 4 && nest.inner() >= 2) return static_cast<int>(d);
  }
  return -1;
}

struct Pointers {
  const std::byte* in;
  std::byte* out;
  int bytes;
};

void copy_transposed(const Nest& nest, int loop, const Pointers& p, ThreadPool& pool) {
  // The transposed loop becomes the rows of a matrix, the remaining loops run outside.
  const auto d = static_cast<size_t>(loop);
  Nest outer = nest;
  for (size_t k = 0; k < 2; ++k) outer.strides[k].erase(outer.strides[k].begin() + d);
  outer.shape.erase(outer.shape.begin() + d);
  const int64_t rows = nest.shape[d];
  const int64_t columns = nest.inner();
  const int64_t strip = std::max<int64_t>(kTile, kChunk / columns / kTile * kTile);
  const int64_t strips = (rows + strip - 1) / strip;
  const TransposeFn transpose = transpose_of(p.bytes);
  const auto body = [&](int64_t part) {
    const RowCursor to(outer.shape, outer.strides[0], part / strips);
    const RowCursor from(outer.shape, outer.strides[1], part / strips);
    const int64_t i0 = part % strips * strip;
    transpose(p.out + (to.offset() + i0 * nest.strides[0][d]) * p.bytes, nest.strides[0][d],
              p.in + (from.offset() + i0) * p.bytes, nest.strides[1].back(), std::min(strip, rows - i0), columns);
  };
  const int64_t parts = outer.rows() * strips;
  // Many small matrices: several to a part.
  const int64_t group = std::max<int64_t>(1, kChunk / (std::min(strip, rows) * columns));
  pool.run((parts + group - 1) / group, [&](int64_t g) {
    for (int64_t i = g * group; i < std::min(parts, (g + 1) * group); ++i) body(i);
  });
}

// Short rows that lie apart, as the channels of places: a plane of them at a time, in words. False: they are not so.
bool copy_short_rows(const Nest& nest, const Pointers& p, ThreadPool& pool) {
  constexpr int64_t kShort = 1024, kWord = sizeof(float), kPlane = 4096;
  const size_t rank = nest.shape.size();
  const int64_t bytes = nest.inner() * p.bytes;
  if (rank < 2 || nest.strides[0].back() != 1 || nest.strides[1].back() != 1 || bytes > kShort) return false;
  const int64_t rows = nest.shape[rank - 2], planes = nest.rows() / rows;
  if (planes > 1 && rows * bytes < kPlane) return false;
  auto apart = reinterpret_cast<uintptr_t>(p.in) | reinterpret_cast<uintptr_t>(p.out) | static_cast<uintptr_t>(bytes);
  for (const Shape& strides : nest.strides) {
    for (size_t d = 0; d + 1 < rank; ++d) apart |= static_cast<uintptr_t>(strides[d] * p.bytes);
  }
  if (apart % kWord != 0) return false;
  Nest outer = nest;  // its innermost loop is over the rows of a plane
  outer.shape.pop_back();
  for (Shape& strides : outer.strides) strides.pop_back();
  const int64_t out_step = outer.strides[0].back() * p.bytes, in_step = outer.strides[1].back() * p.bytes;
  const int64_t group = std::max<int64_t>(1, kChunk / nest.inner()), parts = (rows + group - 1) / group;
  const auto copy_words = level_table(best_level()).tiles.copy;
  pool.run(planes * parts, [&](int64_t unit) {
    const RowCursor to(outer.shape, outer.strides[0], unit / parts), from(outer.shape, outer.strides[1], unit / parts);
    const int64_t first = unit % parts * group;
    copy_words(reinterpret_cast<const float*>(p.in + from.offset() * p.bytes + first * in_step), in_step / kWord,
               std::min(group, rows - first), bytes / kWord,
               reinterpret_cast<float*>(p.out + to.offset() * p.bytes + first * out_step), out_step / kWord);
  });
  return true;
}

void copy_rows(const Nest& nest, const Pointers& p, ThreadPool& pool) {
  const int64_t inner = nest.inner();
  const int64_t out_stride = nest.strides[0].back();
  const int64_t in_stride = nest.strides[1].back();
  const int64_t pieces = (inner + kChunk - 1) / kChunk;  // of a long row
  const int64_t units = nest.rows() * pieces;
  const int64_t group = std::max<int64_t>(1, kChunk / inner);
  pool.run((units + group - 1) / group, [&](int64_t g) {
    const int64_t end = std::min(units, (g + 1) * group);
    RowCursor to(nest.shape, nest.strides[0], g * group / pieces);
    RowCursor from(nest.shape, nest.strides[1], g * group / pieces);
    for (int64_t unit = g * group; unit < end; ++unit) {
      const int64_t j = unit % pieces * kChunk;
      const int64_t n = std::min(kChunk, inner - j);
      std::byte* target = p.out + (to.offset() + j * out_stride) * p.bytes;
      const std::byte* source = p.in + (from.offset() + j * in_stride) * p.bytes;
      if (out_stride == 1) {
        gather(target, source, in_stride, n, p.bytes);
      } else if (in_stride == 1) {
        scatter(target, out_stride, source, n, p.bytes);
      } else {
        for (int64_t i = 0; i < n; ++i) {
          std::memcpy(target + i * out_stride * p.bytes, source + i * in_stride * p.bytes,
                      static_cast<size_t>(p.bytes));
        }
      }
      if ((unit + 1) % pieces == 0) {
        to.next();
        from.next();
      }
    }
  });
}

}  // namespace

void gather(std::byte* to, const std::byte* from, int64_t stride, int64_t n, int bytes) {
  switch (bytes) {
    case 1:
      return gather_as<uint8_t>(to, from, stride, n);
    case 2:
      return gather_as<uint16_t>(to, from, stride, n);
    case 4:
      return gather_as<uint32_t>(to, from, stride, n);
    default:
      return gather_as<uint64_t>(to, from, stride, n);
  }
}

void scatter(std::byte* to, int64_t stride, const std::byte* from, int64_t n, int bytes) {
  switch (bytes) {
    case 1:
      return scatter_as<uint8_t>(to, stride, from, n);
    case 2:
      return scatter_as<uint16_t>(to, stride, from, n);
    case 4:
      return scatter_as<uint32_t>(to, stride, from, n);
    default:
      return scatter_as<uint64_t>(to, stride, from, n);
  }
}

void gather_packed(std::byte* to, const std::byte* from, int64_t first, int64_t stride, int64_t n, DType dtype) {
  const DTypeInfo& type = info(dtype);
  const unsigned mask = (1U << type.bits) - 1;
  const unsigned sign = type.kind == DTypeKind::Signed ? 1U << (type.bits - 1) : 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto bit = static_cast<uint64_t>((first + i * stride) * type.bits);
    const unsigned value = (std::to_integer<unsigned>(from[bit / 8]) >> (bit % 8)) & mask;
    to[i] = static_cast<std::byte>((value ^ sign) - sign);
  }
}

void scatter_packed(std::byte* to, int64_t first, int64_t stride, const std::byte* from, int64_t n, DType dtype) {
  const int bits = info(dtype).bits;
  const unsigned mask = (1U << bits) - 1;
  for (int64_t i = 0; i < n; ++i) {
    const auto bit = static_cast<uint64_t>((first + i * stride) * bits);
    const unsigned shift = bit % 8;
    const unsigned kept = std::to_integer<unsigned>(to[bit / 8]) & ~(mask << shift);
    to[bit / 8] = static_cast<std::byte>(kept | ((std::to_integer<unsigned>(from[i]) & mask) << shift));
  }
}

Contiguous::Contiguous(const ConstView& view, ThreadPool& pool) {
  if (view.data == nullptr) return;
  const int bytes = element_size(view.dtype);
  if (view.contiguous()) {
    data_ = view.data + view.offset * bytes;
    return;
  }
  copy_ = Buffer::allocate(static_cast<size_t>(std::max<int64_t>(1, numel(view.shape) * bytes)));
  data_ = copy_->data();
  copy(view, View{copy_->data(), view.dtype, view.shape, contiguous_strides(view.shape), 0}, pool);
}

void copy(const ConstView& in, const View& out, ThreadPool& pool) {
  if (numel(out.shape) == 0) return;
  const int bits = info(in.dtype).bits;
  if (bits < 8) {
    copy_packed(in, out);
    return;
  }
  const int bytes = bits / 8;
  const Nest nest = make_nest(out.shape, std::array{&out.strides, &in.strides});
  const Pointers p{in.data + in.offset * bytes, out.data + out.offset * bytes, bytes};
  const int loop = transposed_loop(nest);
  if (loop >= 0) {
    copy_transposed(nest, loop, p, pool);
  } else if (!copy_short_rows(nest, p, pool)) {
    copy_rows(nest, p, pool);
  }
}

}  // namespace tenon::cpu
