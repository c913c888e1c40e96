// What flows along the edges of an ONNX graph: tensors, texts, sequences, or nothing.
#pragma once

#include <memory>
#include <variant>

#include "tenon/formats/onnx/proto.h"
#include "tenon/tensor/tensor.h"

namespace tenon::formats::onnx {

// A tensor of strings.
struct Texts {
  Shape shape;
  std::vector<std::string> values;
};
// A tensor of a type that Tenon has no arithmetic for (float8 "FNUZ", float4, float8e8m0, uint2): one code for each
// element, u8. Only casts and quantisation read it.
struct Codes {
  DataType type;
  Tensor codes;
};
class Value;
struct Sequence {
  std::vector<Value> items;
  std::shared_ptr<const TypeData> type;  // of an item, when known
};

// An optional that holds something is that thing; an empty one, like an input that is not given, is nothing.
class Value {
 public:
  Value() = default;
  Value(Tensor x) : content_(std::move(x)) {}  // NOLINT(google-explicit-constructor): tensors are values
  Value(Texts x) : content_(std::move(x)) {}   // NOLINT(google-explicit-constructor)
  Value(Codes x) : content_(std::move(x)) {}   // NOLINT(google-explicit-constructor)
  // NOLINTNEXTLINE(google-explicit-constructor)
  Value(Sequence x) : content_(std::make_shared<const Sequence>(std::move(x))) {}

  [[nodiscard]] bool empty() const { return std::holds_alternative<std::monostate>(content_); }
  [[nodiscard]] const Tensor* tensor() const { return std::get_if<Tensor>(&content_); }
  [[nodiscard]] const Texts* texts() const { return std::get_if<Texts>(&content_); }
  [[nodiscard]] const Codes* codes() const { return std::get_if<Codes>(&content_); }
  [[nodiscard]] const Sequence* sequence() const {
    const auto* p = std::get_if<std::shared_ptr<const Sequence>>(&content_);
    return p ? p->get() : nullptr;
  }
  // "f32[2, 3]", "string[2]", "a sequence of 2", "nothing"
  [[nodiscard]] std::string describe() const;

 private:
  std::variant<std::monostate, Tensor, Texts, Codes, std::shared_ptr<const Sequence>> content_;
};
using Values = std::vector<Value>;

// The dtype with arithmetic that stands for an ONNX type. Errors: UnsupportedError naming `where`.
bool has_dtype(DataType type);
DType dtype_of(DataType type, const std::string& where);
DataType data_type_of(DType dtype);

// The elements of a TensorProto; raw data is not copied if `owner` (kept alive by the tensor) holds it and it is
// aligned. `folder` is where external data lies; "" refuses it. `mapped`: the owner is a mapped file, so pages that had
// to be copied are given back. Numbers that protobuf packs by their size (int32_data, in which older writers put f16
// too) are decoded piece by piece: memory is the tensor's own, which is larger than the file only where most numbers
// are small. Errors: FormatError if data and shape do not fit; FileError or FormatError for external data outside of
// the folder.
Value read_tensor(const TensorData& data, const std::shared_ptr<const void>& owner, const std::string& folder,
                  const std::string& where, bool mapped = false);

// ---- types without arithmetic ----
// The numbers behind the codes, f32.
Tensor decode(const Codes& codes);
// The nearest codes (ties to even); `saturate` says what becomes of numbers out of range: the largest, or NaN/infinity.
Codes encode(const Tensor& x, DataType type, bool saturate, const std::string& where);

}  // namespace tenon::formats::onnx
