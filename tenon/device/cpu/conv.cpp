#include "tenon/device/cpu/conv.h"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>

#include "tenon/base/error.h"
#include "tenon/device/cpu/direct_conv.h"
#include "tenon/device/cpu/im2col.h"
#include "tenon/device/cpu/onednn.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {
namespace {

using dnnl::memory;
using Dims = memory::dims;
using Tag = memory::format_tag;

constexpr int64_t kPart = 2 * 1024 * 1024;             // multiply-adds of one part, at least
constexpr int64_t kLargeWeight = 256 * 1024;           // elements
constexpr int64_t kGradientMemory = 16 * 1024 * 1024;  // bytes that the parts' weight gradients may take

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

bool for_onednn(const ConvShape& s) {
  for (size_t d = 0; d < 3; ++d) {
    if (s.low[d] < 0 || s.high[d] < 0) return false;
  }
  return true;
}

Dims with_axes(const ConvShape& s, Dims lead, const ConvShape::Extents& e) {
  for (int d = 0; d < s.axes; ++d) lead.push_back(e[static_cast<size_t>(d)]);
  return lead;
}

Tag plain_tag(size_t rank) {
  constexpr Tag kTags[] = {Tag::a, Tag::ab, Tag::abc, Tag::abcd, Tag::abcde, Tag::abcdef};
  return kTags[rank - 1];
}
memory::desc plain(const Dims& dims) { return {dims, memory::data_type::f32, plain_tag(dims.size())}; }

Dims data_dims(const ConvShape& s, int64_t n, bool y) {
  return with_axes(s, {n, y ? s.filters : s.channels}, y ? s.out : s.in);
}
Dims weight_dims(const ConvShape& s) {
  if (s.groups == 1) return with_axes(s, {s.filters, s.channels}, s.window);
  return with_axes(s, {s.groups, s.filters / s.groups, s.channels / s.groups}, s.window);
}

// What oneDNN is told about a convolution of n examples.
struct Problem {
  Problem(const ConvShape& s, int64_t n)
      : strides(with_axes(s, {}, s.stride)), low(with_axes(s, {}, s.low)), high(with_axes(s, {}, s.high)) {
    dilates = with_axes(s, {}, s.dilation);
    for (auto& d : dilates) --d;  // oneDNN counts the gaps
    // Any layout that it likes, except for windows of one element: reorders would cost more than the product.
    const auto chosen = [&](const Dims& dims) {
      return ConvShape::volume(s.window) == 1 ? plain(dims) : memory::desc(dims, memory::data_type::f32, Tag::any);
    };
    x = chosen(data_dims(s, n, false));
    y = chosen(data_dims(s, n, true));
    weight = memory::desc(weight_dims(s), memory::data_type::f32, Tag::any);
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  }
  using Forward = dnnl::convolution_forward;
  using BackwardData = dnnl::convolution_backward_data;
  using BackwardWeight = dnnl::convolution_backward_weights;

  // Descriptions are cheap to make again: oneDNN keeps the code of primitives that it has built (3 to 8 us a call).
  // The gradients' descriptions refer to that of the product itself.
  [[nodiscard]] Forward::primitive_desc forward() const {
    const Forward::desc d(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, x, weight, y, strides,
                          dilates, low, high);
    return {d, attributes, cpu_engine()};
  }
  [[nodiscard]] BackwardData::primitive_desc backward_data() const {
    const BackwardData::desc d(dnnl::algorithm::convolution_direct, x, weight, y, strides, dilates, low, high);
    return {d, attributes, cpu_engine(), forward()};
  }
  [[nodiscard]] BackwardWeight::primitive_desc backward_weight() const {
    const BackwardWeight::desc d(dnnl::algorithm::convolution_direct, x, weight, y, strides, dilates, low, high);
    return {d, attributes, cpu_engine(), forward()};
  }

  Dims strides, dilates, low, high;
  memory::desc x, y, weight;
  dnnl::primitive_attr attributes;
};

// A tensor in the layout that a primitive wants: the caller's memory if that is plain, else memory of its own.
class Placed {
 public:
  Placed(const memory::desc& want, const memory::desc& have, const void* data)
      : outside_(have, cpu_engine(), const_cast<void*>(data)), same_(want == have) {
    if (same_) {
      inside_ = outside_;
    } else {
      own_ = Buffer::allocate(want.get_size());
      inside_ = memory(want, cpu_engine(), own_->data());
    }
  }
  [[nodiscard]] const memory& inside() const { return inside_; }
  void load(const dnnl::stream& stream) { move(outside_, inside_, stream); }
  void store(const dnnl::stream& stream) { move(inside_, outside_, stream); }

