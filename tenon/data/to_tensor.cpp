#include "tenon/data/to_tensor.h"

#include "tenon/base/error.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::data {

Tensor to_tensor(HostArray&& array) {
  const TensorType type{array.dtype, Shape(std::span<const std::int64_t>(array.shape))};
  auto owner = std::make_shared<std::vector<std::byte>>(std::move(array.bytes));
  std::byte* data = owner->data();
  const std::size_t size = owner->size();
  return from_buffer(Buffer::wrap(data, size, std::move(owner)), type);
}

Tensor materialized(std::string_view where, const Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_concrete()) {
    throw ValueError(
        {std::string(where), "the tensor has no elements to read", "a tensor with values",
         tensor.defined() ? "one that stands for a value inside a captured or batched function" : "an undefined tensor",
         ""});
  }
  // Data has no history: a batch must not keep the graph of the function that made an example alive.
  const TensorImpl& impl = *tensor.impl();
  Tensor strong = impl.weak                ? strengthen(tensor)
                  : tensor.requires_grad() ? from_buffer(impl.buffer, impl.type, impl.strides, impl.offset)
                                           : tensor;
  const std::int64_t offset_bits = strong.impl()->offset * info(strong.dtype()).bits;
  if (strong.is_contiguous() && offset_bits % 8 == 0) return strong;
  Tensor copy = empty(strong.shape(), strong.dtype());
  const View to = mutable_view(copy);
  const ConstView from = view(strong);
  ElementCursor source(from);
  const std::int64_t count = strong.size();
  for (std::int64_t i = 0; i < count; ++i, source.next()) convert_element(from, source.element(), to, i);
  return copy;
}

HostArray to_host(const Tensor& tensor) {
  const Tensor source = materialized("to_host", tensor);
  const auto bytes = source.data<std::byte>();
  return {source.dtype(), {source.shape().begin(), source.shape().end()}, {bytes.begin(), bytes.end()}};
}

}  // namespace tenon::data
