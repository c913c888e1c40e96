// IDX against the official MNIST files and against its specification, plain and compressed.
#include "tenon/data/idx.h"

#include "tenon/data/gzip.h"
#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kHeader2x3("\0\0\x08\x02\0\0\0\x02\0\0\0\x03", 12);

TEST(Idx, ReadsEveryElementTypeBigEndian) {
  const auto read = [](const std::string& type, const std::string& elements) {
    return read_idx(bytes_of(std::string("\0\0", 2) + type + std::string("\x01\0\0\0\x02", 5) + elements), "x");
  };
  EXPECT_THAT(values_of<std::uint8_t>(read("\x08", "\x01\xff")), ElementsAre(1, 255));
  EXPECT_THAT(values_of<std::int8_t>(read("\x09", "\x01\xff")), ElementsAre(1, -1));
  EXPECT_THAT(values_of<std::int16_t>(read("\x0b", std::string("\x01\x02\xff\xfe", 4))), ElementsAre(258, -2));
  EXPECT_THAT(values_of<std::int32_t>(read("\x0c", std::string("\0\x01\0\0\xff\xff\xff\xff", 8))),
              ElementsAre(65536, -1));
  EXPECT_THAT(values_of<float>(read("\x0d", std::string("\x3f\x80\0\0\xc0\0\0\0", 8))), ElementsAre(1.0F, -2.0F));
  EXPECT_THAT(values_of<double>(read("\x0e", std::string("\x3f\xf0\0\0\0\0\0\0\xc0\0\0\0\0\0\0\0", 16))),
              ElementsAre(1.0, -2.0));
}

TEST(Idx, WritingAndReadingAgreeForAnyRank) {
  const auto scalar = array_of<std::uint8_t>({7}, {});
  EXPECT_EQ(read_idx(encode_idx(scalar), "x").bytes, scalar.bytes);
  const auto cube = array_of<float>({1, 2, 3, 4, 5, 6, 7, 8}, {2, 1, 2, 2});
  const auto back = read_idx(gzip(encode_idx(cube)), "x");
  EXPECT_EQ(back.bytes, cube.bytes);
  EXPECT_THAT(back.shape, ElementsAre(2, 1, 2, 2));
  EXPECT_EQ(read_idx(encode_idx(array_of<double>({}, {0, 5})), "x").size(), 0);
}

TEST(Idx, ReadsTheOfficialMnistFiles) {
  if (!std::filesystem::exists(shared("mnist"))) GTEST_SKIP() << "needs the shared MNIST files";
  const auto images = read_idx(shared("mnist/t10k-images-idx3-ubyte.gz"));
  EXPECT_THAT(images.shape, ElementsAre(10000, 28, 28));
  const auto labels = read_idx(shared("mnist/t10k-labels-idx1-ubyte.gz"));
  const auto first = values_of<std::uint8_t>(labels);
  EXPECT_THAT(std::vector(first.begin(), first.begin() + 8), ElementsAre(7, 2, 1, 0, 4, 1, 4, 9));
  // The well-known mean of the training images is 0.1307; of the test images it is 0.1325.
  double sum = 0;
  for (const std::uint8_t pixel : images.values<std::uint8_t>()) sum += pixel;
  EXPECT_NEAR(sum / double(images.size()) / 255, 0.1325, 0.0001);
}

