// What loading a large file makes a process grow by: no format needs more than 1.2 times the file's size. Measured as
// the largest resident set of a process of its own, which counts the pages of mapped files too.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "tenon/base/file.h"
#include "tenon/base/small_blocks.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/formats/gguf.h"
#include "tenon/formats/hdf5.h"
#include "tenon/formats/hdf5/bytes.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/formats/onnx/proto.h"
#include "tenon/formats/onnx/proto_write.h"
#include "tenon/formats/safetensors.h"
#include "tenon/formats/torch_file.h"
#include "tenon/models/keras.h"
#include "tenon/models/llama.h"
#include "tenon/models/pretrained.h"
#include "tenon/package.h"
#include "tenon/tenon.h"
#include "tests/support/temp_folder.h"

namespace tenon::formats {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSide = 3000;  // matrices of 36 MB
constexpr size_t kBytes = kSide * kSide * 4;

// Waits for a process of the test, in which everything must have held.
void expect_success(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

double megabytes_grown(const std::function<void()>& work) {
  release_cached_memory();
  malloc_trim(0);
  int channel[2];
  if (pipe(channel) != 0) return -1;
  const pid_t child = fork();  // in a process of its own, so that nothing else counts
  if (child == 0) {
    // The largest resident set counts from here on.
    std::ofstream("/proc/self/clear_refs") << "5";
    const auto largest = [] {
      const std::string text = read_text_file("/proc/self/status");
      return std::stod(text.substr(text.find("VmHWM:") + 6)) / 1024;
    };
    const double start = largest();
    work();
    const double grown = largest() - start;
    (void)!write(channel[1], &grown, sizeof grown);
    std::_Exit(testing::Test::HasFailure() ? 1 : 0);
  }
  close(channel[1]);  // so that a child that dies ends the reading
  double grown = -1;
  (void)!read(channel[0], &grown, sizeof grown);
  close(channel[0]);
  expect_success(child);
  return grown;
}

// What is compared with: the file, or (`unpacked` bytes) tensors that are by nature larger than their packed form.
void expect_little_memory(const fs::path& path, const std::function<void(const fs::path&)>& load_it,
                          size_t unpacked = 0) {
  const double size = static_cast<double>(std::max<size_t>(fs::file_size(path), unpacked)) / (1 << 20);
  const double grown = megabytes_grown([&] { load_it(path); });
  std::printf("%s: %.2f of its size\n", path.filename().c_str(), grown / size);
  EXPECT_GE(grown, 0) << path;
  EXPECT_LT(grown, 1.2 * size + 2) << path.filename() << ", megabytes for " << size;  // 2: the loader's own
  testing::Test::RecordProperty(path.filename().string(), std::to_string(grown / size));
}

// Numbers that no compression makes smaller.
std::string noise(size_t bytes) {
  std::mt19937_64 random(5);
  std::string out(bytes, '\0');
  for (size_t at = 0; at + 8 <= bytes; at += 8) {
    const uint64_t value = random() & 0x3fffffff3fffffffULL;  // finite floats
    std::memcpy(out.data() + at, &value, 8);
  }
  return out;
}

void put_bytes(std::string& text, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
}

uint32_t crc32_of(std::string_view bytes) {
  uint32_t crc = ~0U;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320U & (0U - (crc & 1U)));
  }
  return ~crc;
}

// A ZIP archive of stored members, as torch.save and Keras write them.
std::string stored_zip(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string out, central;
  for (const auto& [name, content] : members) {
    std::string common;
    put_bytes(common, 20, 2), put_bytes(common, 0, 2), put_bytes(common, 0, 2), put_bytes(common, 0x210000, 4);
    put_bytes(common, crc32_of(content), 4), put_bytes(common, content.size(), 4), put_bytes(common, content.size(), 4);
    put_bytes(common, name.size(), 2), put_bytes(common, 0, 2);
    put_bytes(central, 0x02014b50, 4), put_bytes(central, 20, 2);
    central += common;
    put_bytes(central, 0, 6), put_bytes(central, 0, 4), put_bytes(central, out.size(), 4);
    central += name;
    put_bytes(out, 0x04034b50, 4);
    out.append(common).append(name).append(content);
  }
  std::string end;
  put_bytes(end, 0x06054b50, 4), put_bytes(end, 0, 4), put_bytes(end, members.size(), 2),
      put_bytes(end, members.size(), 2);
  put_bytes(end, central.size(), 4), put_bytes(end, out.size(), 4), put_bytes(end, 0, 2);
  return out + central + end;
}

