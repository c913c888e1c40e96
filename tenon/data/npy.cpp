#include "tenon/data/npy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/mapped_pages.h"
#include "tenon/data/byte_reader.h"

namespace tenon::data {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
// NumPy itself refuses headers above 10,000 bytes; a longer one is an attack or damage.
constexpr std::size_t kMaxHeader = std::size_t{1} << 16;
constexpr std::size_t kMaxRank = 64;

struct TypeName {
  std::string_view code;  // kind and width, as in '<f4'
  DType dtype;
};
constexpr std::array<TypeName, 12> kTypeNames = {{{"b1", DType::Bool},
                                                  {"u1", DType::U8},
                                                  {"u2", DType::U16},
                                                  {"u4", DType::U32},
                                                  {"u8", DType::U64},
                                                  {"i1", DType::I8},
                                                  {"i2", DType::I16},
                                                  {"i4", DType::I32},
                                                  {"i8", DType::I64},
                                                  {"f2", DType::F16},
                                                  {"f4", DType::F32},
                                                  {"f8", DType::F64}}};

// What NumPy can hold and a tensor cannot, by the letter of the kind.
struct ForeignKind {
  char kind;
  std::string_view name;
  std::string_view hint;
};
constexpr std::array<ForeignKind, 9> kForeignKinds = {
    {{'O', "object", "np.save(path, np.asarray(a, dtype=np.float32)): objects are pickles, which are not opened"},
     {'V', "void", "save a plain array; for bfloat16 save a.astype(np.float32)"},
     {'c', "complex", "save a.real and a.imag"},
     {'U', "text", "save the labels as a CSV file"},
     {'S', "bytes", "np.frombuffer(a, np.uint8)"},
     {'a', "bytes", "np.frombuffer(a, np.uint8)"},
     {'M', "date", "a.astype('int64')"},
     {'m', "time difference", "a.astype('int64')"},
     {'f', "extended-precision float", "a.astype(np.float64)"}}};

struct Header {
  std::string descr;
  std::size_t descr_at = 0;  // its byte in the file
  bool fortran = false;
  std::vector<std::int64_t> shape;
};

// Parses the header: the Python dictionary literal that NumPy writes, and nothing more of Python.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::size_t offset, std::string_view where)
      : text_(text), base_(offset), where_(where) {}

  Header parse() {
    Header header;
    std::optional<bool> fortran;
    bool has_descr = false;
    bool has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr" && !has_descr) {
        header.descr_at = base_ + at_;
        header.descr = descr();
        has_descr = true;
      } else if (key == "fortran_order" && !fortran) {
        fortran = boolean();
      } else if (key == "shape" && !has_shape) {
        header.shape = tuple();
        has_shape = true;
      } else {
        fail("unexpected key", "'descr', 'fortran_order' and 'shape', once each", "'" + key + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) fail("text follows the header's dictionary", "spaces and a newline", quote_rest());
    if (!has_descr || !fortran || !has_shape) {
      fail("the header is incomplete", "'descr', 'fortran_order' and 'shape'", std::string(text_.substr(0, 80)));
    }
    header.fortran = *fortran;
    return header;
  }

 private:
  [[noreturn]] void fail(std::string_view problem, std::string expected, std::string got, std::string hint = {}) const {
    throw_format_error(where_, base_ + at_, problem, std::move(expected), std::move(got), std::move(hint));
  }
  [[nodiscard]] std::string quote_rest() const { return fmt::format("'{}'", text_.substr(at_, 20)); }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool accept(std::string_view word) {
    skip_space();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail("the header is not a dictionary as NumPy writes it", fmt::format("'{}'", c), quote_rest());
  }
  std::string string() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const std::size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) fail("a string in the header does not end", std::string(1, quote), quote_rest());
    std::string result(text_.substr(at_, end - at_));
    at_ = end + 1;
    return result;
  }
  std::string descr() {
    skip_space();
    if (at_ < text_.size() && (text_[at_] == '[' || text_[at_] == '(')) {
      throw UnsupportedError({std::string(where_), "a structured array (with named fields) is not a tensor",
                              "one element type", std::string(text_.substr(at_, 60)),
                              "np.savez(path, **{name: a[name] for name in a.dtype.names})"});
    }
    return string();
  }
  bool boolean() {
    if (accept(std::string_view("True"))) return true;
    if (accept(std::string_view("False"))) return false;
    fail("'fortran_order' is not a truth value", "True or False", quote_rest());
  }
  std::int64_t integer() {
    skip_space();
    std::int64_t value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, code] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (code != std::errc() || value < 0) {
      fail("an extent in 'shape' is not accepted", "a number from 0 to 2^63-1", quote_rest());
    }
    at_ += static_cast<std::size_t>(end - begin);
    (void)accept('L');  // Python 2 wrote long integers so
    return value;
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> values;
    expect('(');
    while (!accept(')')) {
      values.push_back(integer());
      if (values.size() > kMaxRank) fail("'shape' has too many axes", fmt::format("at most {}", kMaxRank), "more");
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return values;
  }

  std::string_view text_;
  std::size_t base_;  // of the text in the file
  std::string_view where_;
  std::size_t at_ = 0;
};

