#include "tenon/device/cpu/reduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/widen.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {
namespace {

using ops::ReduceKind;

constexpr int64_t kRun = 4096;       // elements folded at once
constexpr int64_t kRowGroup = 64;    // rows folded one after the other
constexpr int64_t kTile = 2048;      // columns folded at once
constexpr int64_t kGrain = 1 << 16;  // elements of one part of a parallel run, about

// Neighbouring axes of one fate are one axis.
struct Group {
  int64_t extent;
  bool reduced;
};
using Groups = std::vector<Group>;

Groups groups_of(const Shape& shape, const Ints& axes) {
  Groups groups;
  for (size_t d = 0; d < shape.size(); ++d) {
    const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end();
    if (shape[d] == 1) continue;
    if (!groups.empty() && groups.back().reduced == reduced) {
      groups.back().extent *= shape[d];
    } else {
      groups.push_back({shape[d], reduced});
    }
  }
  return groups;
}

// How one kind of fold runs on one dtype.
struct Folder {
  const LevelTable& level;
  Fold fold;
  DType in;   // of the elements
  DType acc;  // of the results
  LoopFn widen;
  FoldFn run;
  FoldRowFn row;
  FoldRowFn combine;
  LoopFn convert;  // of f16 and bf16 to f32 before anything else, else null

  Folder(const LevelTable& table, Fold kind, DType in_dtype) : level(table), fold(kind), in(in_dtype), acc(in_dtype) {
    const auto k = static_cast<size_t>(kind);
    const DType element = is_half(in) ? DType::F32 : in;
    acc = element;
    if ((kind == Fold::Sum || kind == Fold::Prod) && !is_float(element)) acc = DType::U64;
    convert = is_half(in) ? level.cast[static_cast<size_t>(in)][static_cast<size_t>(DType::F32)] : nullptr;
    widen = level.cast[static_cast<size_t>(in)][static_cast<size_t>(acc)];
    run = level.fold[k][static_cast<size_t>(element)];
    row = level.fold_row[k][static_cast<size_t>(element)];
    combine = level.fold_row[k][static_cast<size_t>(acc)];
    if (widen == nullptr || run == nullptr || combine == nullptr) {
      throw InternalError(fmt::format("the CPU has no reduction of {}", name(in)));
    }
  }

  void fold_run(std::byte* out, const std::byte* x, int64_t n) const {
    alignas(64) std::byte wide[kRun * sizeof(float)];
    if (convert != nullptr) {
      convert(wide, x, nullptr, nullptr, n);
      x = wide;
    }
    run(out, x, n);
  }
  // acc = the first row, or acc ∘= a row; n <= kTile.
  void fold_row(std::byte* to, const std::byte* x, int64_t n, bool first) const {
    alignas(64) std::byte wide[kTile * sizeof(float)];
    if (first) {
      widen(to, x, nullptr, nullptr, n);
    } else if (convert != nullptr) {
      convert(wide, x, nullptr, nullptr, n);
      row(to, wide, n);
    } else {
      row(to, x, n);
    }
  }
  // Rows of n accumulators into the first one, pairwise: (0 1)(2 3) … then (01 23) …
  void combine_rows(std::byte* rows, int64_t count, int64_t n) const {
    const int64_t pitch = n * element_size(acc);
    for (int64_t step = 1; step < count; step *= 2) {
      for (int64_t i = 0; i + step < count; i += 2 * step) combine(rows + i * pitch, rows + (i + step) * pitch, n);
    }
  }
};

template <class F>
void in_parts(ThreadPool& pool, int64_t units, int64_t unit_size, const F& body) {
  const int64_t group = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, unit_size));
  const int64_t parts = (units + group - 1) / group;
  if (parts <= 1) {
    for (int64_t u = 0; u < units; ++u) body(u);
    return;
  }
  pool.run(parts, [&](int64_t p) {
    for (int64_t u = p * group; u < std::min(units, (p + 1) * group); ++u) body(u);
  });
}

Ref<Buffer> scratch(int64_t n, DType dtype) {
  return Buffer::allocate(static_cast<size_t>(std::max<int64_t>(1, n * element_size(dtype))));
}

// [outer, n] -> [outer]
void fold_inner(const Folder& f, const std::byte* x, std::byte* out, int64_t outer, int64_t n, ThreadPool& pool) {
  const int64_t runs = (n + kRun - 1) / kRun;
  const int in_bytes = element_size(f.in);
  const int acc_bytes = element_size(f.acc);
  const Ref<Buffer> partial = runs == 1 ? Ref<Buffer>() : scratch(outer * runs, f.acc);
  std::byte* to = runs == 1 ? out : partial->data();
  in_parts(pool, outer * runs, std::min(n, kRun), [&](int64_t u) {
    const int64_t begin = u % runs * kRun;
    f.fold_run(to + u * acc_bytes, x + (u / runs * n + begin) * in_bytes, std::min(kRun, n - begin));
  });
  if (runs == 1) return;
  for (int64_t o = 0; o < outer; ++o) {
    f.combine_rows(to + o * runs * acc_bytes, runs, 1);
    std::memcpy(out + o * acc_bytes, to + o * runs * acc_bytes, static_cast<size_t>(acc_bytes));
  }
}

