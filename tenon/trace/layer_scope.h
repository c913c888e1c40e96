// Which layer is running: for profiles and for messages of debug mode.
#pragma once

#include "tenon/tensor/variable.h"

namespace tenon::trace {

// At the top of a layer's operator(), with one of the layer's Variables: their names ("blocks.0.fc.weight") tell the
// layer's path. Costs two writes. A Variable without value or name changes nothing.
class LayerScope {
 public:
  explicit LayerScope(const Variable& variable);
  ~LayerScope();
  LayerScope(const LayerScope&) = delete;
  LayerScope& operator=(const LayerScope&) = delete;

 private:
  const std::string* previous_;
};

}  // namespace tenon::trace