// A minimal HDF5 file: a group in a group ... and in the last a matrix of f32 in one piece.
class Hdf5Writer {
 public:
  explicit Hdf5Writer(size_t odd) : odd_(odd) {}
  std::string file(const std::vector<std::string>& path, const std::string& elements) {
    out_.assign(48, '\0');
    out_.append(odd_, '\0');
    const uint64_t data = out_.size();
    out_ += elements;
    std::string messages;
    std::string space("\x02\x02\x00\x01", 4);
    put_bytes(space, kSide, 8), put_bytes(space, kSide, 8);
    std::string type("\x11\x20\x1f\x00\x04\x00\x00\x00\x00\x00\x20\x00\x17\x08\x00\x17\x7f\x00\x00\x00", 20);
    std::string layout("\x03\x01", 2);
    put_bytes(layout, data, 8), put_bytes(layout, elements.size(), 8);
    message(messages, 1, space), message(messages, 3, type), message(messages, 8, layout);
    uint64_t below = header(messages);
    for (size_t i = path.size(); i-- > 0;) {
      std::string link("\x01\x00", 2);
      put_bytes(link, path[i].size(), 1);
      link += path[i];
      put_bytes(link, below, 8);
      std::string group;
      message(group, 6, link);
      below = header(group);
    }
    std::string super("\x89HDF\r\n\x1a\n\x02\x08\x08\x00", 12);
    put_bytes(super, 0, 8), put_bytes(super, ~uint64_t{0}, 8), put_bytes(super, out_.size(), 8),
        put_bytes(super, below, 8);
    put_bytes(super, checksum(super), 4);
    return out_.replace(0, 48, super);
  }

 private:
  static uint32_t checksum(const std::string& text) { return hdf5::lookup3(std::as_bytes(std::span(text))); }
  static void message(std::string& to, int type, const std::string& body) {
    put_bytes(to, static_cast<uint64_t>(type), 1), put_bytes(to, body.size(), 2), put_bytes(to, 0, 1);
    to += body;
  }
  uint64_t header(const std::string& messages) {
    const uint64_t at = out_.size();
    std::string text("OHDR\x02\x01", 6);
    put_bytes(text, messages.size(), 2);
    text += messages;
    put_bytes(text, checksum(text), 4);
    out_ += text;
    return at;
  }
  size_t odd_;
  std::string out_;
};

class Memory : public testing::Test {
 protected:
  void SetUp() override {
    if (!kKeepsBlocks) GTEST_SKIP() << "sanitizers take memory of their own";
    folder_ = testing_support::temp_folder();
    for (int i = 0; i < 2; ++i) weights_.set("w" + std::to_string(i), full({kSide, kSide}, i, f32));
  }
  fs::path write(const std::string& name, const std::string& content) {
    write_file_atomic(folder_ / name, content);
    return folder_ / name;
  }
  fs::path folder_;
  StateDict weights_;
};

