// The short way of eager calls: no lists, no views, one look at each input.
#include <bit>
#include <cmath>
#include <cstring>

#include "tenon/exec/evaluate.h"
#include "tenon/exec/observe.h"
#include "tenon/exec/session.h"

namespace tenon::exec {
namespace {

constexpr size_t kMostInputs = 3;

// Shape and strides.
bool same_layout(const TensorImpl& a, const TensorImpl& b) {
  const size_t rank = a.type.shape.size();
  if (b.type.shape.size() != rank) return false;
  for (size_t i = 0; i < rank; ++i) {
    if (a.type.shape[i] != b.type.shape[i] || a.strides[i] != b.strides[i]) return false;
  }
  return true;
}

// The number of elements if they lie one after the other, 0 if not.
int64_t dense_size(const TensorImpl& x) {
  int64_t n = 1;
  for (size_t i = x.type.shape.size(); i-- > 0;) {
    if (x.strides[i] != n) return 0;
    n *= x.type.shape[i];
  }
  return n;
}

// The inputs of a call, once looked at.
struct Inputs {
  const TensorImpl* lead = nullptr;  // gives the type of the others
  uint32_t along = 0;                // bit i: input i has this layout; the others have one element
  uint32_t sole = 0;                 // nobody else holds the tensor
  uint32_t numbers = 0;              // as the user wrote them
};

bool look(std::span<const Tensor> in, bool gradients, Inputs& found) {
  const TensorImpl* lead = nullptr;
  for (size_t i = 0; i < in.size(); ++i) {
    const TensorImpl* x = in[i].impl();
    if (x == nullptr || !x->buffer || (gradients && x->tape)) return false;
    const uint32_t bit = 1U << i;
    if (x->weak) {
      found.numbers |= bit;
      continue;
    }
    if (x->use_count() == 1) found.sole |= bit;
    if (lead == nullptr) {
      lead = x;
      found.along = bit;
    } else if (x->type.dtype != lead->type.dtype) {
      return false;
    } else if (x == lead || same_layout(*x, *lead)) {
      found.along |= bit;
    } else if (lead->type.shape.empty()) {
      lead = x;
      found.along = bit;
    } else if (!x->type.shape.empty()) {
      return false;
    }
  }
  found.lead = lead;
  return lead != nullptr;
}

// The number beside tensors of this dtype, rounded once, as strengthen() gives it.
bool put_number(const TensorImpl& weak, DType dtype, std::byte* to) {
  constexpr double kExact = 9007199254740992.0;
  if (weak.type.dtype != DType::F32 && !(std::abs(weak.number) < kExact)) return false;
  if (dtype == DType::F32) {
    const auto value = static_cast<float>(weak.number);
    std::memcpy(to, &value, sizeof(value));
    return true;
  }
  if (dtype != DType::F64) return false;
  std::memcpy(to, &weak.number, sizeof(weak.number));
  return true;
}

// The buffer that the result may take, as reuse.cpp decides.
Buffer* taken(std::span<const Tensor> in, uint32_t candidates) {
  for (; candidates != 0; candidates &= candidates - 1) {
    const TensorImpl& x = *in[static_cast<size_t>(std::countr_zero(candidates))].impl();
    if (x.offset == 0 && x.buffer.unique() && x.buffer->writable()) return x.buffer.get();
  }
  return nullptr;
}

}  // namespace

[[gnu::hot]] Tensor evaluate_plain(const ops::OpDef& op, std::span<const Tensor> in, const ir::Attrs& attrs,
                                   bool gradients) {
  const auto* rule = std::get_if<ops::Elementwise>(&op.meaning);
  if (rule == nullptr || in.size() != op.inputs.size() || in.size() > kMostInputs || attrs.size() != op.attrs.size())
    return {};
  Session& s = session();
  Inputs found;
  if (!s.plain_calls() || !look(in, gradients, found)) return {};
  const TensorImpl& lead = *found.lead;
  const DType dtype = lead.type.dtype;
  for (const ops::Arg& arg : op.inputs) {
    if (!arg.dtypes.has(dtype)) return {};
  }
  if (op.promote.to_float && !is_float(dtype)) return {};
  const int64_t n = dense_size(lead);
  const int bits = info(dtype).bits;
  if (n == 0 || bits < 8) return {};
  const std::byte* data[kMostInputs];
  alignas(double) std::byte numbers[kMostInputs][sizeof(double)];
  for (size_t i = 0; i < in.size(); ++i) {
    const TensorImpl& x = *in[i].impl();
    data[i] = x.buffer->data() + x.offset * (bits / 8);
  }
  if (found.numbers != 0) {
    for (size_t i = 0; i < in.size(); ++i) {
      if ((found.numbers >> i & 1) == 0) continue;
      if ((op.promote.mask >> i & 1) == 0 || !put_number(*in[i].impl(), dtype, numbers[i])) return {};
      data[i] = numbers[i];
    }
  }
  DType type = dtype;
  if (rule->result != nullptr) {
    const InlineVector<DType, 8> dtypes(in.size(), dtype);
    type = rule->result(dtypes, attrs);
  }
  const bool same_width = type == dtype || info(type).bits == bits;
  const auto& ready = s.prepared(op, in.size(), dtype, attrs, type);
  const uint32_t candidates = same_width ? found.sole & found.along & op.takes : 0;
  Buffer* old = candidates == 0 ? nullptr : taken(in, candidates);
  Ref<TensorImpl> to(new TensorImpl);
  to->type.dtype = type;
  to->type.shape = lead.type.shape;
  to->strides = lead.strides;
  to->buffer = old != nullptr ? Ref<Buffer>(old)
                              : Buffer::allocate(static_cast<size_t>(same_width ? n * (bits / 8) : byte_size(type, n)));
  if (!ready.kernel->run_flat(std::span(data).first(in.size()), found.along, to->buffer->data(), n)) return {};
  return Tensor(std::move(to));
}

}  // namespace tenon::exec
