#include "tenon/device/cpu/widen.h"

#include <algorithm>
#include <vector>

#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/level.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kPart = 64 * 1024;  // elements

void convert(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype, int64_t n, ThreadPool& pool) {
  const LoopFn loop = level_table(best_level()).cast[static_cast<size_t>(from_dtype)][static_cast<size_t>(to_dtype)];
  const int64_t from_size = info(from_dtype).bits / 8, to_size = info(to_dtype).bits / 8;
  pool.run((n + kPart - 1) / kPart, [&](int64_t p) {
    const int64_t begin = p * kPart;
    loop(to + begin * to_size, from + begin * from_size, nullptr, nullptr, std::min(kPart, n - begin));
  });
}

Ref<Buffer> floats(const Shape& shape) {
  return Buffer::allocate(static_cast<size_t>(std::max<int64_t>(1, numel(shape))) * sizeof(float));
}

}  // namespace

void run_widened(const KernelArgs& args, void (*run)(const KernelArgs& args)) {
  std::vector<Ref<Buffer>> kept;
  std::vector<ConstView> inputs(args.inputs.begin(), args.inputs.end());
  for (ConstView& in : inputs) {
    if (in.data == nullptr || !is_half(in.dtype)) continue;
    const Contiguous source(in, args.pool);
    kept.push_back(floats(in.shape));
    convert(source.data(), in.dtype, kept.back()->data(), DType::F32, numel(in.shape), args.pool);
    in = {kept.back()->data(), DType::F32, in.shape, contiguous_strides(in.shape), 0};
  }
  std::vector<View> outputs(args.outputs.begin(), args.outputs.end());
  for (View& out : outputs) {
    if (!is_half(out.dtype)) continue;
    kept.push_back(floats(out.shape));
    out = {kept.back()->data(), DType::F32, out.shape, contiguous_strides(out.shape), 0};
  }
  run({inputs, outputs, args.attrs, args.pool});
  for (size_t i = 0; i < outputs.size(); ++i) {
    const View& to = args.outputs[i];
    if (!is_half(to.dtype)) continue;
    convert(outputs[i].data, DType::F32, to.data + to.offset * (info(to.dtype).bits / 8), to.dtype, numel(to.shape),
            args.pool);
  }
}

}  // namespace tenon::cpu
