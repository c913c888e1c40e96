#include "tenon/formats/detect.h"

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/data/zip_archive.h"
#include "tenon/formats/onnx/proto.h"
#include "tenon/formats/safetensors.h"

namespace tenon::formats {
namespace {

// The first bytes of a SafeTensors file: the header's size, then the header.
bool opens_safetensors(std::span<const std::byte> bytes) {
  if (bytes.size() < 9) return false;
  uint64_t size = 0;
  for (size_t i = 8; i-- > 0;) size = size << 8 | std::to_integer<uint64_t>(bytes[i]);
  return size >= 2 && size < 100'000'000 && std::to_integer<char>(bytes[8]) == '{';
}

// What a ZIP file is by its members; a damaged one is an NPZ archive, whose reader says where.
FileKind kind_of_zip(std::span<const std::byte> bytes) {
  try {
    const data::ZipArchive archive(bytes, "");
    if (archive.find("model.weights.h5") && archive.find("config.json")) return FileKind::Keras;
    constexpr uint64_t kMost = 1000;  // PyTorch writes the pickle first
    for (uint64_t i = 0; i < std::min(archive.count(), kMost); ++i) {
      const std::string member = archive.inspect(i).name;
      if (member == "data.pkl" || member.ends_with("/data.pkl")) return FileKind::Torch;
    }
  } catch (const Error&) {
    return FileKind::Npz;
  }
  return FileKind::Npz;
}

}  // namespace

FileKind detect(std::span<const std::byte> bytes) {
  const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  if (text.starts_with("\x93NUMPY")) return FileKind::Npy;
  if (text.starts_with("PK\x03\x04") || text.starts_with("PK\x05\x06")) return kind_of_zip(bytes);
  if (text.starts_with("GGUF")) return FileKind::Gguf;
  if (text.starts_with("\x89HDF\r\n\x1a\n")) return FileKind::Hdf5;
  if (opens_safetensors(bytes)) {
    try {
      const auto header = parse_safetensors_header(bytes, "");
      return header.metadata.contains("tenon.format") ? FileKind::Package : FileKind::SafeTensors;
    } catch (const Error&) {
      return FileKind::SafeTensors;  // a damaged one: reading it says where
    }
  }
  try {
    const onnx::ModelData model = onnx::parse_model(text, "");
    if (!model.graph.nodes.empty() || !model.graph.outputs.empty()) return FileKind::Onnx;
  } catch (const Error&) {
    return FileKind::Unknown;
  }
  return FileKind::Unknown;
}

std::string_view name(FileKind kind) {
  switch (kind) {
    case FileKind::Package:
      return "a Tenon package";
    case FileKind::SafeTensors:
      return "a SafeTensors file";
    case FileKind::Onnx:
      return "an ONNX model";
    case FileKind::Npy:
      return "an NPY array";
    case FileKind::Npz:
      return "an NPZ archive";
    case FileKind::Torch:
      return "PyTorch weights";
    case FileKind::Gguf:
      return "a GGUF file";
    case FileKind::Keras:
      return "a Keras model";
    case FileKind::Hdf5:
      return "an HDF5 file";
    case FileKind::Unknown:
      break;
  }
  return "a file of no known format";
}

}  // namespace tenon::formats
