#include "tenon/serve/value.h"

#include <fmt/format.h>

#include <cstring>

#include "tenon/exec/evaluate.h"
#include "tenon/serve/status.h"

namespace tenon::serve {
namespace {

struct TypeRow {
  ElementType type;
  std::string_view v2;
  int tf;
  std::string_view tf_name;
  std::string_view tf_short;
};
constexpr TypeRow kTypes[] = {
    {{DType::F32}, "FP32", 1, "DT_FLOAT", "float"},      {{DType::F64}, "FP64", 2, "DT_DOUBLE", "double"},
    {{DType::I32}, "INT32", 3, "DT_INT32", "int32"},     {{DType::U8}, "UINT8", 4, "DT_UINT8", "uint8"},
    {{DType::I16}, "INT16", 5, "DT_INT16", "int16"},     {{DType::I8}, "INT8", 6, "DT_INT8", "int8"},
    {kStrings, "BYTES", 7, "DT_STRING", "string"},       {{DType::I64}, "INT64", 9, "DT_INT64", "int64"},
    {{DType::Bool}, "BOOL", 10, "DT_BOOL", "bool"},      {{DType::BF16}, "BF16", 14, "DT_BFLOAT16", "bfloat16"},
    {{DType::U16}, "UINT16", 17, "DT_UINT16", "uint16"}, {{DType::F16}, "FP16", 19, "DT_HALF", "half"},
    {{DType::U32}, "UINT32", 22, "DT_UINT32", "uint32"}, {{DType::U64}, "UINT64", 23, "DT_UINT64", "uint64"},
};

const TypeRow& row(ElementType type) {
  for (const auto& r : kTypes) {
    if (r.type == type) return r;
  }
  throw UnsupportedError({"serve", fmt::format("{} does not travel over the network", name(*type.dtype)), {}, {}, {}});
}

}  // namespace

const Shape& shape_of(const Value& value) {
  if (const auto* tensor = std::get_if<Tensor>(&value)) return tensor->shape();
  return std::get<Strings>(value).shape;
}
ElementType type_of(const Value& value) {
  if (const auto* tensor = std::get_if<Tensor>(&value)) return {tensor->dtype()};
  return kStrings;
}
int64_t byte_size(const Value& value) {
  if (const auto* tensor = std::get_if<Tensor>(&value)) return byte_size(tensor->dtype(), tensor->size());
  int64_t total = 0;
  for (const auto& text : std::get<Strings>(value).values) total += static_cast<int64_t>(text.size());
  return total;
}

std::string_view v2_name(ElementType type) { return row(type).v2; }
int tf_number(ElementType type) { return row(type).tf; }
std::string_view tf_name(ElementType type) { return row(type).tf_name; }
std::string_view tf_short_name(ElementType type) { return row(type).tf_short; }

ElementType type_from_v2(std::string_view datatype) {
  for (const auto& r : kTypes) {
    if (r.v2 == datatype) return r.type;
  }
  throw RequestError(Code::InvalidArgument, fmt::format("unknown datatype '{}'", datatype));
}
ElementType type_from_tf(int number) {
  for (const auto& r : kTypes) {
    if (r.tf == number) return r.type;
  }
  throw RequestError(Code::InvalidArgument, fmt::format("unsupported dtype {} of a tensor", number));
}

Tensor tensor_over(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, DType dtype,
                   const Shape& shape) {
  const auto width = static_cast<size_t>(std::max(1, info(dtype).bits / 8));
  if (reinterpret_cast<uintptr_t>(bytes.data()) % width == 0 && !bytes.empty()) {
    auto buffer = Buffer::wrap(const_cast<std::byte*>(bytes.data()), bytes.size(), std::move(owner));
    return from_buffer(std::move(buffer), {dtype, shape});
  }
  Tensor out = empty(shape, dtype);
  if (!bytes.empty()) std::memcpy(mutable_data(out), bytes.data(), bytes.size());
  return out;
}

std::span<const std::byte> bytes_of(const Tensor& contiguous) { return contiguous.data<std::byte>(); }

int64_t checked_count(std::span<const int64_t> dims, std::string_view input, int64_t most) {
  int64_t count = 1;
  for (int64_t d : dims) {
    if (d < 0)
      throw RequestError(Code::InvalidArgument, fmt::format("input '{}' has the shape [{}]; extents are not negative",
                                                            input, fmt::join(dims.begin(), dims.end(), ",")));
    if (__builtin_mul_overflow(count, d, &count) || count > most)
      throw RequestError(Code::InvalidArgument, fmt::format("input '{}' has a shape too large: [{}]", input,
                                                            fmt::join(dims.begin(), dims.end(), ",")));
  }
  return count;
}

Value rows(const Value& value, int64_t begin, int64_t end) {
  const Shape& whole = shape_of(value);
  Shape shape = whole;
  shape[0] = end - begin;
  const int64_t width = whole[0] == 0 ? 0 : numel(whole) / whole[0];
  if (const auto* strings = std::get_if<Strings>(&value)) {
    const auto first = strings->values.begin() + begin * width;
    return Strings{shape, {first, first + (end - begin) * width}};
  }
  const auto& tensor = std::get<Tensor>(value);
  if (begin == 0 && end == whole[0]) return tensor;
  const auto& impl = *tensor.impl();
  return from_buffer(impl.buffer, {tensor.dtype(), shape}, impl.offset + begin * width);
}

Value concat_rows(std::span<const Value* const> parts, int64_t total) {
  Shape shape = shape_of(*parts[0]);
  if (parts.size() == 1 && shape[0] == total) return *parts[0];
  const int64_t width = shape[0] == 0 ? 0 : numel(shape) / shape[0];
  shape[0] = total;
  if (std::holds_alternative<Strings>(*parts[0])) {
    Strings out{shape, {}};
    out.values.reserve(static_cast<size_t>(total * width));
    for (const Value* part : parts) {
      const auto& values = std::get<Strings>(*part).values;
      out.values.insert(out.values.end(), values.begin(), values.end());
    }
    for (size_t i = 0; out.values.size() < static_cast<size_t>(total * width); ++i) out.values.push_back(out.values[i]);
    return out;
  }
  const DType dtype = std::get<Tensor>(*parts[0]).dtype();
  Tensor out = empty(shape, dtype);
  if (out.size() == 0) return out;
  std::byte* at = mutable_data(out);
  for (const Value* part : parts) {
    const auto bytes = bytes_of(std::get<Tensor>(*part));
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    at += bytes.size();
  }
  const auto row_bytes = static_cast<size_t>(byte_size(dtype, width));
  const std::byte* base = out.data<std::byte>().data();
  const std::byte* end = base + byte_size(dtype, out.size());
  for (; at < end; at += row_bytes) std::memcpy(at, base, row_bytes);
  return out;
}

}  // namespace tenon::serve
