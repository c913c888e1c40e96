// What kind of file these bytes are: by what they say, not by what the file is called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tenon::formats {

enum class FileKind : uint8_t { Package, SafeTensors, Onnx, Npy, Npz, Torch, Gguf, Keras, Hdf5, Unknown };
FileKind detect(std::span<const std::byte> bytes);
// "a Tenon package", "an ONNX model"
std::string_view name(FileKind kind);

}  // namespace tenon::formats
