// Writing ONNX files: the parts of proto.h as bytes.
#pragma once

#include <string>

#include "tenon/formats/onnx/proto.h"

namespace tenon::formats::onnx {

// The message in the wire format. A tensor with `external` entries is written without its elements.
std::string serialize(const ModelData& model);
std::string serialize(const FunctionData& function);
std::string serialize(const TensorData& tensor);

}  // namespace tenon::formats::onnx
