// The HDF5 reader: what h5py wrote in every form that is read (tools/goldens/hdf5_files.py), what is refused and how,
// and files that claim what they do not hold.
#include "tenon/formats/hdf5.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/formats/hdf5/bytes.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::error_text;

const fs::path kHdf5Goldens = TENON_SOURCE_DIR "/tests/formats/goldens/hdf5";

std::vector<fs::path> goldens() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(kHdf5Goldens))
    if (entry.path().extension() == ".h5") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

class Hdf5Golden : public testing::TestWithParam<fs::path> {};
INSTANTIATE_TEST_SUITE_P(Files, Hdf5Golden, testing::ValuesIn(goldens()),
                         [](const auto& info) { return info.param.stem().string(); });

TEST_P(Hdf5Golden, IsReadAsH5pyReadsIt) {
  const json expected = json::parse(read_text_file(fs::path(GetParam()).replace_extension(".json")));
  const Hdf5 file = load_hdf5(GetParam());
  EXPECT_EQ(file.tensors.size(), expected["tensors"].size());
  for (const auto& [name, want] : expected["tensors"].items()) {
    const Tensor* got = file.tensors.find(name);
    ASSERT_NE(got, nullptr) << name;
    EXPECT_EQ(tenon::name(got->dtype()), want["dtype"].get<std::string>()) << name;
    EXPECT_EQ(std::vector<int64_t>(got->shape().begin(), got->shape().end()), want["shape"].get<std::vector<int64_t>>())
        << name;
    std::vector<double> values;
    for (const auto& value : want["values"])
      values.push_back(value.is_boolean() ? value.get<bool>() : value.get<double>());
    EXPECT_THAT(got->to_vector<double>(), testing::Pointwise(testing::DoubleEq(), values)) << name;
  }
  EXPECT_EQ(json(file.attributes), expected["attributes"]);
}

// Without an owner everything is copied: the values must not depend on the file's memory.
TEST_P(Hdf5Golden, CopiesAreTheSame) {
  const Hdf5 mapped = load_hdf5(GetParam());
  std::vector<std::byte> bytes = read_file(GetParam());
  const Hdf5 copied = read_hdf5(bytes, "copy");
  std::fill(bytes.begin(), bytes.end(), std::byte{0xee});
  ASSERT_EQ(copied.tensors.size(), mapped.tensors.size());
  for (const auto& [name, tensor] : mapped.tensors)
    EXPECT_EQ(copied.tensors.at(name).to_vector(), tensor.to_vector()) << name;
}

TEST_P(Hdf5Golden, EveryCutIsNoticed) {
  const std::vector<std::byte> bytes = read_file(GetParam());
  for (size_t length = 0; length < bytes.size(); length += 1 + bytes.size() / 200) {
    EXPECT_THAT(error_text([&] { (void)read_hdf5(std::span(bytes).first(length), "cut.h5"); }),
                AllOf(HasSubstr("cut.h5"), HasSubstr("at byte")))
        << length;
  }
}

// Bits and numbers changed anywhere, with checksums and (so that the parsers behind them are reached) without.
TEST_P(Hdf5Golden, DamageIsATypedErrorOrAValue) {
  const std::vector<std::byte> bytes = read_file(GetParam());
  std::mt19937_64 random(11);
  for (int i = 0; i < 1500; ++i) {
    std::vector<std::byte> changed = bytes;
    for (uint64_t n = 1 + random() % 3; n > 0; --n) {
      const size_t at = random() % (changed.size() - 8);
      if (random() % 2 == 0) {
        changed[at] ^= std::byte{1} << random() % 8;
      } else {
        const uint64_t extremes[] = {~uint64_t{0}, uint64_t{1} << 62, 0x7fffffff, 0, random() % changed.size()};
        std::memcpy(changed.data() + at, &extremes[random() % 5], 1 + random() % 8);
      }
    }
    try {
      for (const auto& [name, tensor] :
           read_hdf5(changed, "damaged", nullptr, {.verify_checksums = i % 2 == 0}).tensors)
        EXPECT_EQ(tensor.to_vector().size(), static_cast<size_t>(tensor.size()));
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("damaged"));
    }
  }
}

TEST(Hdf5, DataInOnePieceStaysInTheFile) {
  const auto file = std::make_shared<const MappedFile>(kHdf5Goldens / "plain_earliest.h5");
  const Hdf5 read = read_hdf5(file->bytes(), "plain", file);
  const auto inside = [&](const std::string& name) {
    const std::byte* data = read.tensors.at(name).data<std::byte>().data();
    return data >= file->bytes().data() && data < file->bytes().data() + file->bytes().size();
  };
  EXPECT_TRUE(inside("types/f4"));
  EXPECT_TRUE(inside("types/u8"));
  EXPECT_FALSE(inside("types/big_f4")) << "must be copied to turn its bytes round";
  EXPECT_FALSE(inside("types/i8")) << "lies at an odd address";
}

// 400,000 chunks of one number, eleven of which were written: the index's blocks are cut into pages.
TEST(Hdf5, ChunksAreFoundThroughPagesOfAnIndexThatGrows) {
  const auto x = load_hdf5(kHdf5Goldens / "large/pages.h5").tensors.at("x").to_vector<int>();
  ASSERT_EQ(x.size(), 400000U);
  std::vector<std::pair<size_t, int>> written;
  for (size_t i = 0; i < x.size(); ++i)
    if (x[i] != -1) written.emplace_back(i, x[i]);
  const std::vector<std::pair<size_t, int>> want{{0, 0},      {3, 1},      {4, 2},      {131059, 3},
                                                 {131060, 4}, {132084, 5}, {133107, 6}, {140000, 7},
                                                 {262131, 8}, {262132, 9}, {399999, 10}};
  EXPECT_EQ(written, want);
}

TEST(Hdf5, WhatIsNotReadIsRefusedWithItsReason) {
  const auto text = [](const char* name) {
    const fs::path path = kHdf5Goldens / "refused" / name;
    return error_text([&] { (void)load_hdf5(path); });
  };
  EXPECT_THAT(text("lzf.h5"), AllOf(HasSubstr("the data set 'x' is packed by the filter 32000"), HasSubstr("gzip")));
  EXPECT_THAT(text("virtual.h5"), HasSubstr("put together from others"));
  EXPECT_THAT(text("elsewhere.h5"), HasSubstr("lies in another file"));
  EXPECT_THAT(error_text([] { (void)read_hdf5({}, "empty.h5"); }), HasSubstr("no HDF5 signature"));
}

TEST(Hdf5, ChecksumsAreThoseOfTheFormat) {
  // A superblock of version 2 ends with the checksum of what is before it; any other byte there is damage.
  std::vector<std::byte> bytes = read_file(kHdf5Goldens / "plain_latest.h5");
  bytes[11] ^= std::byte{1};  // the flags
  EXPECT_THAT(error_text([&] { (void)read_hdf5(bytes, "flags.h5"); }), HasSubstr("a checksum differs"));
  EXPECT_NO_THROW((void)read_hdf5(bytes, "flags.h5", nullptr, {.verify_checksums = false}));
}

TEST(Hdf5, ManyNamesForTheSameBytesDoNotCostMoreThanTheFileJustifies) {
  hdf5::Budget budget(1000);
  EXPECT_TRUE(budget.copy(2000));
  EXPECT_FALSE(budget.copy(1 << 20));
  EXPECT_TRUE(budget.expand(1'000'000));
  EXPECT_FALSE(budget.expand(1 << 20));
  EXPECT_FALSE(budget.work(~uint64_t{0}));
}

}  // namespace
}  // namespace tenon::formats
