#include "tenon/formats/onnx/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/mapped_pages.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"

namespace tenon::formats::onnx {
namespace {

struct TypeRow {
  DataType type{};
  std::optional<DType> dtype;
  int bits = 0;
};
constexpr std::array kTypes{
    TypeRow{DataType::Float, DType::F32, 32},
    TypeRow{DataType::Uint8, DType::U8, 8},
    TypeRow{DataType::Int8, DType::I8, 8},
    TypeRow{DataType::Uint16, DType::U16, 16},
    TypeRow{DataType::Int16, DType::I16, 16},
    TypeRow{DataType::Int32, DType::I32, 32},
    TypeRow{DataType::Int64, DType::I64, 64},
    TypeRow{DataType::Bool, DType::Bool, 8},
    TypeRow{DataType::Float16, DType::F16, 16},
    TypeRow{DataType::Double, DType::F64, 64},
    TypeRow{DataType::Uint32, DType::U32, 32},
    TypeRow{DataType::Uint64, DType::U64, 64},
    TypeRow{DataType::BFloat16, DType::BF16, 16},
    TypeRow{DataType::Float8E4M3FN, DType::F8E4M3, 8},
    TypeRow{DataType::Float8E5M2, DType::F8E5M2, 8},
    TypeRow{DataType::Uint4, DType::U4, 4},
    TypeRow{DataType::Int4, DType::I4, 4},
    TypeRow{DataType::Int2, DType::I2, 2},
    // Held as codes.
    TypeRow{DataType::Float8E4M3FNUZ, {}, 8},
    TypeRow{DataType::Float8E5M2FNUZ, {}, 8},
    TypeRow{DataType::Float4E2M1, {}, 4},
    TypeRow{DataType::Float8E8M0, {}, 8},
    TypeRow{DataType::Uint2, {}, 2},
};

const TypeRow* row_of(DataType type) {
  for (const auto& row : kTypes) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

// ---- codes -------------------------------------------------------------------------------
// A small float with `exponent` and `mantissa` bits below a sign; NaN is the code of minus zero.
double fnuz_value(int code, int mantissa, int bias) {
  if (code == 0x80) return std::numeric_limits<double>::quiet_NaN();
  const int exponent = (code & 0x7f) >> mantissa;
  const double fraction = static_cast<double>(code & ((1 << mantissa) - 1)) / (1 << mantissa);
  const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

double code_value(DataType type, int code) {
  switch (type) {
    case DataType::Float8E4M3FNUZ:
      return fnuz_value(code, 3, 8);
    case DataType::Float8E5M2FNUZ:
      return fnuz_value(code, 2, 16);
    case DataType::Float4E2M1: {
      constexpr std::array kMagnitudes{0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
      const double magnitude = kMagnitudes[static_cast<size_t>(code & 7)];
      return (code & 8) != 0 ? -magnitude : magnitude;
    }
    case DataType::Float8E8M0:
      return code == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, code - 127);
    default:  // Uint2
      return code & 3;
  }
}

int code_count(DataType type) { return 1 << row_of(type)->bits; }

struct Coder {
  std::vector<std::pair<double, int>> finite;  // sorted by value
  int nan = -1;
  explicit Coder(DataType type) {
    for (int code = 0; code < code_count(type); ++code) {
      const double v = code_value(type, code);
      if (std::isnan(v)) {
        nan = code;
      } else if (!(v == 0 && code != 0)) {
        finite.emplace_back(v, code);
      }
    }
    std::sort(finite.begin(), finite.end());
  }

  [[nodiscard]] int encode(double x, DataType type, bool saturate) const {
    const bool has_nan = nan >= 0;
    // float4 has no NaN; the code of minus zero stands for it, as in ml_dtypes.
    if (std::isnan(x)) return has_nan ? nan : type == DataType::Float4E2M1 ? 8 : 0;
    const auto above = std::lower_bound(finite.begin(), finite.end(), std::pair{x, -1});
    if (above == finite.end() || above == finite.begin()) {
      const auto& end = above == finite.end() ? finite.back() : finite.front();
      if (saturate || !has_nan || x == end.first) return end.second;
      // What rounds to the largest is still in range.
      const auto& next = above == finite.end() ? finite[finite.size() - 2] : finite[1];
      return std::abs(x - end.first) < std::abs(end.first - next.first) / 2 ? end.second : nan;
    }
    const auto below = above - 1;
    const double down = x - below->first, up = above->first - x;
    if (down == up && type != DataType::Float8E8M0) return (below->second & 1) == 0 ? below->second : above->second;
    if (x == 0) return 0;
    return down < up ? below->second : above->second;
  }
};

// ---- reading -----------------------------------------------------------------------------
std::string place_of(const TensorData& data) {
  return data.offset ? fmt::format(" at byte {}", *data.offset) : std::string();
}

[[noreturn]] void fail(const std::string& where, const TensorData& data, std::string problem, std::string expected = {},
                       std::string got = {}) {
  throw FormatError({where,
                     fmt::format("tensor '{}'{}: {}", data.name, place_of(data), problem),
                     std::move(expected),
                     std::move(got),
                     {}});
}

Shape shape_of(const TensorData& data, const std::string& where) {
  Shape shape;
  int64_t count = 1;
  for (int64_t d : data.dims) {
    if (d < 0) fail(where, data, "a negative extent", "0 or more", std::to_string(d));
    if (d != 0 && count > (int64_t{1} << 48) / d) fail(where, data, "more elements than a file can hold");
    count *= std::max<int64_t>(d, 1);  // the others must be countable even if there are no elements
    shape.push_back(d);
  }
  return shape;
}

uint64_t number_of(const std::string& text, const TensorData& data, const std::string& where) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    fail(where, data, "the place of external data is not a number", {}, text);
  return value;
}

struct Bytes {
  std::string_view view;
  std::shared_ptr<const void> owner;
};

// External data may lie only in the model's own folder, and not behind a link that leads out of it.
Bytes external_bytes(const TensorData& data, const std::string& folder, const std::string& where) {
  namespace fs = std::filesystem;
  const auto entry = [&](const char* key) {
    const auto found = data.external.find(key);
    return found == data.external.end() ? std::string() : found->second;
  };
  const std::string location = entry("location");
  if (folder.empty()) fail(where, data, "has external data, but the model has no folder");
  const fs::path base = fs::weakly_canonical(folder), full = fs::weakly_canonical(base / location);
  const auto relative = full.lexically_relative(base);
  if (location.empty() || fs::path(location).is_absolute() || relative.empty() || *relative.begin() == "..")
    fail(where, data, "external data outside of the model's folder", "a file beside the model", location);
  auto file = std::make_shared<const MappedFile>(full);
  const auto all = file->bytes();
  const uint64_t offset = entry("offset").empty() ? 0 : number_of(entry("offset"), data, where);
  if (offset > all.size()) fail(where, data, "external data ends early", {}, location);
  const uint64_t length = entry("length").empty() ? all.size() - offset : number_of(entry("length"), data, where);
  if (length > all.size() - offset) fail(where, data, "external data ends early", {}, location);
  return {{reinterpret_cast<const char*>(all.data()) + offset, length}, std::move(file)};
}

template <class From, class To>
void copy_numbers(const std::vector<From>& from, std::byte* to) {
  for (size_t i = 0; i < from.size(); ++i) {
    const To value = static_cast<To>(from[i]);
    std::memcpy(to + i * sizeof(To), &value, sizeof(To));
  }
}

// Whole numbers as protobuf packs them, seven bits a byte, brought to bytes of the type's own width. They may come in
// pieces that are cut anywhere.
class VarintDecoder {
 public:
  VarintDecoder(int width, std::byte* to) : width_(static_cast<size_t>(width)), to_(to) {}

  void operator()(std::span<const std::byte> piece) {
    for (const std::byte byte : piece) {
      const auto bits = std::to_integer<uint64_t>(byte);
      if (shift_ < 64) value_ |= (bits & 0x7f) << shift_;
      if ((bits & 0x80) != 0) {
        shift_ = std::min(shift_ + 7, 70U);
        too_long_ |= shift_ == 70;
        continue;
      }
      std::memcpy(to_, &value_, width_);  // the low bytes: this code is for little-endian machines
      to_ += width_;
      value_ = 0;
      shift_ = 0;
    }
  }
  [[nodiscard]] bool good() const { return shift_ == 0 && !too_long_; }  // none was cut, none takes more than ten bytes

 private:
  size_t width_;
  std::byte* to_;
  uint64_t value_ = 0;
  unsigned shift_ = 0;
  bool too_long_ = false;
};

// Numbers stored one by one in a field of a wider type, brought to bytes of the type's own width. Their number is
// compared with the shape's before anything is allocated for them.
class FieldNumbers {
 public:
  FieldNumbers(const TensorData& data, int bits, int64_t count, const std::string& where, bool mapped)
      : data_(data),
        where_(where),
        width_(std::max(bits, 8) / 8),
        mapped_(mapped && data.packed_integers.size() >= 4096) {
    const int64_t entries = bits < 8 ? (count * bits + 7) / 8 : count;
    const auto got = static_cast<int64_t>(stored());
    if (got != entries)
      fail(where, data, "the number of elements is not the shape's", std::to_string(entries), std::to_string(got));
    size_ = static_cast<size_t>(entries * width_);
  }

  [[nodiscard]] size_t size() const { return size_; }  // in bytes

  void copy_to(std::byte* to) const {
    if (data_.type == DataType::Float) return copy_numbers<float, float>(data_.floats, to);
    if (data_.type == DataType::Double) return copy_numbers<double, double>(data_.doubles, to);
    VarintDecoder decode(width_, to);
    for_packed([&](std::span<const std::byte> piece) { decode(piece); });
    if (!decode.good()) fail(where_, data_, "a packed number is cut or too long");
    if (width_ == 1) copy_numbers<int64_t, uint8_t>(data_.integers, to);
    if (width_ == 2) copy_numbers<int64_t, uint16_t>(data_.integers, to);
    if (width_ == 4) copy_numbers<int64_t, uint32_t>(data_.integers, to);
    if (width_ == 8) copy_numbers<int64_t, uint64_t>(data_.integers, to);
  }

 private:
  [[nodiscard]] size_t stored() const {
    if (data_.type == DataType::Float) return data_.floats.size();
    if (data_.type == DataType::Double) return data_.doubles.size();
    size_t count = data_.integers.size();
    for_packed([&](std::span<const std::byte> piece) {  // the last byte of a number has its high bit clear
      count += static_cast<size_t>(
          std::ranges::count_if(piece, [](std::byte b) { return (b & std::byte{0x80}) == std::byte{}; }));
    });
    return count;
  }
  // Large ones piece by piece, so that the file's pages do not stay beside the tensor.
  void for_packed(const std::function<void(std::span<const std::byte>)>& use) const {
    const auto bytes = std::as_bytes(std::span(data_.packed_integers));
    mapped_ ? read_from_mapping(bytes, use) : use(bytes);
  }

  const TensorData& data_;
  const std::string& where_;
  int width_;
  bool mapped_;
  size_t size_ = 0;
};

void expect_bools(const TensorData& data, std::span<const std::byte> bytes, const std::string& where) {
  if (data.type == DataType::Bool && std::ranges::any_of(bytes, [](std::byte b) { return b > std::byte{1}; }))
    fail(where, data, "a bool that is neither 0 nor 1");
}

Tensor unpacked_codes(const std::byte* bytes, int bits, const Shape& shape) {
  Tensor codes = empty(shape, DType::U8);
  std::byte* out = mutable_data(codes);
  const int64_t per_byte = 8 / bits;
  for (int64_t i = 0; i < codes.size(); ++i) {
    const auto shift = static_cast<int>(i % per_byte) * bits;
    out[i] = static_cast<std::byte>((std::to_integer<int>(bytes[i / per_byte]) >> shift) & ((1 << bits) - 1));
  }
  return codes;
}

}  // namespace

std::string Value::describe() const {
  if (const auto* x = tensor()) return to_string(x->type());
  if (const auto* x = texts()) return "string" + to_string(x->shape);
  if (const auto* x = codes()) return name_of(x->type) + to_string(x->codes.shape());
  if (const auto* x = sequence()) return fmt::format("a sequence of {}", x->items.size());
  return "nothing";
}

bool has_dtype(DataType type) {
  const auto* row = row_of(type);
  return row && row->dtype;
}
DType dtype_of(DataType type, const std::string& where) {
  if (has_dtype(type)) return *row_of(type)->dtype;
  throw UnsupportedError({where, "no arithmetic on " + name_of(type), {}, {}, {}});
}
DataType data_type_of(DType dtype) {
  for (const auto& row : kTypes) {
    if (row.dtype == dtype) return row.type;
  }
  throw InternalError("a dtype without an ONNX type");
}

Value read_tensor(const TensorData& data, const std::shared_ptr<const void>& owner, const std::string& folder,
                  const std::string& where, bool mapped) {
  const Shape shape = shape_of(data, where);
  const int64_t count = numel(shape);
  if (data.type == DataType::String) {
    if (data.strings.size() != static_cast<size_t>(count))
      fail(where, data, "the number of elements is not the shape's", std::to_string(count),
           std::to_string(data.strings.size()));
    return Texts{shape, data.strings};
  }
  const TypeRow* row = row_of(data.type);
  if (!row)
    throw UnsupportedError(
        {where, fmt::format("tensor '{}' is {}{}", data.name, name_of(data.type), place_of(data)), {}, {}, {}});
  const bool external = !data.external.empty();
  const auto size = static_cast<size_t>((count * row->bits + 7) / 8);
  if (!external && !data.has_raw) {
    const FieldNumbers numbers(data, row->bits, count, where, mapped);
    if (!row->dtype) {
      std::vector<std::byte> bytes(numbers.size());
      numbers.copy_to(bytes.data());
      return Codes{data.type, unpacked_codes(bytes.data(), row->bits, shape)};
    }
    Tensor x = empty(shape, *row->dtype);
    if (numbers.size() > 0) numbers.copy_to(mutable_data(x));
    expect_bools(data, {mutable_data(x), numbers.size()}, where);
    return x;
  }
  const Bytes bytes = external ? external_bytes(data, folder, where) : Bytes{data.raw, owner};
  if (bytes.view.size() != size)
    fail(where, data, "the number of bytes is not the shape's", std::to_string(size),
         std::to_string(bytes.view.size()));
  const auto* from = reinterpret_cast<const std::byte*>(bytes.view.data());
  expect_bools(data, {from, size}, where);
  if (!row->dtype) return Codes{data.type, unpacked_codes(from, row->bits, shape)};
  const auto width = static_cast<uintptr_t>(std::max(row->bits / 8, 1));
  // Small ones are copied: a shape vector should not keep a file mapped.
  if (bytes.owner && size >= 4096 && reinterpret_cast<uintptr_t>(from) % width == 0)
    return from_buffer(Buffer::wrap(const_cast<std::byte*>(from), size, bytes.owner), {*row->dtype, shape});
  Tensor x = empty(shape, *row->dtype);
  // Small ones are not worth a call to the system.
  if (size >= 4096 && (external || mapped)) {
    copy_from_mapping({from, size}, mutable_data(x));
  } else if (size > 0) {
    std::memcpy(mutable_data(x), from, size);
  }
  return x;
}

Tensor decode(const Codes& codes) {
  std::vector<float> table;
  for (int code = 0; code < code_count(codes.type); ++code)
    table.push_back(static_cast<float>(code_value(codes.type, code)));
  Tensor x = empty(codes.codes.shape(), DType::F32);
  auto* out = reinterpret_cast<float*>(mutable_data(x));
  const auto in = codes.codes.to_vector<uint8_t>();
  for (size_t i = 0; i < in.size(); ++i) out[i] = table[in[i]];
  return x;
}

Codes encode(const Tensor& x, DataType type, bool saturate, const std::string& where) {
  if (!row_of(type)) throw UnsupportedError({where, "no numbers of " + name_of(type), {}, {}, {}});
  const Coder coder(type);
  Tensor codes = empty(x.shape(), DType::U8);
  std::byte* out = mutable_data(codes);
  const auto in = x.to_vector<double>();
  const auto wraps = type == DataType::Uint2;
  for (size_t i = 0; i < in.size(); ++i)
    out[i] = wraps && !saturate ? static_cast<std::byte>(static_cast<int64_t>(in[i]) & 3)
                                : static_cast<std::byte>(coder.encode(in[i], type, saturate));
  return {type, codes};
}

}  // namespace tenon::formats::onnx