TEST_F(Memory, MappedFormats) {
  save_safetensors(folder_ / "w.safetensors", weights_);
  Gguf gguf;
  for (const auto& [name, tensor] : weights_) gguf.tensors.set(name, contiguous(tensor));
  save_gguf(folder_ / "w.gguf", gguf);
  const auto fn = [&](const Tensors& in) {
    Tensor y = in[0];
    for (const auto& [name, tensor] : weights_) y = matmul(y, tensor);
    return Tensors{y};
  };
  save(folder_ / "w.tenon", capture(fn, {{"x", f32, {1, kSide}}}, {.weights = weights_}), {.weights = weights_});
  expect_little_memory(folder_ / "w.safetensors", [](const fs::path& p) { (void)load_safetensors(p); });
  expect_little_memory(folder_ / "w.tenon", [](const fs::path& p) { (void)load(p); });
  expect_little_memory(folder_ / "w.gguf", [](const fs::path& p) { (void)load_gguf(p); });
}

// Quantised tensors stay in the file, or become f32 one piece after the other.
TEST_F(Memory, QuantisedTensors) {
  Gguf file;
  file.packed["q4"] = {.type = "Q4_0", .shape = {3072, 3072}, .rows = zeros({3072, 3072 / 32 * 18}, u8)};
  file.packed["q6"] = {.type = "Q6_K", .shape = {3072, 3072}, .rows = zeros({3072, 3072 / 256 * 210}, u8)};
  save_gguf(folder_ / "quantised.gguf", file);
  file.packed.clear();
  expect_little_memory(folder_ / "quantised.gguf",
                       [](const fs::path& p) { ASSERT_EQ(load_gguf(p, {.keep_packed = true}).packed.size(), 2U); });
  expect_little_memory(
      folder_ / "quantised.gguf", [](const fs::path& p) { ASSERT_EQ(load_gguf(p).tensors.size(), 2U); },
      size_t{2} * 3072 * 3072 * 4);
}

// A header that is not padded puts every element at an odd address.
TEST_F(Memory, SafeTensorsAtOddAddresses) {
  std::string header = R"({"w":{"dtype":"F32","shape":[3000,3000],"data_offsets":[0,36000000]}})";
  if (header.size() % 4 == 0) header += ' ';
  std::string file;
  put_bytes(file, header.size(), 8);
  expect_little_memory(write("odd.safetensors", file + header + noise(kBytes)), [](const fs::path& p) {
    const SafeTensors read = load_safetensors(p);
    ASSERT_EQ(read.tensors.at("w").size(), kSide * kSide);
  });
}

TEST_F(Memory, NumPy) {
  const std::string content = noise(kBytes);
  const auto bytes = std::as_bytes(std::span(content));
  data::HostArray array{f32, {kSide, kSide}, {bytes.begin(), bytes.end()}};
  data::write_npy(folder_ / "a.npy", array);
  data::write_npz(folder_ / "stored.npz", {{"a", array}});
  data::write_npz(folder_ / "deflated.npz", {{"a", array}}, true);
  const auto npy = [](const fs::path& p) { (void)data::to_tensor(data::read_npy(p)); };
  const auto npz = [](const fs::path& p) {
    for (data::NamedArrays arrays = data::read_npz(p); auto& [name, one] : arrays)
      (void)data::to_tensor(std::move(one));
  };
  expect_little_memory(folder_ / "a.npy", npy);
  expect_little_memory(folder_ / "stored.npz", npz);
  expect_little_memory(folder_ / "deflated.npz", npz);
  std::string fortran = read_text_file(folder_ / "a.npy");
  fortran.replace(fortran.find("False"), 5, "True ");
  expect_little_memory(write("fortran.npy", fortran), npy);
}

