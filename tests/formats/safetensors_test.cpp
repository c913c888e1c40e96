// The golden files were written by the reference implementation: tools/goldens/safetensors_files.py.
#include "tenon/formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tests/support/temp_folder.h"

namespace tenon::formats {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string goldens = TENON_SOURCE_DIR "/tests/formats/goldens/";

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

// A file with this header and `elements` zero bytes behind it.
std::string file_with(const std::string& header, std::size_t elements = 0) {
  std::string out;
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  return out + header + std::string(elements, '\0');
}

std::string error_of(const std::string& file) {
  try {
    (void)read_safetensors(bytes_of(file), nullptr, "w.safetensors");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}

TEST(SafeTensors, ReadsTheReferenceFile) {
  const auto file = load_safetensors(goldens + "all.safetensors");
  EXPECT_THAT(file.metadata, ElementsAre(testing::Pair("format", "np")));
  EXPECT_EQ(file.tensors.size(), 15u);
  const auto& t = file.tensors;
  EXPECT_EQ(t.at("layer.weight").type(), (TensorType{f32, {2, 3}}));
  EXPECT_THAT(t.at("layer.weight").to_vector(), ElementsAre(0, 0.25, 0.5, 0.75, 1, 1.25));
  EXPECT_THAT(t.at("layer.bias").to_vector(), ElementsAre(-1.5, 0, 2.5));
  EXPECT_THAT(t.at("a.bool").to_vector(), ElementsAre(1, 0, 1));
  EXPECT_THAT(t.at("counts").to_vector<int64_t>(), ElementsAre(1, -2, 3));
  EXPECT_THAT(t.at("bytes").to_vector(), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(t.at("signed").to_vector(), ElementsAre(-128, 127));
  EXPECT_THAT(t.at("half").to_vector(), ElementsAre(0.5, -2));
  EXPECT_THAT(t.at("short").to_vector(), ElementsAre(-3, 3));
  EXPECT_THAT(t.at("ushort").to_vector(), ElementsAre(65535));
  EXPECT_EQ(t.at("ints").shape(), (Shape{1, 1}));
  EXPECT_THAT(t.at("uints").to_vector(), ElementsAre(4294967295.0));
  EXPECT_THAT(t.at("ulongs").to_vector<uint64_t>(), ElementsAre(~uint64_t{0}));
  EXPECT_EQ(t.at("scalar").shape(), Shape{});
  EXPECT_EQ(t.at("scalar").item(), 3.25);
  EXPECT_EQ(t.at("empty").shape(), (Shape{0, 4}));
  EXPECT_EQ(t.at("größe").item(), 1);
}

TEST(SafeTensors, ReadsLowPrecisionFloats) {
  const auto t = load_safetensors(goldens + "low_precision.safetensors").tensors;
  EXPECT_THAT(t.at("b").to_vector(), ElementsAre(1, -2.5));
  EXPECT_THAT(t.at("e4m3").to_vector(), ElementsAre(1, -3));
  EXPECT_THAT(t.at("e5m2").to_vector(), ElementsAre(1.5));
}

TEST(SafeTensors, WritesTheBytesOfTheReference) {
  for (const std::string name : {"all.safetensors", "low_precision.safetensors"}) {
    const auto file = load_safetensors(goldens + name);
    const std::string copy = testing_support::temp_folder() + "/" + name;
    save_safetensors(copy, file.tensors, file.metadata);
    EXPECT_EQ(read_file(copy), read_file(goldens + name)) << name;
  }
}

TEST(SafeTensors, TensorsPointIntoTheFileAndOutliveIt) {
  const std::string path = testing_support::temp_folder() + "/big.safetensors";
  save_safetensors(path, {{"w", from_vector(std::vector<float>(1 << 20, 0.5f), {1024, 1024})}});
  const int64_t before = memory_stats().current;
  Tensor w = load_safetensors(path).tensors.at("w");
  EXPECT_LT(memory_stats().current - before, 4096) << "the elements were copied";
  EXPECT_FALSE(w.impl()->buffer->writable());
  std::filesystem::remove(path);  // the mapping stays
  EXPECT_EQ(w.to_vector<float>().back(), 0.5f);
}

TEST(SafeTensors, UnalignedElementsAreCopied) {
  // A header of odd length, as early writers made them.
  std::string file = file_with(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} )");
  const float value = 1.5f;
  file.append(reinterpret_cast<const char*>(&value), 4);
  const auto owner = std::make_shared<const std::string>(file);
  const auto t = read_safetensors(bytes_of(*owner), owner, "w").tensors;
  EXPECT_EQ(t.at("x").item(), 1.5);
}

TEST(SafeTensors, AnEmptyFileOfTensorsRoundTrips) {
  const std::string path = testing_support::temp_folder() + "/none.safetensors";
  save_safetensors(path, {}, {{"a", "1"}, {"b", "zwei ü"}});
  const auto file = load_safetensors(path);
  EXPECT_TRUE(file.tensors.empty());
  EXPECT_EQ(file.metadata.at("b"), "zwei ü");
}

struct BadFile {
  std::string name;
  std::string file;
  std::string message;  // what the text must hold
};
// A one-tensor header with these fields.
std::string one(const std::string& fields) { return "{\"x\":{" + fields + "}}"; }

const std::vector<BadFile>& bad_files() {
  static const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  static const std::vector<BadFile> list{
      {"Empty", "", "truncated: no header size at byte 0; expected 8 bytes, got 0 bytes"},
      {"HugeHeader", std::string(8, '\x7f'), "the header size at byte 0 is too large; expected at most 100000000"},
      {"HeaderPastEnd", std::string("\x20\0\0\0\0\0\0\0{}", 10),
       "truncated: the header at byte 8 goes past the end of the file; expected 32 bytes, got 2 bytes"},
      {"NotAnObject", file_with("[1,2,3]"), "the header at byte 8 does not begin with '{'"},
      {"NotJson", file_with("{\"x\": nope}"), "the header is not JSON in UTF-8 (near byte"},
      {"BadUtf8", file_with("{\"\xff\xfe\": {}}"), "the header is not JSON in UTF-8"},
      {"Truncated", file_with(one(good), 7),
       "truncated: tensor \"x\" goes past the end of the file (its entry is at byte 9); expected 8 bytes of elements, "
       "got 7"},
      {"TrailingBytes", file_with(one(good), 9), "1 bytes after the last tensor at byte"},
      {"Hole", file_with(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), 8),
       "a hole of 4 bytes before tensor \"x\""},
      {"Overlap",
       file_with(
           R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
           6),
       "tensor \"y\" overlaps another at byte"},
      {"Twice", file_with("{\"x\":{" + good + "},\"x\":{" + good + "}}", 8), "the header has \"x\" twice"},
      {"FieldTwice", file_with(one(good + R"(,"dtype":"F32")"), 8), "the header has \"dtype\" twice"},
      {"NoDtype", file_with(one(R"("shape":[2],"data_offsets":[0,8])"), 8),
       "tensor \"x\" has no dtype (its entry is at byte 9)"},
      {"NoShape", file_with(one(R"("dtype":"F32","data_offsets":[0,8])"), 8), "tensor \"x\" has no shape"},
      {"NoOffsets", file_with(one(R"("dtype":"F32","shape":[2])"), 8), "tensor \"x\" has no data_offsets"},
      {"UnknownDtype", file_with(one(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), 8),
       "tensor \"x\": unknown dtype (its entry is at byte 9); expected F32, F16, BF16, I64 or another of the format's, "
       "got \"F33\""},
      {"NegativeExtent", file_with(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8),
       "tensor \"x\": shape is not a list of non-negative integers (its entry is at byte 9); got -2"},
      {"FractionalExtent", file_with(one(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), 8),
       "shape is not a list of non-negative integers"},
      {"ShapeOverflow", file_with(one(R"("dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8])"), 8),
       "tensor \"x\": the shape is too large"},
      {"NumberOverflow", file_with(one(R"("dtype":"F32","shape":[1e999],"data_offsets":[0,8])"), 8),
       "the header at byte 8 is not JSON that can be read"},
      {"EmptyButHuge", file_with(one(R"("dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0])")),
       "tensor \"x\": the shape is too large"},
      {"SizeMismatch", file_with(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8),
       "tensor \"x\": shape and data_offsets disagree (its entry is at byte 9); expected 12 bytes for f32[3], got 8 "
       "bytes"},
      {"BackwardOffsets", file_with(one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8),
       "tensor \"x\" ends before it begins (its entry is at byte 9); got [8,0]"},
      {"OneOffset", file_with(one(R"("dtype":"F32","shape":[2],"data_offsets":[8])"), 8),
       "tensor \"x\": data_offsets is not a pair (its entry is at byte 9); expected [begin, end], got [8]"},
      {"HugeOffset", file_with(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615])"), 8),
       "data_offsets is not a list of non-negative integers"},
      {"MetadataNotText", file_with(R"({"__metadata__":{"a":1}})"), "__metadata__: \"a\" is not a text; got 1"},
      {"MetadataNotObject", file_with(R"({"__metadata__":[]})"), "__metadata__ is not an object of texts; got []"},
      {"TensorNotObject", file_with(R"({"x":7})"), "tensor \"x\" is not an object (its entry is at byte 9); got 7"},
      {"DeepNesting", file_with("{\"x\":" + std::string(100000, '[')), "the header is nested too deeply"},
      {"BadBool", file_with(R"({"m":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})") + "\x02",
       "tensor \"m\" holds a bool that is neither 0 nor 1 at byte"},
  };
  return list;
}

