#include "tenon/ir/attr.h"

#include <fmt/format.h>

#include "tenon/ir/graph.h"
#include "tenon/ir/quote.h"

namespace tenon::ir {

std::string_view name(AttrType type) {
  switch (type) {
    case AttrType::Flag:
      return "flag";
    case AttrType::Int:
      return "integer";
    case AttrType::Real:
      return "real";
    case AttrType::Text:
      return "text";
    case AttrType::Dtype:
      return "dtype";
    case AttrType::IntList:
      return "list of integers";
    case AttrType::Subgraph:
      return "graph";
  }
  return "unknown";
}

std::string to_string(const AttrValue& value) {
  switch (type_of(value)) {
    case AttrType::Flag:
      return std::get<bool>(value) ? "true" : "false";
    case AttrType::Int:
      return std::to_string(std::get<int64_t>(value));
    case AttrType::Real:
      return shortest(std::get<double>(value));
    case AttrType::Text:
      return quote(std::get<std::string>(value));
    case AttrType::Dtype:
      return std::string(name(std::get<DType>(value)));
    case AttrType::IntList:
      return tenon::to_string(std::get<Ints>(value));
    case AttrType::Subgraph:
      break;
  }
  const GraphPtr& graph = std::get<GraphPtr>(value);
  if (!graph) return "none";
  const std::string graph_name = graph->name.empty() ? "" : quote(graph->name) + " ";
  return fmt::format("graph {}({} inputs) -> ({} outputs) {{ {} nodes }}", graph_name, graph->inputs.size(),
                     graph->outputs.size(), graph->nodes.size());
}

}  // namespace tenon::ir
