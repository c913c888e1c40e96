// The parts of an ONNX file (onnx.proto, IR version 3 and later), read without copying weights.
//
// Strings, raw tensor data and packed numbers are views of the file's bytes: whoever holds them keeps the file.
// Field numbers stand beside each member as in the published schema (https://onnx.ai/onnx/repo-docs/IR.html).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon::formats::onnx {

// TensorProto.DataType.
enum class DataType : int32_t {
  Undefined = 0,
  Float = 1,
  Uint8 = 2,
  Int8 = 3,
  Uint16 = 4,
  Int16 = 5,
  Int32 = 6,
  Int64 = 7,
  String = 8,
  Bool = 9,
  Float16 = 10,
  Double = 11,
  Uint32 = 12,
  Uint64 = 13,
  Complex64 = 14,
  Complex128 = 15,
  BFloat16 = 16,
  Float8E4M3FN = 17,
  Float8E4M3FNUZ = 18,
  Float8E5M2 = 19,
  Float8E5M2FNUZ = 20,
  Uint4 = 21,
  Int4 = 22,
  Float4E2M1 = 23,
  Float8E8M0 = 24,
  Uint2 = 25,
  Int2 = 26,
};

struct TensorData {
  std::vector<int64_t> dims;
  DataType type = DataType::Undefined;
  std::string name;
  std::string_view raw;
  bool has_raw = false;
  std::vector<float> floats;  // float_data of complex numbers, or in several fields: else it is in `raw`
  // int32_data, int64_data or uint64_data: one packed field stays in the file, numbers in several fields are a list.
  std::string_view packed_integers;
  std::vector<int64_t> integers;
  std::vector<double> doubles;
  std::vector<std::string> strings;
  std::map<std::string, std::string> external;  // location, offset, length
  std::optional<size_t> offset;                 // where it lies in the file that it was read from
};

struct GraphData;

struct TypeData {
  enum class Kind : uint8_t { None, Tensor, Sequence, Optional, Map, SparseTensor } kind = Kind::None;
  DataType element = DataType::Undefined;
  bool has_shape = false;
  std::vector<std::string> dims;  // a number, a name, or "" for an unknown extent
  std::shared_ptr<TypeData> inner;
};

struct Attribute {
  std::string name;
  std::string reference;  // of an attribute of the function around
  int32_t type = 0;       // AttributeProto.AttributeType
  float f = 0;
  int64_t i = 0;
  std::string s;
  std::shared_ptr<const TensorData> tensor;
  std::shared_ptr<const GraphData> graph;
  std::shared_ptr<const TypeData> type_proto;
  std::vector<float> floats;
  std::vector<int64_t> ints;
  std::vector<std::string> strings;
};

struct NodeData {
  std::vector<std::string> inputs, outputs;  // "" is an absent one
  std::string name, op_type, domain, overload;
  std::vector<Attribute> attributes;
};

struct ValueInfo {
  std::string name;
  TypeData type;
};

struct GraphData {
  std::string name;
  std::vector<NodeData> nodes;
  std::vector<TensorData> initializers;
  std::vector<ValueInfo> inputs, outputs;
};

struct FunctionData {
  std::string name, domain, overload;
  std::vector<std::string> inputs, outputs, attributes;
  std::vector<Attribute> defaults;
  std::vector<NodeData> nodes;
  std::map<std::string, int64_t> opsets;  // by domain
};

struct ModelData {
  int64_t ir_version = 0;
  std::string producer_name, producer_version, doc;
  std::map<std::string, int64_t> opsets;  // by domain; "" is ai.onnx
  GraphData graph;
  std::vector<FunctionData> functions;
  std::map<std::string, std::string> metadata;
};

// `where` names the bytes in errors. Errors: FormatError for bytes that are no such message.
ModelData parse_model(std::string_view bytes, const std::string& where);
// A TensorProto, SequenceProto or OptionalProto file, as the test sets of the ONNX backend hold them.
TensorData parse_tensor(std::string_view bytes, const std::string& where);
struct SequenceData {
  int32_t element = 0;  // 1: tensors, 3: sequences, 5: optionals
  std::vector<TensorData> tensors;
  std::vector<SequenceData> sequences;
};
SequenceData parse_sequence(std::string_view bytes, const std::string& where);
struct OptionalData {
  int32_t element = 0;  // 0: nothing
  std::shared_ptr<TensorData> tensor;
  std::shared_ptr<SequenceData> sequence;
};
OptionalData parse_optional(std::string_view bytes, const std::string& where);

// "float16", as ONNX writes it; "type 99" for one that is not known.
std::string name_of(DataType type);

}  // namespace tenon::formats::onnx