struct ElementType {
  DType dtype;
  bool big_endian;
};

ElementType element_type(const std::string& descr, std::size_t at, std::string_view where) {
  std::string_view code = descr;
  char order = '|';
  if (!code.empty() && std::string_view("<>|=").find(code.front()) != std::string_view::npos) {
    order = code.front();
    code.remove_prefix(1);
  }
  for (const TypeName& row : kTypeNames) {
    if (row.code == code) return {row.dtype, order == '>'};
  }
  for (const ForeignKind& row : kForeignKinds) {
    if (!code.empty() && row.kind == code.front()) {
      throw UnsupportedError({std::string(where),
                              fmt::format("arrays of {} elements cannot become tensors at byte {}", row.name, at),
                              "bool, an integer or a float type", fmt::format("'{}'", descr), std::string(row.hint)});
    }
  }
  throw_format_error(where, at, "the header names an unknown element type",
                     "a type string such as '<f4', '|u1' or '>i8'", fmt::format("'{}'", descr));
}

// Column-major to row-major. Reads the source in its order, piece by piece; the stride of an axis in the result is the
// product of the extents behind it.
void read_fortran(const NextBytes& next, std::span<const std::int64_t> shape, std::size_t width,
                  std::span<std::byte> result) {
  const std::size_t rank = shape.size();
  std::vector<std::size_t> strides(rank, width);
  for (std::size_t axis = rank - 1; axis-- > 0;) {
    strides[axis] = strides[axis + 1] * static_cast<std::size_t>(shape[axis + 1]);
  }
  std::vector<std::int64_t> index(rank, 0);
  std::vector<std::byte> piece(std::min(result.size(), (std::size_t{1} << 20) / width * width));
  std::size_t to = 0;
  for (std::size_t done = 0; done < result.size();) {
    const auto part = std::span(piece).first(std::min(piece.size(), result.size() - done));
    next(part);
    done += part.size();
    for (std::size_t from = 0; from < part.size(); from += width) {
      std::memcpy(result.data() + to, part.data() + from, width);
      for (std::size_t axis = 0; axis < rank; ++axis) {
        to += strides[axis];
        if (++index[axis] < shape[axis]) break;
        to -= strides[axis] * static_cast<std::size_t>(shape[axis]);
        index[axis] = 0;
      }
    }
  }
}

Header read_header(ByteReader& reader) {
  const auto magic = reader.take(kMagic.size(), "the magic number");
  if (std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0) {
    std::string got;
    for (const std::byte b : magic) got += fmt::format("{:02X} ", std::to_integer<unsigned>(b));
    got.pop_back();
    throw_format_error(reader.where(), 0, "not an NPY file: wrong magic number", "93 4E 55 4D 50 59 (\\x93NUMPY)", got);
  }
  const unsigned major = reader.u8("the version");
  const unsigned minor = reader.u8("the version");
  if (major < 1 || major > 3 || minor != 0) {
    throw_format_error(reader.where(), kMagic.size(), "unknown NPY version", "1.0, 2.0 or 3.0",
                       fmt::format("{}.{}", major, minor));
  }
  const std::size_t length =
      major == 1 ? reader.u16_little("the header's length") : reader.u32_little("the header's length");
  if (length > kMaxHeader) {
    reader.fail("the header is too long", fmt::format("at most {} bytes", kMaxHeader), fmt::format("{} bytes", length));
  }
  const std::size_t offset = reader.offset();
  const auto text = reader.take(length, "the header");
  return HeaderParser({reinterpret_cast<const char*>(text.data()), text.size()}, offset, reader.where()).parse();
}

}  // namespace

