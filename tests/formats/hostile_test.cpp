// Hostile files of every format: cut, flipped, claiming what they do not hold. Each gives a typed error that names the
// file, or a value; never another exception, a crash, or memory that the file's size does not justify.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/formats/gguf.h"
#include "tenon/formats/hdf5.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/formats/onnx/proto.h"
#include "tenon/formats/onnx/proto_write.h"
#include "tenon/formats/safetensors.h"
#include "tenon/formats/torch_file.h"
#include "tenon/models/keras.h"
#include "tenon/package.h"
#include "tenon/tenon.h"
#include "tenon/text/tokenizer.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::formats {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::error_text;

struct Format {
  std::string name;
  fs::path file;  // a good one
  std::function<void(const fs::path&)> load;
  bool whole = true;  // a part of the file is never a good file
};

const fs::path kHostileTests = TENON_SOURCE_DIR "/tests";

std::vector<Format> formats_of_files() {
  return {
      {"safetensors", kHostileTests / "formats/goldens/all.safetensors",
       [](const fs::path& p) { (void)load_safetensors(p); }},
      {"package", kHostileTests / "compat/format1/mlp.tenon",
       [](const fs::path& p) {
         const Package package = load(p);
         package.verify();
       }},
      {"onnx", kHostileTests / "fuzz/seeds/onnx/conv.onnx", [](const fs::path& p) { (void)onnx::Model::load(p); },
       false},
      {"pt", kHostileTests / "formats/goldens/plain.pt", [](const fs::path& p) { (void)load_torch(p); }},
      {"gguf", kHostileTests / "formats/goldens/types.gguf", [](const fs::path& p) { (void)load_gguf(p); }},
      {"npy", kHostileTests / "compat/format1/mlp.input0.npy", [](const fs::path& p) { (void)data::read_npy(p); }},
      {"npz", kHostileTests / "data/goldens/deflated.npz", [](const fs::path& p) { (void)data::read_npz(p); }},
      {"keras", kHostileTests / "models/goldens/keras/sequential.keras",
       [](const fs::path& p) { (void)models::KerasModel::load(p); }},
      {"h5", kHostileTests / "models/goldens/keras/tokens.h5",
       [](const fs::path& p) { (void)models::KerasModel::load(p); }},
      {"tokenizer", kHostileTests / "fuzz/seeds/tokenizer/bert",
       [](const fs::path& p) {
         const std::string text = read_text_file(p);
         (void)text::read_tokenizer_json(text.empty() ? text : text.substr(1), p.string());
       }},
  };
}

class Hostile : public testing::TestWithParam<Format> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(fs::exists(GetParam().file)) << GetParam().file;
    bytes_ = read_file(GetParam().file);
    path_ = testing_support::temp_folder() + "/hostile." + GetParam().name;
  }
  // What loading these bytes says: "" for a value, the error's text; anything else than a typed error is a failure.
  std::string attempt(std::span<const std::byte> bytes) {
    write_file_atomic(path_, bytes);
    try {
      GetParam().load(path_);
    } catch (const Error& error) {
      return error.what();
    } catch (const std::exception& other) {
      ADD_FAILURE() << "not a typed error: " << other.what();
    }
    return {};
  }
  std::vector<std::byte> bytes_;
  fs::path path_;
};
INSTANTIATE_TEST_SUITE_P(Formats, Hostile, testing::ValuesIn(formats_of_files()),
                         [](const auto& info) { return info.param.name; });

TEST_P(Hostile, TheGoodFileIsRead) { EXPECT_EQ(attempt(bytes_), ""); }

TEST_P(Hostile, CutAtEverySixteenth) {
  for (size_t part = 0; part < 16; ++part) {
    const std::string text = attempt(std::span(bytes_).first(bytes_.size() * part / 16));
    if (GetParam().whole) {
      EXPECT_NE(text, "") << "a part of " << part << "/16 was read as if it were whole";
    }
    if (!text.empty()) {
      EXPECT_THAT(text, HasSubstr("hostile." + GetParam().name)) << "the file is not named";
    }
  }
}

