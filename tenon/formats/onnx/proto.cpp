#include "tenon/formats/onnx/proto.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <protozero/pbf_reader.hpp>

#include "tenon/base/error.h"

namespace tenon::formats::onnx {
namespace {

using protozero::pbf_reader;
using protozero::pbf_wire_type;

// Graphs lie in attributes of nodes of graphs; a hostile file would nest them until the stack ends.
constexpr int kDeepest = 48;

// The reader itself takes the field's wire type on trust; a file must not be.
void expect(const pbf_reader& r, pbf_wire_type type) {
  if (!r.has_wire_type(type)) throw protozero::unknown_pbf_wire_type_exception();
}
protozero::data_view view(pbf_reader& r) {
  expect(r, pbf_wire_type::length_delimited);
  return r.get_view();
}
int64_t integer(pbf_reader& r) {
  expect(r, pbf_wire_type::varint);
  return r.get_int64();
}
int32_t short_integer(pbf_reader& r) {
  expect(r, pbf_wire_type::varint);
  return r.get_int32();
}
float real(pbf_reader& r) {
  expect(r, pbf_wire_type::fixed32);
  return r.get_float();
}
std::string text(pbf_reader& r) {
  const auto bytes = view(r);
  return {bytes.data(), bytes.size()};
}
pbf_reader message(pbf_reader& r) { return pbf_reader(view(r)); }

void add_int(pbf_reader& r, std::vector<int64_t>& list) {
  if (r.has_wire_type(pbf_wire_type::length_delimited)) {
    for (int64_t v : r.get_packed_int64()) list.push_back(v);
  } else {
    list.push_back(integer(r));
  }
}
void add_float(pbf_reader& r, std::vector<float>& list) {
  if (r.has_wire_type(pbf_wire_type::length_delimited)) {
    for (float v : r.get_packed_float()) list.push_back(v);
  } else {
    list.push_back(real(r));
  }
}
std::pair<std::string, std::string> string_entry(pbf_reader r) {
  std::pair<std::string, std::string> entry;
  while (r.next()) {
    if (r.tag() == 1) {
      entry.first = text(r);
    } else if (r.tag() == 2) {
      entry.second = text(r);
    } else {
      r.skip();
    }
  }
  return entry;
}

// Packed floats and doubles are the raw bytes of their elements: where a tensor has one such field, as every writer
// makes it, its bytes stay in the file as raw data does.
template <class T>
class PackedNumbers {
 public:
  explicit PackedNumbers(std::vector<T>& list) : list_(list) {}
  void add(pbf_reader& r) {
    if (r.has_wire_type(pbf_wire_type::length_delimited) && list_.empty() && packed_.empty()) {
      const auto bytes = view(r);
      packed_ = {bytes.data(), bytes.size()};
      if (packed_.size() % sizeof(T) != 0) throw protozero::invalid_length_exception{};
      return;
    }
    unpack();
    if (r.has_wire_type(pbf_wire_type::length_delimited)) {
      for (const T value : packed(r)) list_.push_back(value);
    } else {
      list_.push_back(single(r));
    }
  }
  // Ends in the raw bytes if the tensor is of this type, else in the list.
  void finish(bool same_type, TensorData& tensor) {
    if (packed_.empty()) return;
    if (!same_type || tensor.has_raw) return unpack();
    tensor.raw = packed_;
    tensor.has_raw = true;
  }

 private:
  static auto packed(pbf_reader& r) {
    if constexpr (sizeof(T) == 4) {
      return r.get_packed_float();
    } else {
      return r.get_packed_double();
    }
  }
  static T single(pbf_reader& r) {
    expect(r, sizeof(T) == 4 ? pbf_wire_type::fixed32 : pbf_wire_type::fixed64);
    if constexpr (sizeof(T) == 4) {
      return r.get_float();
    } else {
      return r.get_double();
    }
  }
  void unpack() {
    const std::size_t old = list_.size();
    list_.resize(old + packed_.size() / sizeof(T));
    if (!packed_.empty()) std::memcpy(list_.data() + old, packed_.data(), packed_.size());
    packed_ = {};
  }
  std::vector<T>& list_;
  std::string_view packed_;
};

TensorData tensor(pbf_reader r) {
  TensorData t;
  PackedNumbers<float> floats(t.floats);
  PackedNumbers<double> doubles(t.doubles);
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        add_int(r, t.dims);
        break;
      case 2:
        t.type = static_cast<DataType>(short_integer(r));
        break;
      case 4:
        floats.add(r);
        break;
      case 5:   // int32_data
      case 7:   // int64_data
      case 11:  // uint64_data
        add_int(r, t.integers);
        break;
      case 6:
        t.strings.push_back(text(r));
        break;
      case 8:
        t.name = text(r);
        break;
      case 9: {
        const auto bytes = view(r);
        t.raw = {bytes.data(), bytes.size()};
        t.has_raw = true;
        break;
      }
      case 10:
        doubles.add(r);
        break;
      case 13:
        t.external.insert(string_entry(message(r)));
        break;
      default:
        r.skip();
    }
  }
  floats.finish(t.type == DataType::Float, t);
  doubles.finish(t.type == DataType::Double, t);
  return t;
}