// Protobuf puts weights at any address. Older writers use float_data, one packed field, instead of raw_data.
TEST_F(Memory, Onnx) {
  const std::string content = noise(kBytes);
  onnx::ModelData model;
  model.ir_version = 8;
  model.opsets[""] = 17;
  model.graph.name = "g";
  onnx::NodeData node;
  node.op_type = "Identity";
  node.inputs = {"w0"};
  node.outputs = {"y"};
  model.graph.nodes = {node};
  onnx::ValueInfo output;
  output.name = "y";
  output.type.kind = onnx::TypeData::Kind::Tensor;
  output.type.element = onnx::DataType::Float;
  model.graph.outputs = {output};
  for (const char* name : {"w0", "w01", "w012", "w0123"}) {  // lengths, so that not all are aligned by chance
    onnx::TensorData w;
    w.name = name;
    w.type = onnx::DataType::Float;
    w.dims = {kSide, kSide / 4};
    w.raw = std::string_view(content).substr(0, kBytes / 4);
    w.has_raw = true;
    model.graph.initializers.push_back(w);
  }
  const auto load_it = [](const fs::path& p) { (void)onnx::Model::load(p); };
  std::string raw = serialize(model);
  expect_little_memory(write("raw.onnx", raw), load_it);
  // Field 9 (raw_data) of TensorProto becomes field 4 (float_data), which has the same bytes when it is packed.
  std::string tag("\x4a", 1);
  for (size_t size = kBytes / 4;; size >>= 7) {
    tag += static_cast<char>((size & 0x7fU) | (size > 0x7f ? 0x80U : 0U));
    if (size <= 0x7f) break;
  }
  size_t changed = 0;
  for (size_t at = raw.find(tag); at != std::string::npos; at = raw.find(tag, at + kBytes / 4), ++changed)
    raw[at] = 0x22;
  ASSERT_EQ(changed, 4U);
  const fs::path floats = write("float_data.onnx", raw);
  expect_little_memory(floats, load_it);
  const Tensor y = *onnx::Model::load(floats).run({})[0].tensor();
  EXPECT_EQ(std::memcmp(y.data<std::byte>().data(), content.data(), kBytes / 4), 0);
}

// Half precision as older writers put it: each number of 16 bits in int32_data, two or three bytes in the file.
TEST_F(Memory, OnnxHalvesAsIntegers) {
  constexpr int64_t kCount = kSide * kSide;
  std::string packed;
  for (int64_t i = 0; i < kCount; ++i)
    for (auto v = static_cast<unsigned>(i * 40503 % 0x7c00 + 128);; v >>= 7) {
      packed += static_cast<char>((v & 0x7fU) | (v > 0x7fU ? 0x80U : 0U));
      if (v <= 0x7fU) break;
    }
  const auto field = [](int number, const std::string& content) {
    std::string out(1, static_cast<char>(number << 3 | 2));
    for (size_t size = content.size();; size >>= 7) {
      out += static_cast<char>((size & 0x7fU) | (size > 0x7fU ? 0x80U : 0U));
      if (size <= 0x7fU) break;
    }
    return out + content;
  };
  // TensorProto: dims, data_type float16, name, int32_data; then the model around it.
  const std::string dims("\x08\xb8\x17\x08\xb8\x17", 6);  // 3000, 3000
  const std::string tensor = dims + "\x10\x0a" + field(8, "w") + field(5, packed);
  const std::string node = field(1, "w") + field(2, "y") + field(4, "Identity");
  const std::string graph = field(1, node) + field(2, "g") + field(5, tensor) + field(12, field(1, "y"));
  const fs::path path = write("halves.onnx", std::string("\x08\x08", 2) + field(7, graph) + field(8, "\x10\x11"));
  const Tensor w = *onnx::Model::load(path).run({})[0].tensor();
  ASSERT_EQ(w.type(), (TensorType{f16, {kSide, kSide}}));
  for (const int64_t i : {int64_t{0}, int64_t{1}, kCount / 2, kCount - 1}) {
    uint16_t bits = 0;
    std::memcpy(&bits, w.data<std::byte>().data() + 2 * i, 2);
    EXPECT_EQ(bits, i * 40503 % 0x7c00 + 128);
  }
  expect_little_memory(path, [](const fs::path& p) { (void)onnx::Model::load(p); });
}