class BadSafeTensors : public testing::TestWithParam<BadFile> {};

TEST_P(BadSafeTensors, IsAFormatErrorThatSaysWhere) {
  const auto text = error_of(GetParam().file);
  EXPECT_THAT(text, HasSubstr(GetParam().message));
  EXPECT_THAT(text, testing::StartsWith("w.safetensors: "));
}

INSTANTIATE_TEST_SUITE_P(All, BadSafeTensors, testing::ValuesIn(bad_files()),
                         [](const auto& info) { return info.param.name; });

TEST(SafeTensors, ADtypeThatTenonHasNotIsUnsupported) {
  const auto file = file_with(R"({"z":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}})", 8);
  EXPECT_THROW((void)read_safetensors(bytes_of(file), nullptr, "w"), UnsupportedError);
}

TEST(SafeTensors, SavingRefusesWhatTheFormatHasNot) {
  const std::string path = testing_support::temp_folder() + "/refused.safetensors";
  EXPECT_THROW(save_safetensors(path, {{"x", empty({4}, i4)}}), UnsupportedError);
  EXPECT_THROW(save_safetensors(path, {{"\xff", empty({4}, f32)}}), ValueError);
  EXPECT_THROW(save_safetensors(path, {{"x", Tensor()}}), ValueError);
  EXPECT_THROW(save_safetensors(path, {{"__metadata__", empty({4}, f32)}}), ValueError);
  EXPECT_THROW(save_safetensors("/no/such/folder/x.safetensors", {}), FileError);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(SafeTensors, MutatedFilesNeverCrash) {
  const std::string original = read_text_file(goldens + "all.safetensors");
  std::mt19937_64 random(7);
  int read = 0;
  for (int round = 0; round < 30000; ++round) {
    auto mutated = std::make_shared<std::string>(original);
    for (std::uint64_t change = 0; change <= random() % 4; ++change) {
      const std::size_t at = random() % (random() % 2 != 0 ? mutated->size() : 960);
      switch (random() % 4) {
        case 0:
          (*mutated)[at] = static_cast<char>(random());
          break;
        case 1:
          (*mutated)[at] = "0123456789{}[]\",:-"[random() % 18];
          break;
        case 2:
          mutated->erase(at, 1 + random() % 3);
          break;
        default:
          mutated->insert(at, mutated->substr(random() % mutated->size(), 1 + random() % 8));
          break;
      }
      if (mutated->size() < 961) mutated->resize(961);
    }
    try {
      for (const auto& [name, tensor] : read_safetensors(bytes_of(*mutated), mutated, "w").tensors)
        (void)tensor.to_vector();
      ++read;
    } catch (const FormatError&) {
    } catch (const UnsupportedError&) {
    }
  }
  EXPECT_GT(read, 100);  // changes of elements or names leave a good file
}

}  // namespace
}  // namespace tenon::formats
