// NPY and NPZ against files that NumPy wrote (tools/goldens/data_files.py).
#include "tenon/data/npy.h"

#include <zlib.h>

#include <bit>

#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A version 1 file with this header text and these elements.
std::vector<std::byte> npy(const std::string& header, const std::string& elements = "") {
  std::string text("\x93NUMPY\x01\0", 8);
  text += static_cast<char>(header.size() & 0xff);
  text += static_cast<char>(header.size() >> 8);
  return bytes_of(text + header + elements);
}

std::string format_error(const std::vector<std::byte>& bytes) {
  return error_text<FormatError>([&] { (void)read_npy(bytes, "a.npy"); });
}
std::string unsupported(const std::filesystem::path& path) {
  return error_text<UnsupportedError>([&] { (void)read_npy(path); });
}

template <class T>
std::vector<double> doubles(const HostArray& array) {
  std::vector<double> result;
  for (const T value : array.values<T>()) result.push_back(static_cast<double>(value));
  return result;
}

std::vector<double> as_doubles(const HostArray& array) {
  switch (array.dtype) {
    case DType::U8:
      return doubles<std::uint8_t>(array);
    case DType::U16:
      return doubles<std::uint16_t>(array);
    case DType::U32:
      return doubles<std::uint32_t>(array);
    case DType::U64:
      return doubles<std::uint64_t>(array);
    case DType::I8:
      return doubles<std::int8_t>(array);
    case DType::I16:
      return doubles<std::int16_t>(array);
    case DType::I32:
      return doubles<std::int32_t>(array);
    case DType::I64:
      return doubles<std::int64_t>(array);
    case DType::F32:
      return doubles<float>(array);
    case DType::F64:
      return doubles<double>(array);
    default:
      return {};
  }
}

// NumPy's bits of float16(-8) … float16(15).
std::uint16_t half_bits(int value) {
  if (value == 0) return 0;
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000U) | (((bits >> 23 & 0xffU) - 112) << 10) |
                                    (bits >> 13 & 0x3ffU));
}

TEST(Npy, EveryTypeByteOrderAndMemoryOrderThatNumpyWrites) {
  const auto arrays = read_npz(golden("npy_variants.zip"));
  EXPECT_EQ(arrays.size(), 2U * (12 + 9));
  for (const auto& [name, array] : arrays) {
    SCOPED_TRACE(name);
    EXPECT_THAT(array.shape, ElementsAre(2, 3, 4));
    std::vector<double> expected;
    const int start = name.front() == 'i' || name.front() == 'f' ? -8 : 0;
    for (int i = 0; i < 24; ++i) expected.push_back(start + i);
    if (array.dtype == DType::Bool) {
      for (std::size_t i = 0; i < 24; ++i) EXPECT_EQ(array.bytes[i], std::byte(i % 2));
    } else if (array.dtype == DType::F16) {
      for (int i = 0; i < 24; ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, array.bytes.data() + 2 * i, 2);
        EXPECT_EQ(bits, half_bits(start + i));
      }
    } else {
      EXPECT_EQ(as_doubles(array), expected);
    }
  }
}

TEST(Npy, VersionsScalarsAndEmptyArrays) {
  for (const char* name : {"v1.npy", "v2.npy", "v3.npy"}) {
    const auto array = read_npy(golden(name));
    EXPECT_THAT(array.shape, ElementsAre(2, 3));
    EXPECT_THAT(values_of<std::int32_t>(array), ElementsAre(0, 1, 2, 3, 4, 5));
  }
  EXPECT_TRUE(read_npy(golden("scalar.npy")).shape.empty());
  EXPECT_THAT(values_of<float>(read_npy(golden("scalar.npy"))), ElementsAre(2.5F));
  EXPECT_THAT(read_npy(golden("empty.npy")).shape, ElementsAre(0, 3));
  EXPECT_THAT(
      read_npy(npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2L,), }\n", std::string(16, '\0')), "x").shape,
      ElementsAre(2))
      << "Python 2 wrote 2L";
}

TEST(Npy, WhatIsWrittenEqualsNumpysFileByteForByte) {
  for (const char* name : {"v1.npy", "scalar.npy", "vector.npy", "empty.npy"}) {
    EXPECT_EQ(encode_npy(read_npy(golden(name))), read_file(golden(name))) << name;
  }
  const TemporaryFolder folder;
  const auto array = array_of<std::uint16_t>({1, 2, 65535}, {3, 1});
  write_npy(folder / "a.npy", array);
  EXPECT_EQ(read_npy(folder / "a.npy").bytes, array.bytes);
}

TEST(Npy, AnyByteButZeroIsTrue) {
  const auto array =
      read_npy(npy("{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }\n", std::string("\0\x02\xff", 3)), "x");
  EXPECT_THAT(array.bytes, ElementsAre(std::byte{0}, std::byte{1}, std::byte{1}));
}

