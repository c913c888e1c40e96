#include "tenon/formats/onnx/proto.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <protozero/varint.hpp>

#include "tenon/base/error.h"
#include "tenon/base/proto_reader.h"

namespace tenon::formats::onnx {
namespace {

// Graphs lie in attributes of nodes of graphs; a hostile file would nest them until the stack ends.
constexpr int kDeepest = 48;

void add_int(ProtoReader& r, std::vector<int64_t>& list) {
  if (r.is_packed()) return r.packed_integers([&](int64_t v) { list.push_back(v); });
  list.push_back(r.integer());
}
void add_float(ProtoReader& r, std::vector<float>& list) {
  if (r.is_packed()) return r.packed_floats([&](float v) { list.push_back(v); });
  list.push_back(r.real());
}
std::pair<std::string, std::string> string_entry(ProtoReader r) {
  std::pair<std::string, std::string> entry;
  while (r.next()) {
    if (r.tag() == 1) {
      entry.first = r.text();
    } else if (r.tag() == 2) {
      entry.second = r.text();
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
  void add(ProtoReader& r) {
    if (r.is_packed() && list_.empty() && packed_.empty()) {
      packed_ = r.view();
      if (packed_.size() % sizeof(T) != 0) r.fail("packed numbers that are cut");
      return;
    }
    unpack();
    const auto put = [&](T value) { list_.push_back(value); };
    if constexpr (sizeof(T) == 4) {
      r.is_packed() ? r.packed_floats(put) : put(r.real());
    } else {
      r.is_packed() ? r.packed_doubles(put) : put(r.long_real());
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
  void unpack() {
    const std::size_t old = list_.size();
    list_.resize(old + packed_.size() / sizeof(T));
    if (!packed_.empty()) std::memcpy(list_.data() + old, packed_.data(), packed_.size());
    packed_ = {};
  }
  std::vector<T>& list_;
  std::string_view packed_;
};

// The same for whole numbers: one packed field stays in the file as it is, numbers in several fields become a list.
void add_integers(ProtoReader& r, TensorData& t) {
  if (r.is_packed() && t.integers.empty() && t.packed_integers.empty()) {
    t.packed_integers = r.view();
    return;
  }
  if (!t.packed_integers.empty()) {
    const char* at = t.packed_integers.data();
    const char* const end = at + t.packed_integers.size();
    try {
      while (at != end) t.integers.push_back(static_cast<int64_t>(protozero::decode_varint(&at, end)));
    } catch (const protozero::exception& error) {
      r.fail(error.what());
    }
    t.packed_integers = {};
  }
  add_int(r, t.integers);
}

TensorData tensor(ProtoReader r) {
  TensorData t;
  t.offset = r.offset();
  PackedNumbers<float> floats(t.floats);
  PackedNumbers<double> doubles(t.doubles);
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        add_int(r, t.dims);
        break;
      case 2:
        t.type = static_cast<DataType>(r.short_integer());
        break;
      case 4:
        floats.add(r);
        break;
      case 5:   // int32_data
      case 7:   // int64_data
      case 11:  // uint64_data
        add_integers(r, t);
        break;
      case 6:
        t.strings.push_back(r.text());
        break;
      case 8:
        t.name = r.text();
        break;
      case 9: {
        t.raw = r.view();
        t.has_raw = true;
        break;
      }
      case 10:
        doubles.add(r);
        break;
      case 13:
        t.external.insert(string_entry(r.message()));
        break;
      default:
        r.skip();
    }
  }
  floats.finish(t.type == DataType::Float, t);
  doubles.finish(t.type == DataType::Double, t);
  return t;
}

std::string dimension(ProtoReader r) {
  std::string text_of_dim;
  while (r.next()) {
    if (r.tag() == 1) {
      text_of_dim = std::to_string(r.integer());
    } else if (r.tag() == 2) {
      text_of_dim = r.text();
    } else {
      r.skip();
    }
  }
  return text_of_dim;
}

TypeData type_of(ProtoReader r, int depth);

void tensor_type(ProtoReader r, TypeData& type) {
  while (r.next()) {
    if (r.tag() == 1) {
      type.element = static_cast<DataType>(r.short_integer());
    } else if (r.tag() == 2) {
      type.has_shape = true;
      ProtoReader shape = r.message();
      while (shape.next()) {
        if (shape.tag() == 1) {
          type.dims.push_back(dimension(shape.message()));
        } else {
          shape.skip();
        }
      }
    } else {
      r.skip();
    }
  }
}

void wrapped_type(ProtoReader r, TypeData& type, int depth) {
  while (r.next()) {
    if (r.tag() == 1 && r.is_packed()) {
      type.inner = std::make_shared<TypeData>(type_of(r.message(), depth + 1));
    } else {
      r.skip();
    }
  }
}

TypeData type_of(ProtoReader r, int depth) {
  if (depth > kDeepest) r.fail("messages are nested too deeply");
  TypeData type;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        type.kind = TypeData::Kind::Tensor;
        tensor_type(r.message(), type);
        break;
      case 4:
        type.kind = TypeData::Kind::Sequence;
        wrapped_type(r.message(), type, depth);
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
        wrapped_type(r.message(), type, depth);
        break;
      default:
        r.skip();
    }
  }
  return type;
}

GraphData graph(ProtoReader r, int depth);

Attribute attribute(ProtoReader r, int depth) {
  Attribute a;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        a.name = r.text();
        break;
      case 2:
        a.f = r.real();
        break;
      case 3:
        a.i = r.integer();
        break;
      case 4:
        a.s = r.text();
        break;
      case 5:
        a.tensor = std::make_shared<const TensorData>(tensor(r.message()));
        break;
      case 6:
        a.graph = std::make_shared<const GraphData>(graph(r.message(), depth + 1));
        break;
      case 7:
        add_float(r, a.floats);
        break;
      case 8:
        add_int(r, a.ints);
        break;
      case 9:
        a.strings.push_back(r.text());
        break;
      case 14:
        a.type_proto = std::make_shared<const TypeData>(type_of(r.message(), depth + 1));
        break;
      case 20:
        a.type = r.short_integer();
        break;
      case 21:
        a.reference = r.text();
        break;
      default:
        r.skip();
    }
  }
  return a;
}