// [outer, n, columns] -> [outer, columns]
void fold_outer(const Folder& f, const std::byte* x, std::byte* out, int64_t outer, int64_t n, int64_t columns,
                ThreadPool& pool) {
  const int64_t groups = (n + kRowGroup - 1) / kRowGroup;
  const int64_t tiles = (columns + kTile - 1) / kTile;
  const int in_bytes = element_size(f.in);
  const int acc_bytes = element_size(f.acc);
  const Ref<Buffer> partial = groups == 1 ? Ref<Buffer>() : scratch(outer * groups * columns, f.acc);
  std::byte* to = groups == 1 ? out : partial->data();
  in_parts(pool, outer * groups * tiles, std::min(n, kRowGroup) * std::min(columns, kTile), [&](int64_t u) {
    const int64_t j = u % tiles * kTile;
    const int64_t width = std::min(kTile, columns - j);
    const int64_t group = u / tiles;  // of all outer ones
    const int64_t begin = group % groups * kRowGroup;
    const int64_t end = std::min(n, begin + kRowGroup);
    std::byte* acc = to + (group * columns + j) * acc_bytes;
    for (int64_t i = begin; i < end; ++i) {
      f.fold_row(acc, x + ((group / groups * n + i) * columns + j) * in_bytes, width, i == begin);
    }
  });
  if (groups == 1) return;
  in_parts(pool, outer, groups * columns, [&](int64_t o) {
    std::byte* rows = to + o * groups * columns * acc_bytes;
    f.combine_rows(rows, groups, columns);
    std::memcpy(out + o * columns * acc_bytes, rows, static_cast<size_t>(columns * acc_bytes));
  });
}

// Converts n results to out's dtype and layout.
void deliver(const LevelTable& level, const std::byte* x, DType from, const View& out, ThreadPool& pool) {
  const int64_t n = numel(out.shape);
  const LoopFn convert = level.cast[static_cast<size_t>(from)][static_cast<size_t>(out.dtype)];
  if (convert == nullptr) {
    throw InternalError(fmt::format("the CPU cannot deliver a reduction of {} as {}", name(from), name(out.dtype)));
  }
  if (out.contiguous()) {
    convert(out.first(), x, nullptr, nullptr, n);
    return;
  }
  const Ref<Buffer> plain = scratch(n, out.dtype);
  convert(plain->data(), x, nullptr, nullptr, n);
  copy(ConstView{plain->data(), out.dtype, out.shape, contiguous_strides(out.shape), 0}, out, pool);
}

void fill_identity(const LevelTable& level, ReduceKind kind, const View& out, ThreadPool& pool) {
  const bool one = kind == ReduceKind::Prod || kind == ReduceKind::All;
  if (!one && kind != ReduceKind::Sum && kind != ReduceKind::Any) {
    throw InternalError("max and min of nothing reached the device");
  }
  const std::vector<uint64_t> values(static_cast<size_t>(numel(out.shape)), one ? 1 : 0);
  if (is_half(out.dtype)) {
    const std::vector<float> reals(values.begin(), values.end());
    deliver(level, reinterpret_cast<const std::byte*>(reals.data()), DType::F32, out, pool);
    return;
  }
  deliver(level, reinterpret_cast<const std::byte*>(values.data()), DType::U64, out, pool);
}

void reduce_values(const LevelTable& level, Fold fold, const std::byte* x, DType dtype, Groups groups, const View& out,
                   ThreadPool& pool) {
  std::array<Ref<Buffer>, 2> buffers;  // what was made last, and what it is made from
  const bool is_signed = info(dtype).kind == DTypeKind::Signed;
  while (true) {
    size_t g = groups.size();
    while (g > 0 && !groups[g - 1].reduced) --g;
    if (g == 0) break;
    --g;
    int64_t outer = 1;
    for (size_t i = 0; i < g; ++i) outer *= groups[i].extent;
    const int64_t columns = g + 1 < groups.size() ? groups[g + 1].extent : 1;
    const Folder folder(level, fold, dtype);
    buffers[1] = std::move(buffers[0]);
    buffers[0] = scratch(outer * columns, folder.acc);
    if (columns == 1) {
      fold_inner(folder, x, buffers[0]->data(), outer, groups[g].extent, pool);
    } else {
      fold_outer(folder, x, buffers[0]->data(), outer, groups[g].extent, columns, pool);
    }
    x = buffers[0]->data();
    dtype = folder.acc;
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(g));
    if (g > 0 && g < groups.size()) {  // kept on both sides: one axis now
      groups[g - 1].extent *= groups[g].extent;
      groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(g));
    }
  }
  // Sums modulo 2^64 of signed numbers are signed again.
  if (dtype == DType::U64 && is_signed && is_float(out.dtype)) dtype = DType::I64;
  if (is_half(dtype) && dtype != out.dtype) throw InternalError("a reduction of nothing between narrow floats");
  deliver(level, x, dtype, out, pool);
}