TEST_P(Hostile, FlippedBits) {
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {  // one that hangs is ended by ctest's time limit
    std::vector<std::byte> changed = bytes_;
    // Headers are where the harm is.
    const size_t range = i % 2 == 0 ? std::min<size_t>(changed.size(), 512) : changed.size();
    changed[random() % range] ^= std::byte{1} << random() % 8;
    (void)attempt(changed);
  }
}

// 64 bits of ones and other extreme numbers, everywhere in the header: no size in the file is believed.
TEST_P(Hostile, ExtremeNumbers) {
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  for (const std::uint64_t extreme : {~std::uint64_t{0}, std::uint64_t{1} << 62, std::uint64_t{0x7fffffff}}) {
    for (size_t at = 0; at + 8 <= std::min<size_t>(bytes_.size(), 256); at += 4) {
      std::vector<std::byte> changed = bytes_;
      std::memcpy(changed.data() + at, &extreme, 8);
      (void)attempt(changed);
    }
  }
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 200 * 1024) << "kilobytes for files of " << bytes_.size() << " bytes";
}

// ---- archives that unpack to far more than they are ----
void put(std::string& text, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
}
// One member that claims `size` bytes of `packed` bytes of nothing, deflated.
std::string bomb(const std::string& member, std::uint32_t size, std::uint32_t packed) {
  std::string local, central;
  const auto common = [&](std::string& out) {
    put(out, 20, 2), put(out, 0, 2), put(out, 8, 2), put(out, 0, 4);  // version, flags, deflate, time
    put(out, 0x12345678, 4), put(out, packed, 4), put(out, size, 4), put(out, member.size(), 2);
  };
  put(local, 0x04034b50, 4), common(local), put(local, 0, 2);
  local += member + std::string(packed, '\0');
  put(central, 0x02014b50, 4), put(central, 20, 2), common(central);
  put(central, 0, 2), put(central, 0, 2), put(central, 0, 2), put(central, 0, 2), put(central, 0, 4),
      put(central, 0, 4);
  central += member;
  std::string end;
  put(end, 0x06054b50, 4), put(end, 0, 4), put(end, 1, 2), put(end, 1, 2), put(end, central.size(), 4);
  put(end, local.size(), 4), put(end, 0, 2);
  return local + central + end;
}