std::string dimension(pbf_reader r) {
  std::string text_of_dim;
  while (r.next()) {
    if (r.tag() == 1) {
      text_of_dim = std::to_string(integer(r));
    } else if (r.tag() == 2) {
      text_of_dim = text(r);
    } else {
      r.skip();
    }
  }
  return text_of_dim;
}

TypeData type_of(pbf_reader r, int depth);

void tensor_type(pbf_reader r, TypeData& type) {
  while (r.next()) {
    if (r.tag() == 1) {
      type.element = static_cast<DataType>(short_integer(r));
    } else if (r.tag() == 2) {
      type.has_shape = true;
      pbf_reader shape = message(r);
      while (shape.next()) {
        if (shape.tag() == 1) {
          type.dims.push_back(dimension(message(shape)));
        } else {
          shape.skip();
        }
      }
    } else {
      r.skip();
    }
  }
}

void wrapped_type(pbf_reader r, TypeData& type, int depth) {
  while (r.next()) {
    if (r.tag() == 1 && r.has_wire_type(pbf_wire_type::length_delimited)) {
      type.inner = std::make_shared<TypeData>(type_of(message(r), depth + 1));
    } else {
      r.skip();
    }
  }
}

TypeData type_of(pbf_reader r, int depth) {
  if (depth > kDeepest) throw protozero::end_of_buffer_exception();
  TypeData type;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        type.kind = TypeData::Kind::Tensor;
        tensor_type(message(r), type);
        break;
      case 4:
        type.kind = TypeData::Kind::Sequence;
        wrapped_type(message(r), type, depth);
        break;
      case 5:
        type.kind = TypeData::Kind::Map;
        r.skip();
        break;
      case 8:
        type.kind = TypeData::Kind::SparseTensor;
        r.skip();
        break;
      case 9:
        type.kind = TypeData::Kind::Optional;
        wrapped_type(message(r), type, depth);
        break;
      default:
        r.skip();
    }
  }
  return type;
}

GraphData graph(pbf_reader r, int depth);

Attribute attribute(pbf_reader r, int depth) {
  Attribute a;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        a.name = text(r);
        break;
      case 2:
        a.f = real(r);
        break;
      case 3:
        a.i = integer(r);
        break;
      case 4:
        a.s = text(r);
        break;
      case 5:
        a.tensor = std::make_shared<const TensorData>(tensor(message(r)));
        break;
      case 6:
        a.graph = std::make_shared<const GraphData>(graph(message(r), depth + 1));
        break;
      case 7:
        add_float(r, a.floats);
        break;
      case 8:
        add_int(r, a.ints);
        break;
      case 9:
        a.strings.push_back(text(r));
        break;
      case 14:
        a.type_proto = std::make_shared<const TypeData>(type_of(message(r), depth + 1));
        break;
      case 20:
        a.type = short_integer(r);
        break;
      case 21:
        a.reference = text(r);
        break;
      default:
        r.skip();
    }
  }
  return a;
}

NodeData node(pbf_reader r, int depth) {
  NodeData n;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        n.inputs.push_back(text(r));
        break;
      case 2:
        n.outputs.push_back(text(r));
        break;
      case 3:
        n.name = text(r);
        break;
      case 4:
        n.op_type = text(r);
        break;
      case 5:
        n.attributes.push_back(attribute(message(r), depth));
        break;
      case 7:
        n.domain = text(r);
        break;
      case 8:
        n.overload = text(r);
        break;
      default:
        r.skip();
    }
  }
  if (n.domain == "ai.onnx") n.domain.clear();
  return n;
}

ValueInfo value_info(pbf_reader r) {
  ValueInfo v;
  while (r.next()) {
    if (r.tag() == 1) {
      v.name = text(r);
    } else if (r.tag() == 2) {
      v.type = type_of(message(r), 0);
    } else {
      r.skip();
    }
  }
  return v;
}

GraphData graph(pbf_reader r, int depth) {
  if (depth > kDeepest) throw protozero::end_of_buffer_exception();
  GraphData g;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        g.nodes.push_back(node(message(r), depth));
        break;
      case 2:
        g.name = text(r);
        break;
      case 5:
        g.initializers.push_back(tensor(message(r)));
        break;
      case 11:
        g.inputs.push_back(value_info(message(r)));
        break;
      case 12:
        g.outputs.push_back(value_info(message(r)));
        break;
      default:
        r.skip();
    }
  }
  return g;
}

