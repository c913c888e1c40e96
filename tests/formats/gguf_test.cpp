// GGUF against the gguf package (goldens written by tools/goldens/gguf_files.py).
#include "tenon/formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/movement.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::formats {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using testing_support::error_text;

const std::filesystem::path kGoldens = TENON_SOURCE_DIR "/tests/formats/goldens";

void expect_tensors(const Gguf& file, const json& expected) {
  ASSERT_EQ(file.tensors.size(), expected.size());
  for (const auto& [name, entry] : expected.items()) {
    SCOPED_TRACE(name);
    const Tensor& tensor = file.tensors.at(name);
    const auto shape = entry[0].get<std::vector<std::int64_t>>();
    EXPECT_EQ(tensor.shape(), Shape(shape.begin(), shape.end()));
    const auto values = tensor.to_vector();
    ASSERT_EQ(values.size(), entry[1].size());
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], entry[1][i].get<double>()) << i;
  }
}

TEST(Gguf, EveryTypeEqualsTheReferenceBitForBit) {
  const Gguf file = load_gguf(kGoldens / "types.gguf");
  expect_tensors(file, json::parse(read_text_file(kGoldens / "types.gguf.json")));
  EXPECT_EQ(file.types.at("q4_k"), "Q4_K");
  EXPECT_EQ(file.types.at("f16"), "F16");
  EXPECT_EQ(file.tensors.at("f16").dtype(), DType::F16);
  EXPECT_EQ(std::get<std::int64_t>(file.find("test.count")->data), 7);
  EXPECT_EQ(std::get<std::int64_t>(file.find("test.small")->data), -3);
  EXPECT_EQ(std::get<double>(file.find("test.real")->data), 0.25);
  EXPECT_EQ(std::get<bool>(file.find("test.flag")->data), true);
  EXPECT_EQ(std::get<std::string>(file.find("test.text")->data), "größe");
  EXPECT_EQ(std::get<std::string>(std::get<GgufList>(file.find("test.list")->data)[2].data), "ü");
  EXPECT_EQ(std::get<std::int64_t>(std::get<GgufList>(file.find("test.numbers")->data)[1].data), -2);
  EXPECT_EQ(file.find("nothing"), nullptr);
}

// TENON_KEEP_SAVED=FOLDER keeps what is written, for tools/goldens/gguf_files.py --check FOLDER.
void keep(const std::string& path) {
  if (const char* folder = std::getenv("TENON_KEEP_SAVED"))
    std::filesystem::copy_file(path, std::filesystem::path(folder) / std::filesystem::path(path).filename(),
                               std::filesystem::copy_options::overwrite_existing);
}

TEST(Gguf, WhatIsWrittenIsReadAsTheSame) {
  const Gguf file = load_gguf(kGoldens / "types.gguf");
  const std::string path = testing_support::temp_folder() + "/again.gguf";
  save_gguf(path, file);
  keep(path);
  const Gguf again = load_gguf(path);
  expect_tensors(again, json::parse(read_text_file(kGoldens / "types.gguf.json")));
  ASSERT_EQ(again.metadata.size(), file.metadata.size());
  EXPECT_EQ(std::get<std::string>(again.find("test.text")->data), "größe");
  EXPECT_EQ(std::get<GgufList>(again.find("test.list")->data).size(), 3U);
}

TEST(Gguf, QuantisesAsTheReferenceDoes) {
  const json golden = json::parse(read_text_file(kGoldens / "q8_0.json"));
  const std::string path = testing_support::temp_folder() + "/q8.gguf";
  Gguf file;
  file.tensors.set("w", from_vector(golden["values"].get<std::vector<float>>(), {2, 64}));
  save_gguf(path, file, {.quantize = true});
  keep(path);
  const Gguf again = load_gguf(path);
  EXPECT_EQ(again.types.at("w"), "Q8_0");
  const auto values = again.tensors.at("w").to_vector();
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], golden["quantized"][i].get<double>()) << i;
}