TEST(HostileArchives, AClaimBeyondWhatDeflateCanHoldIsRefusedBeforeItIsUnpacked) {
  const std::string& folder = testing_support::temp_folder();
  const auto file = [&](const std::string& name, const std::string& member) {
    write_file_atomic(folder + "/" + name, bomb(member, 4'000'000'000U, 1000));
    return fs::path(folder + "/" + name);
  };
  const std::string text = "the member claims more bytes than its compressed data can hold";
  EXPECT_THAT(error_text([&] { (void)data::read_npz(file("bomb.npz", "a.npy")); }), HasSubstr(text));
  EXPECT_THAT(error_text([&] { (void)load_torch(file("bomb.pt", "archive/data.pkl")); }), HasSubstr(text));
  EXPECT_THAT(error_text([&] { (void)models::KerasModel::load(file("bomb.keras", "config.json")); }), HasSubstr(text));
}

// ---- ONNX: graphs that go round, shapes that do not fit, data from elsewhere ----
onnx::ValueInfo float_value(const std::string& name, const std::vector<std::string>& dims) {
  onnx::ValueInfo info;
  info.name = name;
  info.type.kind = onnx::TypeData::Kind::Tensor;
  info.type.element = onnx::DataType::Float;
  info.type.has_shape = true;
  info.type.dims = dims;
  return info;
}
onnx::NodeData node(const std::string& op, const std::vector<std::string>& in, const std::string& out) {
  onnx::NodeData n;
  n.op_type = op;
  n.inputs = in;
  n.outputs = {out};
  return n;
}
onnx::ModelData model_of(const std::vector<onnx::NodeData>& nodes) {
  onnx::ModelData data;
  data.ir_version = 8;
  data.opsets[""] = 17;
  data.graph.name = "g";
  data.graph.nodes = nodes;
  data.graph.inputs = {float_value("x", {"2"})};
  data.graph.outputs = {float_value("y", {"2"})};
  return data;
}
std::string run_text(const onnx::ModelData& data) {
  return error_text([&] {
    const std::string bytes = serialize(data);
    const auto model = onnx::Model::parse(bytes, nullptr, "round.onnx");
    (void)model({ones({2})});
  });
}

TEST(HostileOnnx, GraphsThatGoRoundAreNamed) {
  EXPECT_THAT(run_text(model_of({node("Add", {"x", "b"}, "a"), node("Exp", {"a"}, "b"), node("Exp", {"b"}, "y")})),
              testing::AllOf(HasSubstr("round.onnx"), HasSubstr("'b'"), HasSubstr("which nothing before it makes")));
  EXPECT_THAT(run_text(model_of({node("Add", {"x", "y"}, "y")})), HasSubstr("which nothing before it makes"));
}

TEST(HostileOnnx, FunctionsThatCallThemselvesEnd) {
  onnx::ModelData data = model_of({node("F", {"x"}, "y")});
  data.graph.nodes[0].domain = "mine";
  data.opsets["mine"] = 1;
  onnx::FunctionData f;
  f.name = "F";
  f.domain = "mine";
  f.inputs = {"a"};
  f.outputs = {"b"};
  f.nodes = {node("F", {"a"}, "b")};
  f.nodes[0].domain = "mine";
  f.opsets = {{"", 17}, {"mine", 1}};
  // The writer makes no functions; the message is put together here: FunctionProto is field 25 of ModelProto.
  const auto field = [](int number, const std::string& content) {
    std::string out;
    for (unsigned tag = static_cast<unsigned>(number) << 3 | 2U;; tag >>= 7) {
      out += static_cast<char>((tag & 0x7fU) | (tag > 0x7fU ? 0x80U : 0U));
      if (tag <= 0x7f) break;
    }
    return out + static_cast<char>(content.size()) + content;
  };
  const std::string opset = field(1, "mine") + std::string("\x10\x01");
  const std::string inner = field(1, "a") + field(2, "b") + field(4, "F") + field(7, "mine");
  const std::string function =
      field(1, "F") + field(4, "a") + field(5, "b") + field(7, inner) + field(9, opset) + field(10, "mine");
  const std::string bytes = serialize(data) + field(25, function);
  EXPECT_THAT(error_text([&] {
                const auto model = onnx::Model::parse(bytes, nullptr, "self.onnx");
                (void)model({ones({2})});
              }),
              HasSubstr("self.onnx"));
}

TEST(HostileOnnx, FunctionsThatMultiplyAreRefusedBeforeAnythingRuns) {
  onnx::ModelData data = model_of({node("F0", {"x"}, "y")});
  data.graph.nodes[0].domain = "mine";
  data.opsets["mine"] = 1;
  for (int i = 0; i < 40; ++i) {
    onnx::FunctionData f;
    f.name = "F" + std::to_string(i);
    f.domain = "mine";
    f.inputs = {"a"};
    f.outputs = {"c"};
    f.nodes = {node(i == 39 ? "Exp" : "F" + std::to_string(i + 1), {"a"}, "b"),
               node(i == 39 ? "Exp" : "F" + std::to_string(i + 1), {"b"}, "c")};
    if (i < 39) f.nodes[0].domain = f.nodes[1].domain = "mine";
    f.opsets = {{"", 17}, {"mine", 1}};
    data.functions.push_back(f);
  }
  EXPECT_THAT(error_text([&] { (void)onnx::Model::parse(serialize(data), nullptr, "laughs.onnx"); }),
              testing::AllOf(HasSubstr("laughs.onnx: the functions call each other too often"),
                             HasSubstr("at most 10000000 nodes")));
  data.functions.resize(10);  // a thousand calls are fine, but now F10 is missing
  EXPECT_THAT(error_text([&] { (void)onnx::Model::parse(serialize(data), nullptr, "cut.onnx"); }),
              HasSubstr("node mine.F10: the operator is not known"));
}

TEST(HostileOnnx, ShapesThatDoNotFitNameTheNode) {
  onnx::ModelData data = model_of({node("MatMul", {"x", "w"}, "y")});
  onnx::TensorData w;
  w.name = "w";
  w.type = onnx::DataType::Float;
  w.dims = {3, 2};
  const std::string raw(24, '\0');
  w.raw = raw;
  w.has_raw = true;
  data.graph.initializers = {w};
  EXPECT_THAT(run_text(data), HasSubstr("node MatMul"));
  data.graph.initializers[0].dims = {3, 3};
  EXPECT_THAT(run_text(data), testing::AllOf(HasSubstr("round.onnx"), HasSubstr("expected 36, got 24")));
  data.graph.initializers[0].dims = {-1, 2};
  EXPECT_THAT(run_text(data), HasSubstr("round.onnx"));
}

TEST(HostileOnnx, ExternalDataStaysInTheFolderAlsoThroughLinks) {
  const fs::path root = testing_support::temp_folder() + "/external", folder = root / "model";
  fs::remove_all(root);
  fs::create_directories(folder);
  write_file_atomic(root / "secret", std::string_view("12345678"));
  fs::create_symlink(root / "secret", folder / "innocent.bin");
  fs::create_directory_symlink(root, folder / "inside");
  onnx::ModelData data = model_of({node("Add", {"x", "w"}, "y")});
  onnx::TensorData w;
  w.name = "w";
  w.type = onnx::DataType::Float;
  w.dims = {2};
  for (const char* location : {"../secret", "innocent.bin", "inside/secret", "./../secret", "/etc/passwd"}) {
    w.external = {{"location", location}};
    data.graph.initializers = {w};
    write_file_atomic(folder / "model.onnx", serialize(data));
    EXPECT_THAT(error_text([&] {
                  const auto model = onnx::Model::load(folder / "model.onnx");
                  (void)model({ones({2})});
                }),
                HasSubstr("outside of the model's folder"))
        << location;
  }
  write_file_atomic(folder / "weights.bin", std::string_view("\0\0\x80\x3f\0\0\0\x40", 8));
  const auto load_with = [&](const std::string& offset, const std::string& length) {
    w.external = {{"location", "weights.bin"}, {"offset", offset}, {"length", length}};
    data.graph.initializers = {w};
    write_file_atomic(folder / "model.onnx", serialize(data));
    return error_text([&] {
      const auto model = onnx::Model::load(folder / "model.onnx");
      EXPECT_EQ(model({ones({2})})[0].to_vector<float>(), (std::vector<float>{2, 3}));
    });
  };
  EXPECT_EQ(load_with("0", "8"), "no error");
  EXPECT_THAT(load_with("4", "8"), HasSubstr("external data ends early"));
  EXPECT_THAT(load_with("18446744073709551615", "8"), testing::Not("no error"));
  EXPECT_THAT(load_with("-1", "8"), testing::Not("no error"));
  EXPECT_THAT(load_with("0", "4"), HasSubstr("expected 8, got 4"));
}

TEST(HostileShards, AnIndexNamesOnlyFilesOfItsFolder) {
  const fs::path root = testing_support::temp_folder() + "/shards", folder = root / "model";
  fs::remove_all(root);
  fs::create_directories(folder);
  save_safetensors(root / "secret.safetensors", StateDict{{"a", ones({2})}});
  const auto text = [&](const std::string& name) {
    write_file_atomic(folder / "model.safetensors.index.json", R"({"weight_map": {"a": ")" + name + "\"}}");
    return error_text([&] { (void)load_checkpoint(folder); });
  };
  EXPECT_THAT(text("../secret.safetensors"), HasSubstr("not in the folder"));
  EXPECT_THAT(text((root / "secret.safetensors").string()), HasSubstr("not in the folder"));
}

}  // namespace
}  // namespace tenon::formats