HostArray read_npy(std::size_t size, const NextBytes& next, std::string_view where, const ReadLimits& limits) {
  // What comes before the elements: the fixed part says how long the rest is.
  std::vector<std::byte> head;
  const auto more = [&](std::size_t count) {
    const std::size_t old = head.size();
    head.resize(old + std::min(count, size - old));
    next(std::span(head).subspan(old));
  };
  more(kMagic.size() + 4);
  const bool wide = head.size() == kMagic.size() + 4 && head[kMagic.size()] > std::byte{1};
  if (wide) more(2);
  std::size_t length = 0;
  for (std::size_t i = head.size(); i-- > kMagic.size() + 2;)
    length = length << 8 | std::to_integer<std::size_t>(head[i]);
  if (length <= kMaxHeader) more(length);
  ByteReader reader(head, where);
  const Header header = read_header(reader);
  const ElementType type = element_type(header.descr, header.descr_at, where);
  const auto width = static_cast<std::size_t>(info(type.dtype).bits / 8);
  const std::int64_t count = checked_count(header.shape, limits.max_bytes / static_cast<std::int64_t>(width));
  if (count < 0) {
    reader.fail("the shape is too large", fmt::format("at most {} bytes of elements", limits.max_bytes),
                fmt::format("{} {}", header.descr, shape_text(header.shape)));
  }
  const std::size_t bytes = static_cast<std::size_t>(count) * width, offset = reader.offset(), left = size - offset;
  if (bytes > left) {
    reader.fail(fmt::format("the file ends inside the elements of {}", shape_text(header.shape)),
                fmt::format("{} bytes", bytes), fmt::format("{} bytes", left));
  }
  if (bytes < left) {
    throw_format_error(where, offset + bytes, "bytes follow the elements",
                       fmt::format("the end of the file for shape {}", shape_text(header.shape)),
                       fmt::format("{} more bytes", left - bytes), "several arrays in one file: use np.savez");
  }
  HostArray array{type.dtype, header.shape, std::vector<std::byte>(bytes)};
  if (header.fortran && header.shape.size() > 1 && bytes > 0) {
    read_fortran(next, header.shape, width, array.bytes);
  } else {
    next(array.bytes);
  }
  if (type.big_endian) swap_bytes(array.bytes, width);
  if (type.dtype == DType::Bool) {  // any byte but 0 is true in NumPy; a C++ bool must be 0 or 1
    for (std::byte& b : array.bytes) b = b == std::byte{0} ? b : std::byte{1};
  }
  return array;
}

HostArray read_npy(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits) {
  std::size_t at = 0;
  const auto next = [&](std::span<std::byte> into) {
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), into.size(), into.begin());
    at += into.size();
  };
  return read_npy(bytes.size(), next, where, limits);
}

HostArray read_npy(const std::filesystem::path& path, const ReadLimits& limits) {
  const MappedFile file(path);
  std::size_t at = 0;
  const auto next = [&](std::span<std::byte> into) {
    copy_from_mapping(file.bytes().subspan(at, into.size()), into.data());
    at += into.size();
  };
  return read_npy(file.bytes().size(), next, file.path(), limits);
}

std::vector<std::byte> encode_npy(const HostArray& array) {
  const TypeName* type = nullptr;
  for (const TypeName& row : kTypeNames) {
    if (row.dtype == array.dtype) type = &row;
  }
  if (type == nullptr) {
    throw DTypeError({"write_npy", "NPY has no such element type", "bool, an integer, f16, f32 or f64",
                      std::string(name(array.dtype)), "cast to f32, or save as SafeTensors"});
  }
  const char order = info(array.dtype).bits == 8 ? '|' : '<';
  const std::string_view comma = array.shape.size() == 1 ? "," : "";  // Python's "(3,)" but "(3, 4)"
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}{}), }}", order, type->code,
                                   fmt::join(array.shape, ", "), comma);
  const bool long_header = header.size() + 64 + 10 > 0xffff;
  const std::size_t prefix = kMagic.size() + (long_header ? 6 : 4);
  // The elements start at a multiple of 64 bytes, so that a mapped file is aligned.
  header.append(63 - (prefix + header.size()) % 64, ' ');
  header += '\n';
  std::string start(kMagic);
  start += static_cast<char>(long_header ? 2 : 1);
  start += '\0';
  for (std::size_t i = 0; i < (long_header ? 4U : 2U); ++i) start += static_cast<char>(header.size() >> (8 * i) & 0xff);
  start += header;
  std::vector<std::byte> out(start.size() + array.bytes.size());
  std::memcpy(out.data(), start.data(), start.size());
  if (!array.bytes.empty()) std::memcpy(out.data() + start.size(), array.bytes.data(), array.bytes.size());
  return out;
}

void write_npy(const std::filesystem::path& path, const HostArray& array) {
  write_file_atomic(path, encode_npy(array));
}

}  // namespace tenon::data