TEST(Gguf, QuantisedTensorsCanBeKeptPacked) {
  const auto file = std::make_shared<const MappedFile>(kGoldens / "types.gguf");
  const Gguf numbers = read_gguf(file->bytes(), file, "types.gguf");
  const Gguf kept = read_gguf(file->bytes(), file, "types.gguf", true, {.keep_packed = true});
  ASSERT_EQ(kept.packed.size(), 4U);
  EXPECT_EQ(kept.tensors.size() + kept.packed.size(), numbers.tensors.size());
  for (const auto& [name, packed] : kept.packed) {
    SCOPED_TRACE(name);
    EXPECT_EQ(packed.type, kept.types.at(name));
    const std::byte* data = packed.rows.data<std::byte>().data();
    EXPECT_TRUE(data >= file->bytes().data() && data < file->bytes().data() + file->bytes().size()) << "was copied";
    const Tensor& want = numbers.tensors.at(name);
    EXPECT_EQ(unpack(packed).shape(), want.shape());
    EXPECT_EQ(unpack(packed).to_vector(), want.to_vector());
    const std::int64_t width = want.shape(-1), rows = want.size() / width;
    EXPECT_EQ(packed.rows.shape(0), rows);
    const auto last = unpack_rows(packed, rows - 1, 1);
    EXPECT_EQ(last.shape(), (Shape{1, width}));
    EXPECT_EQ(last.to_vector(), narrow(reshape(want, {rows, width}), 0, rows - 1, 1).to_vector());
    EXPECT_EQ(unpack_rows(packed, rows, 0).size(), 0);
    EXPECT_THAT(error_text<IndexError>([&] { (void)unpack_rows(packed, rows, 1); }), HasSubstr("no such rows"));
    EXPECT_THAT(error_text<IndexError>([&] { (void)unpack_rows(packed, -1, 1); }), HasSubstr("no such rows"));
  }
  const GgufPacked good = kept.packed.begin()->second;
  GgufPacked bad = good;
  bad.type = "Q5_0";
  EXPECT_THAT(error_text<ValueError>([&] { (void)unpack(bad); }), HasSubstr("not a quantised type"));
  bad = good;
  bad.shape.back() *= 2;
  EXPECT_THAT(error_text<ValueError>([&] { (void)unpack(bad); }), HasSubstr("the blocks do not fit"));
  bad.rows = Tensor();
  EXPECT_THAT(error_text<ValueError>([&] { (void)unpack_rows(bad, 0, 1); }), HasSubstr("got nothing"));
}

TEST(Gguf, PackedTensorsAreWrittenAsTheyWere) {
  const Gguf kept = load_gguf(kGoldens / "types.gguf", {.keep_packed = true});
  const std::string path = testing_support::temp_folder() + "/packed.gguf";
  save_gguf(path, kept);
  keep(path);
  const Gguf again = load_gguf(path, {.keep_packed = true});
  ASSERT_EQ(again.packed.size(), kept.packed.size());
  for (const auto& [name, packed] : kept.packed) {
    EXPECT_EQ(again.types.at(name), packed.type);
    EXPECT_EQ(again.packed.at(name).shape, packed.shape);
    EXPECT_EQ(again.packed.at(name).rows.to_vector(), packed.rows.to_vector()) << name;
  }
  expect_tensors(load_gguf(path), json::parse(read_text_file(kGoldens / "types.gguf.json")));
  Gguf twice = kept;
  twice.tensors.set(kept.packed.begin()->first, ones({2}));
  EXPECT_THAT(error_text<ValueError>([&] { save_gguf(path, twice); }), HasSubstr("there are two tensors"));
}

TEST(Gguf, ReadsPublishedFiles) {
  const std::filesystem::path folder = TENON_SHARED_DATA "/gguf_vocab/models";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "the shared test data is not there";
  const Gguf file = load_gguf(folder / "ggml-vocab-gpt-2.gguf");
  EXPECT_EQ(std::get<std::string>(file.find("tokenizer.ggml.model")->data), "gpt2");
  EXPECT_EQ(std::get<GgufList>(file.find("tokenizer.ggml.tokens")->data).size(), 50257U);
  for (const char* name : {"ggml-vocab-bert-bge.gguf", "ggml-vocab-llama-spm.gguf"})
    EXPECT_NE(load_gguf(folder / name).find("tokenizer.ggml.tokens"), nullptr);
}

TEST(Gguf, DamagedFilesAreTypedErrors) {
  const auto bytes = read_file(kGoldens / "types.gguf");
  for (std::size_t part = 0; part < 16; ++part)
    EXPECT_THROW((void)read_gguf(std::span(bytes).first(bytes.size() * part / 16), nullptr, "cut.gguf"), FormatError)
        << part;
  auto changed = bytes;
  changed[4] = std::byte{9};
  EXPECT_THAT(error_text<UnsupportedError>([&] { (void)read_gguf(changed, nullptr, "v.gguf"); }),
              HasSubstr("another version"));
  changed = bytes;
  const std::uint64_t many = std::uint64_t{1} << 60;
  std::memcpy(changed.data() + 8, &many, 8);  // the number of tensors
  EXPECT_THROW((void)read_gguf(changed, nullptr, "n.gguf"), Error);
  std::memcpy(changed.data() + 8, bytes.data() + 8, 8);
  std::memcpy(changed.data() + 24, &many, 8);  // the length of the first key
  EXPECT_THAT(error_text<FormatError>([&] { (void)read_gguf(changed, nullptr, "k.gguf"); }),
              HasSubstr("longer than the file"));
}

}  // namespace
}  // namespace tenon::formats
