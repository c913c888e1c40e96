#include "tenon/formats/onnx/proto_write.h"

#include <protozero/pbf_writer.hpp>

namespace tenon::formats::onnx {
namespace {

using Writer = protozero::pbf_writer;

// A nested message: `put` fills it.
template <class Fn>
void message(Writer& out, uint32_t field, const Fn& put) {
  std::string bytes;
  Writer inner(bytes);
  put(inner);
  out.add_message(field, bytes);
}

void write(Writer& out, const TensorData& tensor) {
  if (!tensor.dims.empty()) out.add_packed_int64(1, tensor.dims.begin(), tensor.dims.end());
  out.add_int32(2, static_cast<int32_t>(tensor.type));
  if (!tensor.name.empty()) out.add_string(8, tensor.name);
  for (const std::string& text : tensor.strings) out.add_bytes(6, text);
  if (tensor.external.empty()) {
    if (tensor.has_raw) out.add_bytes(9, tensor.raw.data(), tensor.raw.size());
    return;
  }
  for (const auto& [key, value] : tensor.external) {
    message(out, 13, [&](Writer& entry) {
      entry.add_string(1, key);
      entry.add_string(2, value);
    });
  }
  out.add_int32(14, 1);  // EXTERNAL
}

void write(Writer& out, const GraphData& graph);

void write(Writer& out, const Attribute& a) {
  out.add_string(1, a.name);
  if (!a.reference.empty()) out.add_string(21, a.reference);
  out.add_int32(20, a.type);
  switch (a.type) {
    case 1:
      out.add_float(2, a.f);
      break;
    case 2:
      out.add_int64(3, a.i);
      break;
    case 3:
      out.add_bytes(4, a.s);
      break;
    case 4:
      message(out, 5, [&](Writer& inner) { write(inner, *a.tensor); });
      break;
    case 5:
      message(out, 6, [&](Writer& inner) { write(inner, *a.graph); });
      break;
    case 6:
      for (const float f : a.floats) out.add_float(7, f);
      break;
    case 7:
      for (const int64_t i : a.ints) out.add_int64(8, i);
      break;
    case 8:
      for (const std::string& s : a.strings) out.add_bytes(9, s);
      break;
    default:
      break;
  }
}

void write(Writer& out, const NodeData& node) {
  for (const std::string& name : node.inputs) out.add_string(1, name);
  for (const std::string& name : node.outputs) out.add_string(2, name);
  if (!node.name.empty()) out.add_string(3, node.name);
  out.add_string(4, node.op_type);
  for (const Attribute& a : node.attributes) message(out, 5, [&](Writer& inner) { write(inner, a); });
  if (!node.domain.empty()) out.add_string(7, node.domain);
}

// Of tensors only: the exporter makes no others.
void write(Writer& out, const ValueInfo& value) {
  out.add_string(1, value.name);
  message(out, 2, [&](Writer& type) {
    message(type, 1, [&](Writer& tensor) {
      tensor.add_int32(1, static_cast<int32_t>(value.type.element));
      if (!value.type.has_shape) return;
      message(tensor, 2, [&](Writer& shape) {
        for (const std::string& dim : value.type.dims) {
          message(shape, 1, [&](Writer& extent) {
            if (dim.empty()) return;
            if (dim.find_first_not_of("0123456789") == std::string::npos) {
              extent.add_int64(1, std::stoll(dim));
            } else {
              extent.add_string(2, dim);
            }
          });
        }
      });
    });
  });
}

void write(Writer& out, const GraphData& graph) {
  for (const NodeData& node : graph.nodes) message(out, 1, [&](Writer& inner) { write(inner, node); });
  out.add_string(2, graph.name);
  for (const TensorData& tensor : graph.initializers) message(out, 5, [&](Writer& inner) { write(inner, tensor); });
  for (const ValueInfo& value : graph.inputs) message(out, 11, [&](Writer& inner) { write(inner, value); });
  for (const ValueInfo& value : graph.outputs) message(out, 12, [&](Writer& inner) { write(inner, value); });
}

void write_opset(Writer& out, const std::string& domain, int64_t version) {
  out.add_string(1, domain);
  out.add_int64(2, version);
}

void write(Writer& out, const FunctionData& function) {
  out.add_string(1, function.name);
  for (const std::string& name : function.inputs) out.add_string(4, name);
  for (const std::string& name : function.outputs) out.add_string(5, name);
  for (const NodeData& node : function.nodes) message(out, 7, [&](Writer& inner) { write(inner, node); });
  for (const auto& [domain, version] : function.opsets)
    message(out, 9, [&](Writer& opset) { write_opset(opset, domain, version); });
  out.add_string(10, function.domain);
}

}  // namespace

std::string serialize(const FunctionData& function) {
  std::string bytes;
  Writer out(bytes);
  write(out, function);
  return bytes;
}

std::string serialize(const TensorData& tensor) {
  std::string bytes;
  Writer out(bytes);
  write(out, tensor);
  return bytes;
}

std::string serialize(const ModelData& model) {
  std::string bytes;
  Writer out(bytes);
  out.add_int64(1, model.ir_version);
  if (!model.producer_name.empty()) out.add_string(2, model.producer_name);
  if (!model.producer_version.empty()) out.add_string(3, model.producer_version);
  if (!model.doc.empty()) out.add_string(6, model.doc);
  message(out, 7, [&](Writer& graph) { write(graph, model.graph); });
  for (const auto& [domain, version] : model.opsets) {
    message(out, 8, [&](Writer& opset) { write_opset(opset, domain, version); });
  }
  for (const auto& [key, value] : model.metadata) {
    message(out, 14, [&](Writer& entry) {
      entry.add_string(1, key);
      entry.add_string(2, value);
    });
  }
  for (const FunctionData& function : model.functions) message(out, 25, [&](Writer& inner) { write(inner, function); });
  return bytes;
}

}  // namespace tenon::formats::onnx
