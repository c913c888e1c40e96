// PNG and JPEG against the pixels that Pillow decodes from the same files (tools/goldens/data_files.py).
#include "tenon/data/image.h"

#include <cstdlib>

#include "tenon/data/npy.h"
#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

int largest_difference(const HostArray& a, const HostArray& b) {
  if (a.shape != b.shape) return 1000;
  int largest = 0;
  for (std::size_t i = 0; i < a.bytes.size(); ++i) {
    largest = std::max(largest, std::abs(std::to_integer<int>(a.bytes[i]) - std::to_integer<int>(b.bytes[i])));
  }
  return largest;
}

TEST(Png, EveryKindEqualsPillow) {
  for (const char* name :
       {"rgb.png", "rgba.png", "grey.png", "grey_alpha.png", "grey1.png", "palette.png", "grey16.png"}) {
    const auto expected = read_npy(golden(std::string(name) + ".npy"));
    EXPECT_EQ(largest_difference(read_image(golden(name)), expected), 0) << name;
  }
}

TEST(Jpeg, EveryKindIsWithinOneStepOfPillow) {
  for (const char* name : {"rgb.jpg", "rgb444.jpg", "progressive.jpg", "grey.jpg"}) {
    const auto expected = read_npy(golden(std::string(name) + ".npy"));
    EXPECT_LE(largest_difference(read_image(golden(name)), expected), 1) << name;
  }
}

TEST(Jpeg, ReadsPhotographs) {
  const auto path = shared("torchserve/examples/image_classifier/kitten.jpg");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs the shared photographs";
  const auto image = read_image(path);
  ASSERT_EQ(image.shape.size(), 3U);
  EXPECT_GT(image.shape[0], 100);
  EXPECT_EQ(image.shape[2], 3);
}

TEST(Image, ChannelsConvert) {
  const auto grey = read_image(golden("rgb.png"), {.channels = 1, .limits = {}});
  EXPECT_LE(largest_difference(grey, read_npy(golden("rgb_to_grey.npy"))), 0) << "Pillow's convert('L')";
  EXPECT_EQ(read_image(golden("grey.jpg"), {.channels = 3, .limits = {}}).shape[2], 3);
  const auto opaque = read_image(golden("rgb.png"), {.channels = 4, .limits = {}});
  EXPECT_EQ(opaque.bytes[3], std::byte{255});
  EXPECT_THAT(error_text<ValueError>([] { (void)read_image(golden("rgb.png"), {.channels = 7, .limits = {}}); }),
              HasSubstr("channels is not accepted; expected 0, 1, 3 or 4, got 7"));
}

std::string format_error(const std::vector<std::byte>& bytes, ImageOptions options = {}) {
  return error_text<FormatError>([&] { (void)decode_image(bytes, "photo", options); });
}

TEST(Image, AnythingElseIsAnErrorThatNamesTheFirstBytes) {
  EXPECT_EQ(format_error(bytes_of("GIF89a")),
            "photo: not an image that can be read at byte 0; expected a PNG (89 50 4E 47) or JPEG (FF D8 FF) file, got "
            "47 49 46 38\n  try: convert it to PNG");
  EXPECT_THAT(format_error({}), HasSubstr("got an empty file"));
  EXPECT_THAT(error_text<FileError>([] { (void)read_image("/nowhere/a.png"); }),
              HasSubstr("/nowhere/a.png: cannot open"));
}

TEST(Png, TruncationAnywhereIsAnError) {
  const auto whole = read_file(golden("rgb.png"));
  for (std::size_t length = 8; length < whole.size(); ++length) {
    EXPECT_THAT(format_error({whole.begin(), whole.begin() + std::ptrdiff_t(length)}),
                AnyOf(HasSubstr("photo: damaged PNG file at byte"), HasSubstr("the file is too short for its size")))
        << length;
  }
}

TEST(Png, DamageIsAnError) {
  auto bytes = read_file(golden("rgb.png"));
  bytes[50] ^= std::byte{0x10};  // in the pixels
  EXPECT_THAT(format_error(bytes), HasSubstr("damaged PNG file at byte"));
  bytes = read_file(golden("rgb.png"));
  bytes[18] ^= std::byte{1};  // the width: its checksum tells
  EXPECT_THAT(format_error(bytes), HasSubstr("CRC error"));
  EXPECT_THAT(format_error(read_file(golden("rgb.png")), {.channels = 0, .limits = {.max_pixels = 100}}),
              HasSubstr("photo: the image's size is not accepted; expected 1 to 100 pixels, got 13 x 9"));
}

TEST(Jpeg, TruncationAnywhereIsAnError) {
  for (const char* name : {"rgb.jpg", "progressive.jpg"}) {
    const auto whole = read_file(golden(name));
    for (std::size_t length = 4; length + 2 < whole.size(); ++length) {
      EXPECT_THAT(format_error({whole.begin(), whole.begin() + std::ptrdiff_t(length)}),
                  HasSubstr("photo: damaged JPEG file at byte"))
          << name << " " << length;
    }
  }
}

TEST(Jpeg, DamageIsAnError) {
  auto bytes = read_file(golden("rgb.jpg"));
  const auto zeros = bytes.begin() + std::ptrdiff_t(bytes.size()) - 60;
  std::fill(zeros, zeros + 20, std::byte{0xff});
  EXPECT_THAT(format_error(bytes), HasSubstr("photo: damaged JPEG file at byte"));
  EXPECT_THAT(error_text<UnsupportedError>([] { (void)read_image(golden("cmyk.jpg")); }),
              HasSubstr("cmyk.jpg: CMYK images cannot be decoded; expected a grey or colour (YCbCr, RGB) JPEG, got 4 "
                        "components"));
  EXPECT_THAT(format_error(read_file(golden("rgb.jpg")), {.channels = 0, .limits = {.max_pixels = 100}}),
              HasSubstr("the image's size is not accepted"));
}

}  // namespace
}  // namespace tenon::data::testing