TEST(Npy, WhatATensorCannotHoldIsUnsupportedWithAWayOut) {
  EXPECT_EQ(
      unsupported(golden("object.npy")),
      golden("object.npy").string() +
          ": arrays of object elements cannot become tensors at byte 19; expected bool, an integer or a float type, "
          "got "
          "'|O'\n  try: np.save(path, np.asarray(a, dtype=np.float32)): objects are pickles, which are not opened");
  EXPECT_THAT(unsupported(golden("structured.npy")),
              HasSubstr("a structured array (with named fields) is not a tensor"));
  EXPECT_THAT(unsupported(golden("complex.npy")), HasSubstr("arrays of complex elements"));
  EXPECT_THAT(unsupported(golden("text.npy")), HasSubstr("arrays of text elements"));
  EXPECT_THAT(unsupported(golden("date.npy")), HasSubstr("try: a.astype('int64')"));
  for (const char* name : {"py2-objarr.npy", "py2-np0-objarr.npy", "py3-objarr.npy"}) {
    const auto path = shared("numpy_testdata/numpy/lib/tests/data") / name;
    if (!std::filesystem::exists(path)) continue;
    EXPECT_THAT(unsupported(path), HasSubstr("objects are pickles")) << name;
  }
  for (const char* name : {"py2-objarr.npz", "py3-objarr.npz"}) {
    const auto path = shared("numpy_testdata/numpy/lib/tests/data") / name;
    if (!std::filesystem::exists(path)) continue;
    EXPECT_THAT(error_text<UnsupportedError>([&] { (void)read_npz(path); }), HasSubstr(".npz:x.npy: arrays of object"));
  }
}

TEST(Npy, BadHeadersAreFormatErrors) {
  EXPECT_EQ(format_error({}), "a.npy: the file ends inside the magic number at byte 0; expected 6 bytes, got 0 bytes");
  EXPECT_EQ(
      format_error(bytes_of("PK\x03\x04 zip file")),
      "a.npy: not an NPY file: wrong magic number at byte 0; expected 93 4E 55 4D 50 59 (\\x93NUMPY), got 50 4B 03 "
      "04 20 7A");
  EXPECT_EQ(format_error(bytes_of(std::string("\x93NUMPY\x04\0\0\0", 10))),
            "a.npy: unknown NPY version at byte 6; expected 1.0, 2.0 or 3.0, got 4.0");
  EXPECT_EQ(format_error(bytes_of(std::string("\x93NUMPY\x01\0\x76\0{'descr'", 18))),
            "a.npy: the file ends inside the header at byte 10; expected 118 bytes, got 8 bytes");
  EXPECT_EQ(format_error(bytes_of(std::string("\x93NUMPY\x02\0\xff\xff\xff\x7f", 12))),
            "a.npy: the header is too long at byte 12; expected at most 65536 bytes, got 2147483647 bytes");
  EXPECT_THAT(format_error(npy("{'descr': '<f4', 'shape': (1,)}")), HasSubstr("the header is incomplete"));
  EXPECT_THAT(format_error(npy("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}")),
              HasSubstr("'fortran_order' is not a truth value at byte 44; expected True or False"));
  EXPECT_THAT(format_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}")),
              HasSubstr("an extent in 'shape' is not accepted"));
  EXPECT_THAT(format_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'evil': 1}")),
              HasSubstr("unexpected key"));
  EXPECT_THAT(format_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} + __import__('os')")),
              HasSubstr("text follows the header's dictionary"));
  EXPECT_THAT(format_error(npy("{'descr': '<f4")), HasSubstr("a string in the header does not end"));
  EXPECT_THAT(format_error(npy("cos\nsystem\n")), HasSubstr("the header is not a dictionary as NumPy writes it"));
  EXPECT_THAT(format_error(npy("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}")), HasSubstr("'<f3'"));
  EXPECT_THAT(format_error(npy("{'descr': '<q9', 'fortran_order': False, 'shape': (1,)}")),
              HasSubstr("the header names an unknown element type"));
}

TEST(Npy, LengthsThatDoNotFitAreFormatErrors) {
  const std::string four = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}";
  EXPECT_EQ(format_error(npy(four, std::string(15, 'x'))),
            "a.npy: the file ends inside the elements of [2, 2] at byte 67; expected 16 bytes, got 15 bytes");
  EXPECT_THAT(format_error(npy(four, std::string(17, 'x'))), HasSubstr("bytes follow the elements at byte 83"));
  EXPECT_THAT(format_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}")),
              HasSubstr("the shape is too large"));
  EXPECT_THAT(format_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}")),
              HasSubstr("an extent in 'shape' is not accepted"));
}