void opset(pbf_reader r, std::map<std::string, int64_t>& opsets) {
  std::string domain;
  int64_t version = 0;
  while (r.next()) {
    if (r.tag() == 1) {
      domain = text(r);
    } else if (r.tag() == 2) {
      version = integer(r);
    } else {
      r.skip();
    }
  }
  opsets[domain == "ai.onnx" ? "" : domain] = version;
}

FunctionData function(pbf_reader r) {
  FunctionData f;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        f.name = text(r);
        break;
      case 4:
        f.inputs.push_back(text(r));
        break;
      case 5:
        f.outputs.push_back(text(r));
        break;
      case 6:
        f.attributes.push_back(text(r));
        break;
      case 7:
        f.nodes.push_back(node(message(r), 1));
        break;
      case 9:
        opset(message(r), f.opsets);
        break;
      case 10:
        f.domain = text(r);
        break;
      case 11:
        f.defaults.push_back(attribute(message(r), 1));
        break;
      case 13:
        f.overload = text(r);
        break;
      default:
        r.skip();
    }
  }
  return f;
}

ModelData model(pbf_reader r) {
  ModelData m;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        m.ir_version = integer(r);
        break;
      case 2:
        m.producer_name = text(r);
        break;
      case 3:
        m.producer_version = text(r);
        break;
      case 6:
        m.doc = text(r);
        break;
      case 7:
        m.graph = graph(message(r), 0);
        break;
      case 8:
        opset(message(r), m.opsets);
        break;
      case 14:
        m.metadata.insert(string_entry(message(r)));
        break;
      case 25:
        m.functions.push_back(function(message(r)));
        break;
      default:
        r.skip();
    }
  }
  return m;
}

SequenceData sequence(pbf_reader r, int depth) {
  if (depth > kDeepest) throw protozero::end_of_buffer_exception();
  SequenceData s;
  while (r.next()) {
    switch (r.tag()) {
      case 2:
        s.element = short_integer(r);
        break;
      case 3:
        s.tensors.push_back(tensor(message(r)));
        break;
      case 5:
        s.sequences.push_back(sequence(message(r), depth + 1));
        break;
      default:
        r.skip();
    }
  }
  return s;
}

OptionalData optional(pbf_reader r) {
  OptionalData o;
  while (r.next()) {
    switch (r.tag()) {
      case 2:
        o.element = short_integer(r);
        break;
      case 3:
        o.tensor = std::make_shared<TensorData>(tensor(message(r)));
        break;
      case 5:
        o.sequence = std::make_shared<SequenceData>(sequence(message(r), 0));
        break;
      default:
        r.skip();
    }
  }
  return o;
}

template <class F>
auto parse(std::string_view bytes, const std::string& where, std::string_view what, const F& read) {
  try {
    return read(pbf_reader(bytes.data(), bytes.size()));
  } catch (const protozero::exception& error) {
    throw FormatError({where, fmt::format("not {} (protobuf: {})", what, error.what()), {}, {}, {}});
  }
}

}  // namespace

ModelData parse_model(std::string_view bytes, const std::string& where) {
  ModelData m = parse(bytes, where, "an ONNX model", model);
  if (m.opsets.empty() || m.graph.outputs.empty())
    throw FormatError({where, "not an ONNX model", "a graph with outputs and an opset", "none", {}});
  return m;
}
TensorData parse_tensor(std::string_view bytes, const std::string& where) {
  return parse(bytes, where, "an ONNX tensor", tensor);
}
SequenceData parse_sequence(std::string_view bytes, const std::string& where) {
  return parse(bytes, where, "an ONNX sequence", [](pbf_reader r) { return sequence(r, 0); });
}
OptionalData parse_optional(std::string_view bytes, const std::string& where) {
  return parse(bytes, where, "an ONNX optional", optional);
}

std::string name_of(DataType type) {
  static constexpr std::array<std::string_view, 27> kNames{
      "undefined", "float",      "uint8",      "int8",         "uint16",         "int16",      "int32",
      "int64",     "string",     "bool",       "float16",      "double",         "uint32",     "uint64",
      "complex64", "complex128", "bfloat16",   "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz",
      "uint4",     "int4",       "float4e2m1", "float8e8m0",   "uint2",          "int2"};
  const auto i = static_cast<size_t>(type);
  return i < kNames.size() ? std::string(kNames[i]) : fmt::format("type {}", static_cast<int32_t>(type));
}

}  // namespace tenon::formats::onnx