 private:
  void move(memory& from, memory& to, const dnnl::stream& stream) const {
    if (!same_) dnnl::reorder(from, to).execute(stream, from, to);
  }
  memory outside_;
  memory inside_;
  Ref<Buffer> own_;
  bool same_;
};

using Arguments = std::unordered_map<int, memory>;

template <class Primitive, class Description>
void execute(const Description& description, Arguments arguments, const dnnl::stream& stream) {
  const memory::desc scratch = description.scratchpad_desc();
  const Ref<Buffer> space = Buffer::allocate(std::max<size_t>(1, scratch.get_size()));
  arguments.emplace(DNNL_ARG_SCRATCHPAD, memory(scratch, cpu_engine(), space->data()));
  Primitive(description).execute(stream, arguments);
}

template <class F>
void guarded(const F& body) {
  try {
    const OneThread one;
    body();
  } catch (const dnnl::error& e) {
    throw InternalError(std::string("oneDNN refused a convolution: ") + e.what());
  }
}

int64_t products_of_example(const ConvShape& s) { return ConvShape::volume(s.out) * s.weight_size(); }

// Examples of one part, by shape alone.
int64_t examples_of_part(const ConvShape& s) {
  // Weights that do not stay in the cache are read once a part: few parts then.
  const int64_t most_parts = s.weight_size() > kLargeWeight ? 8 : s.n;
  const int64_t least = (s.n + most_parts - 1) / std::max<int64_t>(1, most_parts);
  return std::clamp<int64_t>(kPart / std::max<int64_t>(1, products_of_example(s)), std::max<int64_t>(1, least),
                             std::max<int64_t>(1, s.n));
}

ConstView row_major(const float* data, const ConvShape& s, int64_t channels, const ConvShape::Extents& extents) {
  ConstView v{reinterpret_cast<const std::byte*>(data), DType::F32, {s.n, channels}, {}, 0};
  for (int d = 0; d < s.axes; ++d) v.shape.push_back(extents[static_cast<size_t>(d)]);
  v.strides = contiguous_strides(v.shape);
  return v;
}

}  // namespace

ConvShape moved_to_the_end(ConvShape s) {
  const auto shift = static_cast<size_t>(3 - s.axes);
  const auto move = [&](ConvShape::Extents& e, int64_t rest) {
    ConvShape::Extents to{rest, rest, rest};
    for (size_t d = shift; d < 3; ++d) to[d] = e[d - shift];
    e = to;
  };
  for (auto* e : {&s.in, &s.out, &s.window, &s.stride, &s.dilation}) move(*e, 1);
  for (auto* e : {&s.low, &s.high}) move(*e, 0);
  return s;
}

ir::ScalarProgram add_bias() {
  ir::ScalarBuilder builder;
  const ir::Scalar sum = builder.input(DType::F32), bias = builder.input(DType::F32);
  return builder.finish(sum + bias, DType::F32);
}

ConstView bias_view(const float* bias, const Shape& y) {
  ConstView v{reinterpret_cast<const std::byte*>(bias), DType::F32, y, Shape(y.size(), 0), 0};
  v.strides[1] = 1;
  return v;
}

void conv_forward(const ConvShape& s, const ConstView& x, const float* weight, const float* bias, const View& y,
                  ThreadPool& pool) {
  if (numel(y.shape) == 0) return;
  const auto& level = level_table(best_level());
  DirectConv conv(s, level, bias == nullptr ? std::nullopt : std::optional(add_bias()));
  conv.use(conv.pack(weight));
  const ConstView shift = bias_view(bias, y.shape);
  conv.run(x, {&shift, bias == nullptr ? 0U : 1U}, y, pool);
}

void conv_forward(const ConvShape& s, const float* x, const float* weight, const float* bias, float* y,
                  ThreadPool& pool) {
  const ConstView to = row_major(y, s, s.filters, s.out);
  conv_forward(s, row_major(x, s, s.channels, s.in), weight, bias,
               View{reinterpret_cast<std::byte*>(y), to.dtype, to.shape, to.strides, 0}, pool);
}