TEST(Npy, TypesWithoutANameAreNotWritten) {
  EXPECT_EQ(error_text<DTypeError>([] { (void)encode_npy({DType::BF16, {1}, std::vector<std::byte>(2)}); }),
            "write_npy: NPY has no such element type; expected bool, an integer, f16, f32 or f64, got bf16\n"
            "  try: cast to f32, or save as SafeTensors");
}

TEST(Npz, ReadsStoredAndDeflatedArchivesOfNumpy) {
  const auto stored = read_npz(golden("stored.npz"));
  EXPECT_THAT(values_of<float>(stored.at("weight")), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(stored.at("bias").dtype, DType::F16);
  const auto deflated = read_npz(golden("deflated.npz"));
  EXPECT_THAT(deflated.at("weight").shape, ElementsAre(2, 3));
  EXPECT_THAT(deflated.at("mask").bytes, ElementsAre(std::byte{1}, std::byte{0}));
}

TEST(Npz, ReadsArchivesOfOtherProjects) {
  const auto path = shared("tract_cases/onnx/test_cases/qtanh_2/io.npz");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs the shared tract cases";
  const auto arrays = read_npz(path);
  EXPECT_EQ(arrays.count("input"), 1U);
  EXPECT_EQ(arrays.count("output"), 1U);
}

TEST(Npz, RoundTripIsReproducible) {
  NamedArrays arrays;
  arrays["b"] = array_of<std::int64_t>({1, 2, 3}, {3});
  arrays["layer.weight"] = array_of<double>(std::vector<double>(1000, 0.5), {10, 100});
  const TemporaryFolder folder;
  for (const bool compress : {false, true}) {
    write_npz(folder / "a.npz", arrays, compress);
    const auto back = read_npz(folder / "a.npz");
    ASSERT_EQ(back.size(), 2U);
    EXPECT_EQ(back.at("layer.weight").bytes, arrays["layer.weight"].bytes);
    EXPECT_EQ(back.at("b").shape, arrays["b"].shape);
    EXPECT_EQ(encode_npz(arrays, compress), read_file(folder / "a.npz"));
  }
  EXPECT_LT(encode_npz(arrays, true).size(), 1000U);
  EXPECT_TRUE(read_npz(encode_npz({}), "empty").empty());
}

TEST(Npz, DamagedArchivesAreFormatErrors) {
  const auto error = [](const std::vector<std::byte>& bytes, ReadLimits limits = {}) {
    return error_text<FormatError>([&] { (void)read_npz(bytes, "a.npz", limits); });
  };
  EXPECT_THAT(
      error({}),
      HasSubstr("a.npz: not a ZIP archive at byte 0; expected an NPZ file as np.savez writes it, got an empty file"));
  EXPECT_THAT(error(bytes_of("not a zip file")), HasSubstr("not a readable ZIP archive"));
  const auto whole = read_file(golden("deflated.npz"));
  for (const std::size_t length : {whole.size() - 1, whole.size() / 2, std::size_t{40}}) {
    EXPECT_THAT(error({whole.begin(), whole.begin() + std::ptrdiff_t(length)}),
                HasSubstr("not a readable ZIP archive"));
  }
  auto flipped = read_file(golden("stored.npz"));
  flipped[200] ^= std::byte{0x40};  // inside the first member's elements
  EXPECT_THAT(error(flipped), HasSubstr("the member is damaged"));
  EXPECT_THAT(error(whole, {.max_bytes = 10}), HasSubstr("too large"));
  NamedArrays odd;
  odd["a"] = array_of<float>({1}, {1});
  auto renamed = encode_npz(odd);
  for (std::size_t i = 0; i + 5 <= renamed.size(); ++i) {
    if (std::memcmp(&renamed[i], "a.npy", 5) == 0) std::memcpy(&renamed[i], "a.txt", 5);
  }
  EXPECT_EQ(error(renamed),
            "a.npz: the archive holds something that is not an array; expected members named NAME.npy, got a.txt\n"
            "  try: np.savez(path, NAME=array)");
}

// Overwrites the uncompressed size in both headers of the only member.
TEST(Npz, AMemberThatClaimsMoreThanDeflateCanHoldIsRefused) {
  NamedArrays one;
  one["a"] = array_of<float>(std::vector<float>(1000), {1000});
  auto bytes = encode_npz(one, true);
  const std::uint32_t claim = 2'000'000'000;
  for (std::size_t i = 0; i + 4 <= bytes.size(); ++i) {
    if (std::memcmp(&bytes[i], "PK\x03\x04", 4) == 0) std::memcpy(&bytes[i + 22], &claim, 4);
    if (std::memcmp(&bytes[i], "PK\x01\x02", 4) == 0) std::memcpy(&bytes[i + 24], &claim, 4);
  }
  EXPECT_THAT(error_text<FormatError>([&] { (void)read_npz(bytes, "bomb.npz"); }),
              HasSubstr("bomb.npz:a.npy: the member claims more bytes than its compressed data can hold"));
}

}  // namespace
}  // namespace tenon::data::testing
