// What a damaged file of each format is told apart by: the error names the file, the byte (of a member: within it) and
// the reason. One row for each kind of damage; tests/formats/hostile_test.cpp damages them without a plan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/idx.h"
#include "tenon/data/image.h"
#include "tenon/data/npy.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/formats/gguf.h"
#include "tenon/formats/hdf5.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/formats/onnx/proto.h"
#include "tenon/formats/safetensors.h"
#include "tenon/formats/torch_file.h"
#include "tenon/models/keras.h"
#include "tenon/models/pretrained.h"
#include "tenon/package.h"
#include "tenon/text/tokenizer.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::formats {
namespace {

namespace fs = std::filesystem;

const fs::path kTests = TENON_SOURCE_DIR "/tests";
std::string golden(const std::string& name) { return read_text_file(kTests / name); }

using Damage = std::function<std::string(std::string)>;
Damage cut(size_t size) {
  return [=](const std::string& bytes) { return bytes.substr(0, size); };
}
Damage cut_by(size_t count) {
  return [=](const std::string& bytes) { return bytes.substr(0, bytes.size() - count); };
}
Damage put(size_t at, const std::string& what) {
  return [=](std::string bytes) { return bytes.replace(at, what.size(), what); };
}
// The first place of `from`; the length stays.
Damage change(const std::string& from, const std::string& to) {
  return [=](std::string bytes) {
    EXPECT_EQ(from.size(), to.size());
    const size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return at == std::string::npos ? bytes : bytes.replace(at, to.size(), to);
  };
}
// The last place: in an archive, its directory.
Damage change_last(const std::string& from, const std::string& to) {
  return [=](std::string bytes) { return bytes.replace(bytes.rfind(from), to.size(), to); };
}
Damage as_is() {
  return [](std::string bytes) { return bytes; };
}

struct Row {
  std::string name;  // of the file that is written, and read again
  std::string from;  // a good file below tests/
  Damage damage;
  std::function<void(const fs::path&)> load;
  std::string text;  // a regular expression of what follows the file's name
};

void st(const fs::path& p) { (void)load_safetensors(p); }
void package(const fs::path& p) { load(p).verify(); }
void pt(const fs::path& p) { (void)load_torch(p); }
void npy(const fs::path& p) { (void)data::read_npy(p); }
void npz(const fs::path& p) { (void)data::read_npz(p); }
void gguf(const fs::path& p) { (void)load_gguf(p); }
void onnx_model(const fs::path& p) { (void)onnx::Model::load(p); }
void tensor_proto(const fs::path& p) {
  const std::string bytes = read_text_file(p);
  (void)onnx::read_tensor(onnx::parse_tensor(bytes, p.string()), nullptr, {}, p.string());
}
void h5(const fs::path& p) { (void)load_hdf5(p); }
void keras(const fs::path& p) { (void)models::KerasModel::load(p); }
void tokenizer(const fs::path& p) { (void)text::load_tokenizer(p); }
void image(const fs::path& p) { (void)data::read_image(p); }
void idx(const fs::path& p) { (void)data::read_idx(p); }
void folder(const fs::path& p) { (void)models::load_causal(p.parent_path()); }
void shards(const fs::path& p) { (void)load_checkpoint(p.parent_path()); }

const std::string kSafe = "formats/goldens/all.safetensors", kPackage = "compat/format1/mlp.tenon",
                  kGguf = "formats/goldens/types.gguf", kNpy = "compat/format1/mlp.input0.npy",
                  kOnnx = "fuzz/seeds/onnx/mlp.onnx", kH5 = "formats/goldens/hdf5/plain_latest.h5",
                  kKeras = "models/goldens/keras/sequential.keras", kVocabulary = "models/goldens/llama/config.json";

const std::vector<Row> kRows{
    {"cut.safetensors", kSafe, cut(100), st, "truncated: the header at byte 8 goes past the end of the file"},
    {"json.safetensors", kSafe, put(9, "\x01"), st, "the header is not JSON in UTF-8 \\(near byte [0-9]+\\)"},
    {"dtype.safetensors", kSafe, change("\"F32\"", "\"F3Z\""), st,
     "tensor \".*\": unknown dtype \\(its entry is at byte [0-9]+\\); expected F32.* got \"F3Z\""},
    {"number.safetensors", kSafe, change("[0,", "9e9"), st, "the header.*byte"},
    {"short.safetensors", kSafe, cut_by(1), st, "truncated: tensor .* goes past the end.*at byte [0-9]+"},
    {"flipped.tenon", kPackage, change("matmul(", "matmuL("), package,
     "tenon.graph.main is damaged at byte [0-9]+: its checksum is another"},
    {"weights.tenon", kPackage, [](std::string b) { return b.back() ^= 1, b; }, package,
     "the tensor \"fc.*\" is damaged at byte [0-9]+: its checksum is another"},
    {"cut.tenon", kPackage, cut(7), package, "truncated: no header size at byte 0"},
    {"evil.pt", "formats/goldens/evil.pt", as_is(), pt,
     ".*the pickle asks for 'posix.system' at byte [0-9]+, which is not on the list"},
    {"beyond.pt", "formats/goldens/beyond.pt", as_is(), pt, ".*a tensor reaches beyond its storage.*at byte [0-9]+"},
    {"cut.pt", "formats/goldens/plain.pt", cut_by(30), pt, "not a readable ZIP archive at byte 0"},
    {"magic.npy", kNpy, put(0, "x"), npy, "not an NPY file: wrong magic number at byte 0"},
    {"version.npy", kNpy, put(6, "\x07"), npy, "unknown NPY version at byte 6"},
    {"type.npy", kNpy, change("<f4", "<q4"), npy, "the header names an unknown element type at byte [0-9]+"},
    {"order.npy", kNpy, change("False", "Folse"), npy, "'fortran_order' is not a truth value at byte [0-9]+"},
    {"short.npy", kNpy, cut_by(1), npy, "the file ends inside the elements of .*at byte [0-9]+"},
    {"cut.npz", "data/goldens/deflated.npz", cut_by(30), npz, "not a readable ZIP archive at byte 0"},
    {"inside.npz", "data/goldens/stored.npz", change("NUMPY", "NUMPI"), npz,
     ".*(not an NPY file: wrong magic number at byte 0|damaged after byte [0-9]+)"},
    {"magic.gguf", kGguf, put(0, "x"), gguf, "not a GGUF file at byte 4"},
    {"version.gguf", kGguf, put(4, "\x09"), gguf, "another version of the format at byte 4"},
    {"key.gguf", kGguf, put(31, "\x7f"), gguf, "a key is longer than the file at byte [0-9]+"},
    {"axes.gguf", kGguf, change(std::string("q4_0\2\0\0\0", 8), std::string("q4_0\x9\0\0\0", 8)), gguf,
     "a tensor has too many axes at byte [0-9]+"},
    {"short.gguf", kGguf, cut_by(40), gguf, "the elements of '.*' are not within the file at byte [0-9]+"},
    {"cut.onnx", kOnnx, cut_by(9), onnx_model, "not an ONNX model at byte [0-9]+ \\(protobuf: end of buffer"},
    {"wire.onnx", kOnnx, put(0, "\x0a"), onnx_model, "not an ONNX model at byte 0 \\(protobuf: "},
    {"type.onnx", kOnnx, change("\x10\x01\x42", "\x10\x0e\x42"), onnx_model, "tensor '.*' is complex64 at byte [0-9]+"},
    {"dims.onnx", kOnnx, change("\x10\x01\x42", "\x10\x0b\x42"), onnx_model,
     "tensor '.*' at byte [0-9]+: the number of bytes is not the shape's; expected [0-9]+, got [0-9]+"},
    {"cut.pb", "fuzz/seeds/tensor_proto/raw_f32", cut_by(1), tensor_proto,
     "not an ONNX tensor at byte [0-9]+ \\(protobuf"},
    {"count.pb", "fuzz/seeds/tensor_proto/raw_bool", put(1, "\x09"), tensor_proto,
     "tensor '.*' at byte 0: the number of bytes is not the shape's; expected 9, got "},
    {"signature.h5", kH5, put(1, "X"), h5, "no HDF5 signature.*byte"},
    {"cut.h5", kH5, cut_by(100), h5, ".*at byte [0-9]+"},
    {"checksum.h5", kH5, put(11, "\x01"), h5, "a checksum differs.* at byte [0-9]+"},
    {"cut.keras", kKeras, cut_by(30), keras, "not a readable ZIP archive at byte 0"},
    {"member.keras", kKeras, change_last("config.json", "config.jso\x01"), keras,
     "not a readable ZIP archive at byte 0"},
    {"weights.h5", "models/goldens/keras/sequential.h5", cut_by(200), keras, ".*at byte [0-9]+"},
    {"tokenizer.json", "fuzz/seeds/tokenizer/bert", [](const std::string& b) { return b.substr(1, b.size() - 9); },
     tokenizer, "not JSON: .* at byte [0-9]+"},
    {"sentencepiece.model", "fuzz/seeds/tensor_proto/raw_f32", put(0, "\x0a\x7f"), tokenizer,
     "not a SentencePiece model at byte 0 \\(protobuf: "},
    {"config.json", kVocabulary, cut_by(10), folder, "not JSON: .* at byte [0-9]+"},
    {"model.safetensors.index.json", "models/goldens/mistral/model.safetensors.index.json", cut_by(10), shards,
     "not JSON: .* at byte [0-9]+"},
    {"cut.png", "data/goldens/rgb.png", cut_by(30), image, ".*byte [0-9]+"},
    {"cut.jpg", "data/goldens/rgb.jpg", cut(200), image, ".*byte [0-9]+"},
    {"magic.idx", "fuzz/seeds/idx/u8_2x3", put(0, "\x07"), idx, ".*byte [0-9]+"},
};

class ErrorPlace : public testing::TestWithParam<Row> {};
INSTANTIATE_TEST_SUITE_P(Formats, ErrorPlace, testing::ValuesIn(kRows), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  return name;
});

TEST_P(ErrorPlace, NamesFileByteAndReason) {
  const fs::path path = fs::path(testing_support::temp_folder()) / ("place_" + GetParam().name) / GetParam().name;
  fs::create_directories(path.parent_path());
  write_file_atomic(path, GetParam().damage(golden(GetParam().from)));
  const std::string text = testing_support::error_text([&] { GetParam().load(path); });
  EXPECT_THAT(text, testing::StartsWith(path.string()));
  EXPECT_THAT(text.substr(std::min(text.size(), path.string().size())),
              testing::ContainsRegex("^:.*" + GetParam().text));
}

}  // namespace
}  // namespace tenon::formats