void conv_backward_data(const ConvShape& s, const float* dy, const float* weight, float* dx, ThreadPool& pool) {
  if (s.n == 0 || s.x_size() == 0) return;
  if (!for_onednn(s) || s.y_size() == 0) {
    im2col_backward_data(s, dy, weight, dx, pool);
    return;
  }
  guarded([&] {
    const int64_t step = examples_of_part(s);
    const dnnl::stream stream(cpu_engine());
    Problem first(s, step);
    const auto chosen = first.backward_data();
    Placed w(chosen.weights_desc(), plain(weight_dims(s)), weight);
    w.load(stream);
    pool.run((s.n + step - 1) / step, [&](int64_t p) {
      guarded([&] {
        const int64_t begin = p * step;
        const int64_t n = std::min(step, s.n - begin);
        Problem problem(s, n);
        const auto hint = problem.forward();
        problem.weight = chosen.weights_desc();
        const dnnl::stream own(cpu_engine());
        const Problem::BackwardData::desc d(dnnl::algorithm::convolution_direct, problem.x, problem.weight, problem.y,
                                            problem.strides, problem.dilates, problem.low, problem.high);
        const Problem::BackwardData::primitive_desc description(d, problem.attributes, cpu_engine(), hint);
        Placed out(description.diff_src_desc(), plain(data_dims(s, n, false)), dx + begin * s.x_size());
        Placed in(description.diff_dst_desc(), plain(data_dims(s, n, true)), dy + begin * s.y_size());
        in.load(own);
        execute<Problem::BackwardData>(
            description,
            {{DNNL_ARG_DIFF_DST, in.inside()}, {DNNL_ARG_WEIGHTS, w.inside()}, {DNNL_ARG_DIFF_SRC, out.inside()}}, own);
        out.store(own);
      });
    });
  });
}

void conv_backward_weight(const ConvShape& s, const float* x, const float* dy, float* dw, ThreadPool& pool) {
  if (s.weight_size() == 0) return;
  if (s.n == 0 || s.x_size() == 0 || s.y_size() == 0 || !for_onednn(s)) {
    im2col_backward_weight(s, x, dy, dw, pool);
    return;
  }
  guarded([&] {
    // Few parts, because each holds a gradient of its own.
    const int64_t bytes = s.weight_size() * static_cast<int64_t>(sizeof(float));
    const int64_t most = std::clamp<int64_t>(kGradientMemory / bytes, 2, 16);
    const int64_t wanted = std::clamp<int64_t>((s.n + examples_of_part(s) - 1) / examples_of_part(s), 1, most);
    const int64_t step = (s.n + wanted - 1) / wanted;
    const int64_t parts = (s.n + step - 1) / step;
    Problem first(s, step);
    const memory::desc layout = first.backward_weight().diff_weights_desc();
    const auto size = static_cast<int64_t>(layout.get_size() / sizeof(float));
    const Ref<Buffer> partial = Buffer::allocate(static_cast<size_t>(parts) * layout.get_size());
    auto* gradients = reinterpret_cast<float*>(partial->data());
    pool.run(parts, [&](int64_t p) {
      guarded([&] {
        const int64_t begin = p * step;
        const int64_t n = std::min(step, s.n - begin);
        Problem problem(s, n);
        const auto hint = problem.forward();
        problem.weight = layout;
        const dnnl::stream own(cpu_engine());
        const Problem::BackwardWeight::desc d(dnnl::algorithm::convolution_direct, problem.x, problem.weight, problem.y,
                                              problem.strides, problem.dilates, problem.low, problem.high);
        const Problem::BackwardWeight::primitive_desc description(d, problem.attributes, cpu_engine(), hint);
        Placed in(description.src_desc(), plain(data_dims(s, n, false)), x + begin * s.x_size());
        Placed ct(description.diff_dst_desc(), plain(data_dims(s, n, true)), dy + begin * s.y_size());
        in.load(own);
        ct.load(own);
        execute<Problem::BackwardWeight>(description,
                                         {{DNNL_ARG_SRC, in.inside()},
                                          {DNNL_ARG_DIFF_DST, ct.inside()},
                                          {DNNL_ARG_DIFF_WEIGHTS, memory(layout, cpu_engine(), gradients + p * size)}},
                                         own);
      });
    });
    for (int64_t p = 1; p < parts; ++p) {
      const float* from = gradients + p * size;
      for (int64_t i = 0; i < size; ++i) gradients[i] += from[i];
    }
    const dnnl::stream stream(cpu_engine());
    memory sum(layout, cpu_engine(), gradients);
    memory result(plain(weight_dims(s)), cpu_engine(), dw);
    dnnl::reorder(sum, result).execute(stream, sum, result);
  });
}

void conv_forward(const ConvShape& s, const double* x, const double* weight, const double* bias, double* y,
                  ThreadPool& pool) {
  if (s.y_size() != 0) im2col_forward(s, x, weight, bias, y, pool);
}
void conv_backward_data(const ConvShape& s, const double* dy, const double* weight, double* dx, ThreadPool& pool) {
  if (s.x_size() != 0) im2col_backward_data(s, dy, weight, dx, pool);
}
void conv_backward_weight(const ConvShape& s, const double* x, const double* dy, double* dw, ThreadPool& pool) {
  if (s.weight_size() != 0) im2col_backward_weight(s, x, dy, dw, pool);
}

}  // namespace tenon::cpu
