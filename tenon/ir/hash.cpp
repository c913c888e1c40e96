#include "tenon/ir/hash.h"

#include "tenon/base/error.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::ir {
namespace {

// Dtypes by name: the numbers of the enumerators may change.
void add_type(Hasher& hasher, const TensorType& type, bool extents) {
  hasher.text(name(type.dtype));
  hasher.number(type.shape.size());
  if (!extents) return;
  for (const int64_t extent : type.shape) hasher.number(extent);
}

void add_hash(Hasher& hasher, const Hash128& hash) {
  hasher.number(hash.low);
  hasher.number(hash.high);
}

class GraphHasher {
 public:
  GraphHasher(const OpCatalog& ops, const HashOptions& options) : ops_(ops), options_(options) {}

  Hash128 run(const Graph& graph) {
    std::vector<uint64_t> numbers(graph.values.size(), ~uint64_t{0});  // by order of definition
    uint64_t next = 0;
    Hasher hasher;
    const auto define = [&](ValueId id) {
      numbers[static_cast<size_t>(id)] = next++;
      add_type(hasher, graph.type(id), options_.extents);
    };
    const auto use = [&](ValueId id) {
      hasher.number(id == kAbsent ? ~uint64_t{1} : numbers[static_cast<size_t>(id)]);
    };
    if (!graph.varying.empty()) add_sizes(hasher, graph);
    hasher.number(graph.inputs.size());
    for (const ValueId id : graph.inputs) define(id);
    hasher.number(graph.nodes.size());
    for (const Node& node : graph.nodes) {
      if (node.op) {
        hasher.text(ops_.schema(*node.op).name);
        hasher.number(node.attrs.size());
        for (const AttrValue& value : node.attrs) add_attr(hasher, value);
      } else {
        hasher.text("");
        add_hash(hasher, content_hash(node.constant));
      }
      hasher.number(node.inputs.size());
      for (const ValueId id : node.inputs) use(id);
      hasher.number(node.outputs.size());
      for (const ValueId id : node.outputs) define(id);
    }
    hasher.number(graph.outputs.size());
    for (const ValueId id : graph.outputs) use(id);
    return hasher.finish();
  }

 private:
  static void add_sizes(Hasher& hasher, const Graph& graph) {
    for (const Size& size : graph.sizes) {
      hasher.text(size.name);
      hasher.number(size.low);
      hasher.number(size.high);
    }
    for (const Varying& v : graph.varying) {
      hasher.number(static_cast<int>(v.kind));
      hasher.number(v.index);
      hasher.number(v.attribute);
      hasher.number(v.element);
      hasher.text(v.expr ? to_string(*v.expr) : "~");
    }
  }

  void add_attr(Hasher& hasher, const AttrValue& value) {
    hasher.number(static_cast<int>(type_of(value)));
    switch (type_of(value)) {
      case AttrType::Flag:
        return hasher.number(std::get<bool>(value) ? 1 : 0);
      case AttrType::Int:
        return hasher.number(std::get<int64_t>(value));
      case AttrType::Real:
        return hasher.real(std::get<double>(value));
      case AttrType::Text:
        return hasher.text(std::get<std::string>(value));
      case AttrType::Dtype:
        return hasher.text(name(std::get<DType>(value)));
      case AttrType::IntList:
        hasher.number(std::get<Ints>(value).size());
        for (const int64_t i : std::get<Ints>(value)) hasher.number(i);
        return;
      case AttrType::Subgraph:
        break;
    }
    const GraphPtr& graph = std::get<GraphPtr>(value);
    add_hash(hasher, graph ? run(*graph) : Hash128{});
  }

  const OpCatalog& ops_;
  const HashOptions& options_;
};

}  // namespace

Hash128 content_hash(const Tensor& constant) {
  if (!constant.defined() || !constant.is_concrete()) throw InternalError("content_hash: the tensor has no elements");
  Hasher hasher;
  add_type(hasher, constant.type(), true);
  const int bits = info(constant.dtype()).bits;
  const bool plain = std::endian::native == std::endian::little && bits >= 8 && constant.is_contiguous();
  if (plain) {
    hasher.bytes(constant.data<std::byte>());
    return hasher.finish();
  }
  // Element by element into a row-major copy, low bytes first: the same bytes as above.
  const ConstView from = view(constant);
  std::vector<std::byte> bytes(static_cast<size_t>(byte_size(constant.dtype(), constant.size())));
  const DType raw = bits == 64 ? DType::U64 : bits == 32 ? DType::U32 : bits == 16 ? DType::U16 : DType::U8;
  ConstView source = from;
  if (bits >= 8) source.dtype = raw;
  const View packed{bytes.data(), constant.dtype(), constant.shape(), contiguous_strides(constant.shape()), 0};
  ElementCursor cursor(from);
  for (int64_t i = 0; i < constant.size(); ++i, cursor.next()) {
    const int64_t element = load_integer(source, cursor.element());
    if (bits < 8) {
      store_integer(packed, i, element);
      continue;
    }
    for (int k = 0; k < bits / 8; ++k) {
      bytes[static_cast<size_t>(i * (bits / 8) + k)] =
          static_cast<std::byte>(static_cast<uint64_t>(element) >> (8 * k));
    }
  }
  hasher.bytes(bytes);
  return hasher.finish();
}

Hash128 structural_hash(const Graph& graph, const OpCatalog& ops, const HashOptions& options) {
  return GraphHasher(ops, options).run(graph);
}

}  // namespace tenon::ir
