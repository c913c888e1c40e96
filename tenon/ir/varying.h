// Looking up which numbers of a graph depend on its sizes.
#pragma once

#include <unordered_map>

#include "tenon/ir/graph.h"

namespace tenon::ir {

class VaryingTable {
 public:
  VaryingTable() = default;
  // The graph must outlive the table.
  explicit VaryingTable(const Graph& graph) {
    for (const Varying& v : graph.varying) rows_.emplace(key(v.kind, v.index, v.attribute, v.element), &v);
  }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  // Null: the number is the same at all sizes.
  [[nodiscard]] const Varying* extent(ValueId value, size_t axis) const {
    return find(Varying::Kind::Extent, value, 0, axis);
  }
  [[nodiscard]] const Varying* attribute(size_t node, size_t attribute, size_t element) const {
    return find(Varying::Kind::Attribute, static_cast<int32_t>(node), static_cast<int32_t>(attribute), element);
  }
  [[nodiscard]] const Varying* element(size_t node, size_t element) const {
    return find(Varying::Kind::Element, static_cast<int32_t>(node), 0, element);
  }

 private:
  struct Key {
    uint64_t place, within;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& k) const { return (k.place * 0x9E3779B97F4A7C15U) ^ (k.within * 0xC2B2AE3D27D4EB4FU); }
  };
  static Key key(Varying::Kind kind, int32_t index, int32_t attribute, int32_t element) {
    return {static_cast<uint64_t>(kind) << 32 | static_cast<uint32_t>(index),
            static_cast<uint64_t>(static_cast<uint32_t>(attribute)) << 32 | static_cast<uint32_t>(element)};
  }
  [[nodiscard]] const Varying* find(Varying::Kind kind, int32_t index, int32_t attribute, size_t element) const {
    if (rows_.empty()) return nullptr;
    const auto found = rows_.find(key(kind, index, attribute, static_cast<int32_t>(element)));
    return found == rows_.end() ? nullptr : found->second;
  }

  std::unordered_map<Key, const Varying*, KeyHash> rows_;
};

// The sizes' examples.
Sizes examples(const Graph& graph);

}  // namespace tenon::ir
