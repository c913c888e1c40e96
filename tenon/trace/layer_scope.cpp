#include "tenon/trace/layer_scope.h"

#include "tenon/exec/observe.h"

namespace tenon::trace {

LayerScope::LayerScope(const Variable& variable) : previous_(exec::detail::layer) {
  if (variable.defined() && !variable.name().empty()) exec::detail::layer = &variable.name();
}
LayerScope::~LayerScope() { exec::detail::layer = previous_; }

}  // namespace tenon::trace