TEST_F(Memory, PyTorch) {
  constexpr char kPickle[] =
      "\x80\x02\x63"
      "collections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wq\x02"
      "ctorch._utils\n_rebuild_tensor_v2\n"
      "q\x03((X\x07\x00\x00\x00storageq\x04"
      "ctorch\nFloatStorage\nq\x05X\x01\x00\x00\x00"
      "0q\x06X\x03\x00\x00\x00"
      "cpuq\x07"
      "J\x40\x54\x89\x00tq\x08QK\x00M\xb8\x0bM\xb8\x0b\x86q\x09M\xb8\x0bK\x01\x86q\x0a\x89h\x00)Rq\x0btq\x0cRq\x0ds.";
  const std::string pickle(kPickle, sizeof kPickle - 1);
  const auto read = [](const fs::path& p) { return load_torch(p); };
  const fs::path path = write("w.pt", stored_zip({{"w/data.pkl", pickle}, {"w/data/0", noise(kBytes)}}));
  ASSERT_EQ(read(path).at("w").size(), kSide * kSide);
  expect_little_memory(path, [&](const fs::path& p) { (void)read(p); });
}

// A published folder: the model is made without initial values, and its weights stay in the file.
TEST_F(Memory, PublishedFolders) {
  models::LlamaConfig config;
  config.vocab_size = kSide * 2;
  config.hidden_size = kSide;
  config.intermediate_size = 64;
  config.num_hidden_layers = 1;
  config.num_attention_heads = config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.tie_word_embeddings = true;
  // Saved by another process, so that nothing of the model is left in this one.
  if (const pid_t child = fork(); child == 0) {
    models::save_pretrained(models::Llama(config), folder_ / "llama", "llama");
    std::_Exit(0);
  } else {
    expect_success(child);
  }
  expect_little_memory(folder_ / "llama/model.safetensors", [](const fs::path& p) {
    ASSERT_EQ(models::load_llama(p.parent_path()).config.hidden_size, kSide);
  });
  // In half precision: the model computes in f32, twice the file, and nothing of the file stays beside it.
  fs::copy(folder_ / "llama", folder_ / "half", fs::copy_options::recursive);
  const fs::path half = folder_ / "half/model.safetensors";
  if (const pid_t child = fork(); child == 0) {
    StateDict narrow;
    for (const auto& [name, tensor] : load_safetensors(half).tensors) narrow.set(name, contiguous(cast(tensor, bf16)));
    save_safetensors(half, narrow);
    std::_Exit(0);
  } else {
    expect_success(child);
  }
  expect_little_memory(
      half, [](const fs::path& p) { ASSERT_EQ(models::load_llama(p.parent_path()).config.hidden_size, kSide); },
      2 * fs::file_size(half));
  const StateDict numbers = nn::state_dict(models::load_llama(folder_ / "half"));
  for (const auto& [name, tensor] : load_safetensors(half).tensors) {
    ASSERT_EQ(tensor.dtype(), bf16) << name;
    EXPECT_TRUE(std::ranges::equal(cast(tensor, f32).data<float>(), numbers.at(name).data<float>())) << name;
  }
}

TEST_F(Memory, Keras) {
  const std::string content = noise(kBytes);
  const auto h5 = [](const fs::path& p) { ASSERT_EQ(load_hdf5(p).tensors.at("a/b").size(), kSide * kSide); };
  expect_little_memory(write("aligned.h5", Hdf5Writer(0).file({"a", "b"}, content)), h5);
  expect_little_memory(write("odd.h5", Hdf5Writer(1).file({"a", "b"}, content)), h5);
  const std::string config = R"({"class_name": "Sequential", "config": {"name": "s", "layers": [)"
                             R"({"class_name": "Dense", "config": {"name": "d", "units": 3000, "use_bias": false}}]}})";
  const std::string weights = Hdf5Writer(0).file({"layers", "dense", "vars", "0"}, content);
  const fs::path keras = write("w.keras", stored_zip({{"config.json", config}, {"model.weights.h5", weights}}));
  EXPECT_EQ(models::KerasModel::load(keras).state_dict().at("d.0").size(), kSide * kSide);
  expect_little_memory(keras, [](const fs::path& p) { (void)models::KerasModel::load(p); });
}

}  // namespace
}  // namespace tenon::formats
