// Files of torch.save (goldens written by tools/goldens/torch_files.py).
#include "tenon/formats/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/tensor/tensor.h"
#include "tests/support/error_text.h"

namespace tenon::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing_support::error_text;

const std::filesystem::path kGoldens = TENON_SOURCE_DIR "/tests/formats/goldens";

TEST(TorchFile, HoldsTheTensorsThatWereSaved) {
  const StateDict weights = load_torch(kGoldens / "plain.pt");
  EXPECT_THAT(weights.keys(), ElementsAre("fc.weight", "fc.bias", "half", "bf16", "count", "mask", "bytes", "view",
                                          "transposed", "row", "empty"));
  EXPECT_EQ(weights["fc.weight"].shape(), (Shape{3, 4}));
  EXPECT_EQ(weights["fc.weight"].to_vector()[5], 1.25);
  EXPECT_EQ(weights["fc.bias"].dtype(), DType::F64);
  EXPECT_THAT(weights["fc.bias"].to_vector(), ElementsAre(1.5, -2.0));
  EXPECT_EQ(weights["half"].dtype(), DType::F16);
  EXPECT_EQ(weights["bf16"].dtype(), DType::BF16);
  EXPECT_THAT(weights["bf16"].to_vector(), ElementsAre(1.0, -2.5));
  EXPECT_EQ(weights["count"].shape(), Shape{});
  EXPECT_THAT(weights["count"].to_vector(), ElementsAre(7));
  EXPECT_THAT(weights["mask"].to_vector(), ElementsAre(1, 0));
  EXPECT_THAT(weights["bytes"].to_vector(), ElementsAre(1, 255));
  EXPECT_THAT(weights["transposed"].to_vector(), ElementsAre(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
  EXPECT_THAT(weights["row"].to_vector(), ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(weights["empty"].shape(), (Shape{0, 3}));
}

TEST(TorchFile, NamesAreThePathsOfKeys) {
  EXPECT_THAT(load_torch(kGoldens / "nested.pt").keys(), ElementsAre("model.w", "list.0", "list.2.0"));
  EXPECT_THAT(load_torch(kGoldens / "nested.pt", "model").keys(), ElementsAre("w"));
}

TEST(TorchFile, APickleThatWantsToRunSomethingIsRefused) {
  std::filesystem::remove("/tmp/tenon-was-here");
  EXPECT_THAT(error_text<UnsupportedError>([] { (void)load_torch(kGoldens / "evil.pt"); }),
              HasSubstr("the pickle asks for 'posix.system'"));
  EXPECT_FALSE(std::filesystem::exists("/tmp/tenon-was-here"));
}

TEST(TorchFile, DamagedFilesAreTypedErrors) {
  EXPECT_THAT(error_text<FormatError>([] { (void)load_torch(kGoldens / "beyond.pt"); }),
              HasSubstr("a tensor reaches beyond its storage"));
  const auto bytes = read_file(kGoldens / "plain.pt");
  for (std::size_t part = 0; part < 16; ++part)
    EXPECT_THROW((void)read_torch(std::span(bytes).first(bytes.size() * part / 16), "cut.pt"), FormatError);
  const std::vector<std::byte> legacy{std::byte{0x80}, std::byte{2}, std::byte{0x8a}, std::byte{10}};
  EXPECT_THAT(error_text<UnsupportedError>([&] { (void)read_torch(legacy, "old.pt"); }), HasSubstr("before 2020"));
  EXPECT_THROW((void)load_torch(kGoldens / "missing.pt"), FileError);
}

}  // namespace
}  // namespace tenon::formats