TEST(Idx, BadInputIsAnErrorThatNamesFileAndOffset) {
  const auto error = [](const std::vector<std::byte>& bytes) {
    return error_text<FormatError>([&] { (void)read_idx(bytes, "a.idx"); });
  };
  EXPECT_EQ(error({}), "a.idx: the file ends inside the magic number at byte 0; expected 4 bytes, got 0 bytes");
  EXPECT_EQ(error(bytes_of("GIF89a")),
            "a.idx: not an IDX file: wrong magic number at byte 0; expected a file that starts with 00 00, a type code "
            "(08 09 0B 0C 0D 0E) and the rank, got 47 49 46 38");
  EXPECT_THAT(error(bytes_of(std::string("\0\0\x0a\x01", 4))), HasSubstr("got 00 00 0A 01")) << "no such type code";
  EXPECT_EQ(error(bytes_of(kHeader2x3.substr(0, 10))),
            "a.idx: the file ends inside the extents at byte 8; expected 4 bytes, got 2 bytes");
  EXPECT_EQ(error(bytes_of(kHeader2x3 + "12345")),
            "a.idx: the file is too short for its shape at byte 12; expected 6 bytes for u8 [2, 3], got at most 5 "
            "bytes\n  try: copy or download the file again");
  EXPECT_EQ(error(bytes_of(kHeader2x3 + "1234567")),
            "a.idx: bytes follow the elements at byte 18; expected the end of the file for shape [2, 3], got 1 more "
            "bytes");
  const std::string huge("\0\0\x0e\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16);
  EXPECT_THAT(error(bytes_of(huge)), HasSubstr("the shape is too large at byte 4; expected at most 68719476736 bytes"));
  EXPECT_THAT(error(gzip(bytes_of(huge))), HasSubstr("the shape is too large"));
}

TEST(Idx, DamagedCompressionIsAnError) {
  const auto error = [](const std::vector<std::byte>& bytes) {
    return error_text<FormatError>([&] { (void)read_idx(bytes, "a.idx.gz"); });
  };
  const auto whole = gzip(encode_idx(array_of<std::uint8_t>(std::vector<std::uint8_t>(6), {2, 3})));
  for (const std::size_t length :
       {std::size_t{2}, std::size_t{9}, whole.size() / 2, whole.size() - 8, whole.size() - 1}) {
    EXPECT_THAT(error({whole.begin(), whole.begin() + std::ptrdiff_t(length)}),
                HasSubstr("the gzip stream is truncated at byte " + std::to_string(length)));
  }
  auto checksum = whole;
  checksum[checksum.size() - 6] ^= std::byte{1};
  EXPECT_THAT(error(checksum), HasSubstr("the gzip stream is damaged at byte"));
  EXPECT_THAT(error(checksum), HasSubstr("incorrect data check"));
  auto longer = whole;
  longer.push_back(std::byte{'x'});
  EXPECT_THAT(error(longer), HasSubstr("bytes follow the gzip stream"));
  EXPECT_THAT(error(gzip(bytes_of(kHeader2x3 + "12345"))),
              HasSubstr("the decompressed file ends inside the elements at byte 17; expected 6 bytes for shape [2, 3], "
                        "got 5 bytes"));
  EXPECT_THAT(error(gzip(bytes_of(kHeader2x3 + "1234567"))), HasSubstr("bytes follow the elements"));
  EXPECT_THAT(error(gzip(bytes_of(std::string("\0\0\x08\x01\x7f\xff\xff\xff", 8)))),
              HasSubstr("the file is too short for its shape at byte 8; expected 2147483647 bytes"))
      << "refused before two gigabytes are allocated";
}

TEST(Idx, MissingFileAndForeignTypeAreTypedErrors) {
  EXPECT_THAT(error_text<FileError>([] { (void)read_idx("/nowhere/train-images-idx3-ubyte"); }),
              HasSubstr("/nowhere/train-images-idx3-ubyte: cannot open the file: No such file or directory"));
  EXPECT_EQ(error_text<DTypeError>([] { (void)encode_idx(array_of<std::int64_t>({1}, {1})); }),
            "encode_idx: IDX has no such element type; expected u8, i8, i16, i32, f32 or f64, got i64");
}

TEST(Gzip, RoundTripAndLimit) {
  const auto content = bytes_of(std::string(100000, 'a'));
  EXPECT_EQ(gunzip(gzip(content), "a.gz", 1 << 20), content);
  EXPECT_EQ(error_text<FormatError>([&] { (void)gunzip(gzip(content), "a.gz", 1000); }),
            "a.gz: the decompressed content is too large; expected at most 1000 bytes, got more\n"
            "  try: raise ReadLimits::max_bytes");
  auto two = gzip(bytes_of("ab"));
  const auto second = gzip(bytes_of("cd"));
  two.insert(two.end(), second.begin(), second.end());
  EXPECT_EQ(gunzip(two, "a.gz", 100), bytes_of("abcd")) << "members are concatenated, as gzip -d does";
}

}  // namespace
}  // namespace tenon::data::testing