// The place of the best element of each row; NaN is the best of all, the first of equals wins.
template <class T>
int64_t first_place(const T* x, int64_t n, T best) {
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] == best || x[i] != x[i]) return i;
  }
  return 0;
}
int64_t first_place(const std::byte* x, DType dtype, int64_t n, const std::byte* best) {
  const auto find = [&]<class T>(T value) {
    std::memcpy(&value, best, sizeof value);
    return first_place(reinterpret_cast<const T*>(x), n, value);
  };
  switch (dtype) {
    case DType::F32:
      return find(float{});
    case DType::F64:
      return find(double{});
    default:
      break;
  }
  switch (element_size(dtype)) {
    case 1:
      return find(uint8_t{});
    case 2:
      return find(uint16_t{});
    case 4:
      return find(uint32_t{});
    default:
      return find(uint64_t{});
  }
}

void reduce_places(const LevelTable& level, Fold fold, const ConstView& in, const Ints& axes, const View& out,
                   ThreadPool& pool) {
  // Reduced axes last: each result is then one run.
  ConstView turned{in.data, in.dtype, {}, {}, in.offset};
  int64_t n = 1;
  for (int pass = 0; pass < 2; ++pass) {
    for (size_t d = 0; d < in.shape.size(); ++d) {
      const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end();
      if (reduced != (pass == 1)) continue;
      turned.shape.push_back(in.shape[d]);
      turned.strides.push_back(in.strides[d]);
      if (reduced) n *= in.shape[d];
    }
  }
  const Contiguous source(turned, pool);
  const int64_t rows = numel(in.shape) / n;
  const Folder folder(level, fold, in.dtype);
  const DType element = folder.acc;
  std::vector<int64_t> places(static_cast<size_t>(rows));
  in_parts(pool, rows, n, [&](int64_t r) {
    const std::byte* x = source.data() + r * n * element_size(in.dtype);
    std::vector<std::byte> wide;
    if (folder.convert != nullptr) {
      wide.resize(static_cast<size_t>(n) * sizeof(float));
      folder.convert(wide.data(), x, nullptr, nullptr, n);
      x = wide.data();
    }
    std::byte best[8];
    std::byte next[8];
    for (int64_t i = 0; i < n; i += kRun) {
      folder.run(i == 0 ? best : next, x + i * element_size(element), std::min(kRun, n - i));
      if (i > 0) folder.combine(best, next, 1);
    }
    places[static_cast<size_t>(r)] = first_place(x, element, n, best);
  });
  deliver(level, reinterpret_cast<const std::byte*>(places.data()), DType::I64, out, pool);
}

}  // namespace

void reduce(const LevelTable& level, ReduceKind kind, const ConstView& in, const Ints& axes, const View& out,
            ThreadPool& pool) {
  if (numel(out.shape) == 0) return;
  if (numel(in.shape) == 0) {
    fill_identity(level, kind, out, pool);
    return;
  }
  if (kind == ReduceKind::ArgMax || kind == ReduceKind::ArgMin) {
    reduce_places(level, kind == ReduceKind::ArgMax ? Fold::Max : Fold::Min, in, axes, out, pool);
    return;
  }
  const Contiguous source(in, pool);
  const Groups groups = groups_of(in.shape, axes);
  const bool any = kind == ReduceKind::Any;
  if (any || kind == ReduceKind::All) {
    const std::byte* x = source.data();
    Ref<Buffer> truth;
    if (in.dtype != DType::Bool) {
      const int64_t n = numel(in.shape);
      const DType by_way = is_half(in.dtype) ? DType::U16 : in.dtype;
      truth = scratch(n, DType::Bool);
      // Of a narrow float everything but the sign bit decides: shifted out by doubling the bits.
      if (by_way != in.dtype) {
        const auto* half = reinterpret_cast<const uint16_t*>(x);
        for (int64_t i = 0; i < n; ++i) truth->data()[i] = static_cast<std::byte>((half[i] & 0x7fff) != 0);
      } else {
        level.cast[static_cast<size_t>(in.dtype)][0](truth->data(), x, nullptr, nullptr, n);
      }
      x = truth->data();
    }
    reduce_values(level, any ? Fold::Max : Fold::Min, x, DType::Bool, groups, out, pool);
    return;
  }
  constexpr Fold kFoldOf[] = {Fold::Sum, Fold::Prod, Fold::Max, Fold::Min};
  reduce_values(level, kFoldOf[static_cast<size_t>(kind)], source.data(), in.dtype, groups, out, pool);
}

}  // namespace tenon::cpu