NodeData node(ProtoReader r, int depth) {
  NodeData n;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        n.inputs.push_back(r.text());
        break;
      case 2:
        n.outputs.push_back(r.text());
        break;
      case 3:
        n.name = r.text();
        break;
      case 4:
        n.op_type = r.text();
        break;
      case 5:
        n.attributes.push_back(attribute(r.message(), depth));
        break;
      case 7:
        n.domain = r.text();
        break;
      case 8:
        n.overload = r.text();
        break;
      default:
        r.skip();
    }
  }
  if (n.domain == "ai.onnx") n.domain.clear();
  return n;
}

ValueInfo value_info(ProtoReader r) {
  ValueInfo v;
  while (r.next()) {
    if (r.tag() == 1) {
      v.name = r.text();
    } else if (r.tag() == 2) {
      v.type = type_of(r.message(), 0);
    } else {
      r.skip();
    }
  }
  return v;
}

GraphData graph(ProtoReader r, int depth) {
  if (depth > kDeepest) r.fail("messages are nested too deeply");
  GraphData g;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        g.nodes.push_back(node(r.message(), depth));
        break;
      case 2:
        g.name = r.text();
        break;
      case 5:
        g.initializers.push_back(tensor(r.message()));
        break;
      case 11:
        g.inputs.push_back(value_info(r.message()));
        break;
      case 12:
        g.outputs.push_back(value_info(r.message()));
        break;
      default:
        r.skip();
    }
  }
  return g;
}

void opset(ProtoReader r, std::map<std::string, int64_t>& opsets) {
  std::string domain;
  int64_t version = 0;
  while (r.next()) {
    if (r.tag() == 1) {
      domain = r.text();
    } else if (r.tag() == 2) {
      version = r.integer();
    } else {
      r.skip();
    }
  }
  opsets[domain == "ai.onnx" ? "" : domain] = version;
}

FunctionData function(ProtoReader r) {
  FunctionData f;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        f.name = r.text();
        break;
      case 4:
        f.inputs.push_back(r.text());
        break;
      case 5:
        f.outputs.push_back(r.text());
        break;
      case 6:
        f.attributes.push_back(r.text());
        break;
      case 7:
        f.nodes.push_back(node(r.message(), 1));
        break;
      case 9:
        opset(r.message(), f.opsets);
        break;
      case 10:
        f.domain = r.text();
        break;
      case 11:
        f.defaults.push_back(attribute(r.message(), 1));
        break;
      case 13:
        f.overload = r.text();
        break;
      default:
        r.skip();
    }
  }
  return f;
}

ModelData model(ProtoReader r) {
  ModelData m;
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        m.ir_version = r.integer();
        break;
      case 2:
        m.producer_name = r.text();
        break;
      case 3:
        m.producer_version = r.text();
        break;
      case 6:
        m.doc = r.text();
        break;
      case 7:
        m.graph = graph(r.message(), 0);
        break;
      case 8:
        opset(r.message(), m.opsets);
        break;
      case 14:
        m.metadata.insert(string_entry(r.message()));
        break;
      case 25:
        m.functions.push_back(function(r.message()));
        break;
      default:
        r.skip();
    }
  }
  return m;
}

SequenceData sequence(ProtoReader r, int depth) {
  if (depth > kDeepest) r.fail("messages are nested too deeply");
  SequenceData s;
  while (r.next()) {
    switch (r.tag()) {
      case 2:
        s.element = r.short_integer();
        break;
      case 3:
        s.tensors.push_back(tensor(r.message()));
        break;
      case 5:
        s.sequences.push_back(sequence(r.message(), depth + 1));
        break;
      default:
        r.skip();
    }
  }
  return s;
}

OptionalData optional(ProtoReader r) {
  OptionalData o;
  while (r.next()) {
    switch (r.tag()) {
      case 2:
        o.element = r.short_integer();
        break;
      case 3:
        o.tensor = std::make_shared<TensorData>(tensor(r.message()));
        break;
      case 5:
        o.sequence = std::make_shared<SequenceData>(sequence(r.message(), 0));
        break;
      default:
        r.skip();
    }
  }
  return o;
}

}  // namespace

ModelData parse_model(std::string_view bytes, const std::string& where) {
  ModelData m = model(ProtoReader({bytes, where, "an ONNX model"}));
  if (m.opsets.empty() || m.graph.outputs.empty())
    throw FormatError({where, "not an ONNX model", "a graph with outputs and an opset", "none", {}});
  return m;
}
TensorData parse_tensor(std::string_view bytes, const std::string& where) {
  return tensor(ProtoReader({bytes, where, "an ONNX tensor"}));
}
SequenceData parse_sequence(std::string_view bytes, const std::string& where) {
  return sequence(ProtoReader({bytes, where, "an ONNX sequence"}), 0);
}
OptionalData parse_optional(std::string_view bytes, const std::string& where) {
  return optional(ProtoReader({bytes, where, "an ONNX optional"}));
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
