#include "tenon/formats/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/mapped_pages.h"
#include "tenon/data/byte_reader.h"
#include "tenon/tensor/buffer.h"
#include "tenon/tensor/low_precision.h"

namespace tenon::formats {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr int kDeepest = 4;

float half(const std::byte* at) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, 2);
  return f16_to_f32(bits);
}
unsigned u(std::byte b) { return std::to_integer<unsigned>(b); }
float s(std::byte b) { return static_cast<float>(static_cast<std::int8_t>(b)); }

void unpack_q4_0(const std::byte* block, float* y) {
  const float d = half(block);
  for (int i = 0; i < 16; ++i) {
    y[i] = static_cast<float>(static_cast<int>(u(block[2 + i]) & 15U) - 8) * d;
    y[i + 16] = static_cast<float>(static_cast<int>(u(block[2 + i]) >> 4) - 8) * d;
  }
}

void unpack_q8_0(const std::byte* block, float* y) {
  const float d = half(block);
  for (int i = 0; i < 32; ++i) y[i] = s(block[2 + i]) * d;
}

// Eight groups of 32 with a scale and a minimum of six bits each, which share twelve bytes.
void unpack_q4_k(const std::byte* block, float* y) {
  const float d = half(block), least = half(block + 2);
  const std::byte *scales = block + 4, *q = block + 16;
  for (int group = 0; group < 8; ++group) {
    unsigned scale = 0, minimum = 0;
    if (group < 4) {
      scale = u(scales[group]) & 63U;
      minimum = u(scales[group + 4]) & 63U;
    } else {
      scale = (u(scales[group + 4]) & 15U) | (u(scales[group - 4]) >> 6 << 4);
      minimum = u(scales[group + 4]) >> 4 | (u(scales[group]) >> 6 << 4);
    }
    const float by = d * static_cast<float>(scale), less = least * static_cast<float>(minimum);
    for (int i = 0; i < 32; ++i) {
      const unsigned both = u(q[group / 2 * 32 + i]);
      *y++ = by * static_cast<float>(group % 2 == 0 ? both & 15U : both >> 4) - less;
    }
  }
}

// Sixteen groups of 16 with a signed scale each; four low bits of a number lie apart from its two high bits.
void unpack_q6_k(const std::byte* block, float* y) {
  const std::byte *low = block, *high = block + 128, *scales = block + 192;
  const float d = half(block + 208);
  for (int part = 0; part < 2; ++part, y += 128, low += 64, high += 32, scales += 8) {
    for (int i = 0; i < 32; ++i) {
      for (int quarter = 0; quarter < 4; ++quarter) {
        const unsigned nibbles = u(low[i + (quarter % 2) * 32]);
        const unsigned bits = (quarter < 2 ? nibbles & 15U : nibbles >> 4) | ((u(high[i]) >> (2 * quarter) & 3U) << 4);
        y[i + 32 * quarter] = d * s(scales[i / 16 + 2 * quarter]) * static_cast<float>(static_cast<int>(bits) - 32);
      }
    }
  }
}

struct TypeInfo {
  std::uint32_t id;
  std::string_view name;
  std::int64_t elements, bytes;              // of a block
  std::optional<DType> dtype;                // of plain types
  void (*unpack)(const std::byte*, float*);  // of quantised ones
};
const std::array<TypeInfo, 12> kTypes{{{0, "F32", 1, 4, DType::F32, nullptr},
                                       {1, "F16", 1, 2, DType::F16, nullptr},
                                       {2, "Q4_0", 32, 18, {}, unpack_q4_0},
                                       {8, "Q8_0", 32, 34, {}, unpack_q8_0},
                                       {12, "Q4_K", 256, 144, {}, unpack_q4_k},
                                       {14, "Q6_K", 256, 210, {}, unpack_q6_k},
                                       {24, "I8", 1, 1, DType::I8, nullptr},
                                       {25, "I16", 1, 2, DType::I16, nullptr},
                                       {26, "I32", 1, 4, DType::I32, nullptr},
                                       {27, "I64", 1, 8, DType::I64, nullptr},
                                       {28, "F64", 1, 8, DType::F64, nullptr},
                                       {30, "BF16", 1, 2, DType::BF16, nullptr}}};

std::string names_of_quantised() {
  std::vector<std::string_view> names;
  for (const TypeInfo& type : kTypes)
    if (type.unpack != nullptr) names.push_back(type.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::uint64_t u64(data::ByteReader& in, std::string_view what) {
  const std::uint64_t low = in.u32_little(what);
  return low | std::uint64_t{in.u32_little(what)} << 32;
}

std::string text(data::ByteReader& in, std::string_view what) {
  const std::uint64_t size = u64(in, what);
  if (size > in.remaining()) in.fail(fmt::format("{} is longer than the file", what), {}, std::to_string(size));
  const auto bytes = in.take(size, what);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::int64_t signed_of(std::uint64_t value, int bits) {
  const int shift = 64 - bits;
  return static_cast<std::int64_t>(value << shift) >> shift;
}

GgufValue read_value(data::ByteReader& in, std::uint32_t type, int depth) {
  switch (type) {
    case 0:
      return {std::int64_t{in.u8("a value")}};
    case 1:
      return {signed_of(in.u8("a value"), 8)};
    case 2:
      return {std::int64_t{in.u16_little("a value")}};
    case 3:
      return {signed_of(in.u16_little("a value"), 16)};
    case 4:
      return {std::int64_t{in.u32_little("a value")}};
    case 5:
      return {signed_of(in.u32_little("a value"), 32)};
    case 6:
      return {double{std::bit_cast<float>(in.u32_little("a value"))}};
    case 7:
      return {in.u8("a value") != 0};
    case 8:
      return {text(in, "a text")};
    case 9: {
      if (depth >= kDeepest) in.fail("lists are nested too deeply");
      const std::uint32_t of = in.u32_little("a list's type");
      const std::uint64_t count = u64(in, "a list's length");
      // Every element takes a byte at least.
      if (count > in.remaining()) in.fail("a list is longer than the file", {}, std::to_string(count));
      GgufList list;
      for (std::uint64_t i = 0; i < count; ++i) list.push_back(read_value(in, of, depth + 1));
      return {std::move(list)};
    }
    case 10:
    case 11: {
      const std::uint64_t value = u64(in, "a value");
      if (type == 10 && value > INT64_MAX) in.fail("a whole number is too large");
      return {static_cast<std::int64_t>(value)};
    }
    case 12:
      return {std::bit_cast<double>(u64(in, "a value"))};
    default:
      in.fail("a value is of no known type", "0 to 12", std::to_string(type));
  }
}

struct Entry {
  std::string name;
  Shape shape;
  const TypeInfo* type = nullptr;
  std::int64_t count = 1;
  std::uint64_t offset = 0;
};

Entry read_entry(data::ByteReader& in) {
  Entry entry;
  entry.name = text(in, "a tensor's name");
  const std::uint32_t axes = in.u32_little("a tensor's rank");
  if (axes > 8) in.fail("a tensor has too many axes", "at most 8", std::to_string(axes));
  entry.shape.resize(axes);
  for (std::uint32_t i = 0; i < axes; ++i) {
    const std::uint64_t extent = u64(in, "an extent");
    if (extent > (std::uint64_t{1} << 40) ||
        (extent > 0 && entry.count > (std::int64_t{1} << 50) / static_cast<std::int64_t>(extent)))
      in.fail("a tensor is too large", {}, std::to_string(extent));
    entry.shape[axes - 1 - i] = static_cast<std::int64_t>(extent);  // the file has the fastest axis first
    entry.count *= std::max<std::int64_t>(static_cast<std::int64_t>(extent), 1);
  }
  if (std::ranges::find(entry.shape, 0) != entry.shape.end()) entry.count = 0;
  const std::uint32_t type = in.u32_little("a tensor's type");
  for (const auto& known : kTypes)
    if (known.id == type) entry.type = &known;
  if (entry.type == nullptr)
    throw UnsupportedError(
        {.where = std::string(in.where()),
         .problem = fmt::format("the tensor '{}' is of type {} at byte {}", entry.name, type, in.offset() - 4),
         .expected = "F32, F16, BF16, F64, whole numbers, " + names_of_quantised()});
  const std::int64_t row = entry.shape.empty() ? 1 : entry.shape.back();
  if (row % entry.type->elements != 0)
    in.fail(fmt::format("the rows of '{}' are no whole blocks", entry.name),
            fmt::format("a multiple of {}", entry.type->elements), std::to_string(row));
  entry.offset = u64(in, "a tensor's offset");
  return entry;
}

// `mapped` is the whole file, if it is mapped: then what was read is given back piece by piece.
Tensor unpacked(const TypeInfo& type, std::span<const std::byte> blocks, const Shape& shape,
                std::span<const std::byte> mapped = {}) {
  Ref<Buffer> numbers = Buffer::allocate(static_cast<std::size_t>(numel(shape)) * sizeof(float));
  auto* to = reinterpret_cast<float*>(numbers->data());
  const auto width = static_cast<std::size_t>(type.bytes);
  constexpr std::size_t kBlocksAtOnce = 4096;
  while (!blocks.empty()) {
    const auto piece = blocks.first(std::min(blocks.size(), kBlocksAtOnce * width));
    for (std::size_t at = 0; at < piece.size(); at += width, to += type.elements) type.unpack(piece.data() + at, to);
    if (!mapped.empty()) release_mapped_pages(piece, mapped);
    blocks = blocks.subspan(piece.size());
  }
  return from_buffer(std::move(numbers), TensorType{DType::F32, shape});
}

// The blocks as they are: in the file if `owner` keeps it, else a copy.
GgufPacked kept_packed(const Entry& entry, std::span<const std::byte> blocks,
                       const std::shared_ptr<const void>& owner) {
  const std::int64_t row = entry.shape.empty() ? 0 : entry.shape.back();
  const std::int64_t bytes = row / entry.type->elements * entry.type->bytes;
  const TensorType type{DType::U8, {row == 0 ? 0 : entry.count / row, bytes}};
  GgufPacked packed{.type = std::string(entry.type->name), .shape = entry.shape, .rows = {}};
  if (owner != nullptr && !blocks.empty()) {
    packed.rows = from_buffer(Buffer::wrap(const_cast<std::byte*>(blocks.data()), blocks.size(), owner), type);
  } else {
    Ref<Buffer> copy = Buffer::allocate(blocks.size());
    if (!blocks.empty()) std::memcpy(copy->data(), blocks.data(), blocks.size());
    packed.rows = from_buffer(std::move(copy), type);
  }
  return packed;
}

Tensor make_tensor(const Entry& entry, std::span<const std::byte> elements, const std::shared_ptr<const void>& owner,
                   std::span<const std::byte> mapped) {
  if (entry.type->dtype) {
    const TensorType type{*entry.type->dtype, entry.shape};
    const auto address = reinterpret_cast<std::uintptr_t>(elements.data());
    if (owner != nullptr && address % static_cast<std::uintptr_t>(entry.type->bytes) == 0)
      return from_buffer(Buffer::wrap(const_cast<std::byte*>(elements.data()), elements.size(), owner), type);
    Ref<Buffer> copy = Buffer::allocate(elements.size());
    if (!mapped.empty()) {
      copy_from_mapping(elements, copy->data());
    } else if (!elements.empty()) {
      std::memcpy(copy->data(), elements.data(), elements.size());
    }
    return from_buffer(std::move(copy), type);
  }
  return unpacked(*entry.type, elements, entry.shape, mapped);
}

// How many bytes stand between `size` bytes and the next part.
std::uint64_t padding(std::uint64_t size) { return (kDefaultAlignment - size % kDefaultAlignment) % kDefaultAlignment; }

// Bytes in the order of the file.
struct Writer {
  std::string out;
  template <class T>
  void number(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    out.append(bytes, sizeof(T));
  }
  void string(std::string_view value) {
    number(std::uint64_t{value.size()});
    out += value;
  }
  void pad() { out.append(padding(out.size()), '\0'); }
};

std::uint32_t type_of(const GgufValue& value) {
  constexpr std::uint32_t ids[] = {7, 11, 12, 8, 9};  // in the order of the variant
  return ids[value.data.index()];
}

void write_value(const GgufValue& value, Writer& out) {
  if (const auto* v = std::get_if<bool>(&value.data)) {
    out.number(static_cast<std::uint8_t>(*v ? 1 : 0));
  } else if (const auto* number = std::get_if<std::int64_t>(&value.data)) {
    out.number(*number);
  } else if (const auto* real = std::get_if<double>(&value.data)) {
    out.number(*real);
  } else if (const auto* string = std::get_if<std::string>(&value.data)) {
    out.string(*string);
  } else {
    const auto& list = std::get<GgufList>(value.data);
    out.number(list.empty() ? std::uint32_t{8} : type_of(list[0]));
    out.number(std::uint64_t{list.size()});
    for (const auto& item : list) {
      if (type_of(item) != type_of(list[0]))
        throw ValueError({.where = "save_gguf", .problem = "a list of the metadata holds values of several kinds"});
      write_value(item, out);
    }
  }
}

std::span<const std::byte> bytes_of(const Tensor& tensor) { return tensor.data<std::byte>(); }

const TypeInfo& checked_type(const GgufPacked& packed, const char* where) {
  for (const TypeInfo& type : kTypes) {
    if (type.name != packed.type || type.unpack == nullptr) continue;
    const std::int64_t count = numel(packed.shape), row = packed.shape.empty() ? 0 : packed.shape.back();
    const Tensor& rows = packed.rows;
    if (!rows.defined() || rows.dtype() != DType::U8 || rows.ndim() != 2 || !rows.is_contiguous() ||
        row % type.elements != 0 || rows.size() != count / type.elements * type.bytes ||
        rows.shape(1) != row / type.elements * type.bytes)
      throw ValueError({.where = where,
                        .problem = fmt::format("the blocks do not fit {} of {}", to_string(packed.shape), packed.type),
                        .got = rows.defined() ? to_string(rows.type()) : "nothing"});
    return type;
  }
  throw ValueError(
      {.where = where, .problem = "not a quantised type", .expected = names_of_quantised(), .got = packed.type});
}

std::string quantize_q8_0(std::span<const float> values) {
  Writer out;
  for (std::size_t block = 0; block < values.size(); block += 32) {
    float largest = 0;
    for (std::size_t i = 0; i < 32; ++i) largest = std::max(largest, std::abs(values[block + i]));
    const float d = largest / 127.0F, inverse = d == 0 ? 0.0F : 1.0F / d;
    out.number(f32_to_f16(d));
    for (std::size_t i = 0; i < 32; ++i) out.number(static_cast<std::int8_t>(std::round(values[block + i] * inverse)));
  }
  return std::move(out.out);
}

// A tensor on its way into a file.
struct Saved {
  const std::string* name;
  const Shape* shape;
  const TypeInfo* type;
  const Tensor* tensor;  // the numbers, or the blocks
  bool quantize;

  [[nodiscard]] std::uint64_t size() const {
    return static_cast<std::uint64_t>(numel(*shape) / type->elements * type->bytes);
  }
};

std::vector<Saved> saved_tensors(const std::filesystem::path& path, const Gguf& file, const GgufSaveOptions& options) {
  std::vector<Saved> list;
  for (const auto& [name, tensor] : file.tensors) {
    const bool quantize =
        options.quantize && tensor.dtype() == DType::F32 && tensor.ndim() >= 2 && tensor.shape(-1) % 32 == 0;
    const TypeInfo* type = nullptr;
    for (const auto& known : kTypes)
      if (quantize ? known.name == "Q8_0" : known.dtype == tensor.dtype()) type = &known;
    if (type == nullptr)
      throw UnsupportedError({.where = path.string(),
                              .problem = fmt::format("'{}' is of a dtype that GGUF has not", name),
                              .got = std::string(tenon::name(tensor.dtype()))});
    list.push_back({&name, &tensor.shape(), type, &tensor, quantize});
  }
  for (const auto& [name, packed] : file.packed) {
    if (file.tensors.contains(name))
      throw ValueError({.where = path.string(), .problem = fmt::format("there are two tensors '{}'", name)});
    list.push_back({&name, &packed.shape, &checked_type(packed, "save_gguf"), &packed.rows, false});
  }
  return list;
}

}  // namespace

const GgufValue* Gguf::find(std::string_view key) const {
  for (const auto& [name, value] : metadata)
    if (name == key) return &value;
  return nullptr;
}

Gguf read_gguf(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner, std::string_view where,
               bool mapped, const GgufLoadOptions& options) {
  data::ByteReader in(bytes, where);
  if (in.u32_little("the magic number") != kMagic) in.fail("not a GGUF file", "\"GGUF\" at the beginning");
  const std::uint32_t version = in.u32_little("the version");
  if (version != 2 && version != 3)
    throw UnsupportedError({.where = std::string(where),
                            .problem = "another version of the format at byte 4",
                            .expected = "2 or 3, little-endian",
                            .got = std::to_string(version)});
  const std::uint64_t tensors = u64(in, "the number of tensors"), entries = u64(in, "the number of entries");
  Gguf file;
  std::uint64_t alignment = kDefaultAlignment;
  for (std::uint64_t i = 0; i < entries; ++i) {
    std::string key = text(in, "a key");
    const std::uint32_t type = in.u32_little("a value's type");
    file.metadata.emplace_back(std::move(key), read_value(in, type, 0));
  }
  if (const GgufValue* value = file.find("general.alignment")) {
    const auto* number = std::get_if<std::int64_t>(&value->data);
    if (number == nullptr || *number < 1 || *number > (1 << 20) ||
        !std::has_single_bit(static_cast<std::uint64_t>(*number)))
      in.fail("general.alignment is not a power of two");
    alignment = static_cast<std::uint64_t>(*number);
  }
  std::vector<Entry> list;
  for (std::uint64_t i = 0; i < tensors; ++i) list.push_back(read_entry(in));
  const std::uint64_t begin = (in.offset() + alignment - 1) / alignment * alignment;
  std::map<std::uint64_t, std::uint64_t> taken;  // begin and end of the elements so far
  for (const auto& entry : list) {
    const auto size = static_cast<std::uint64_t>(entry.count / entry.type->elements * entry.type->bytes);
    const std::uint64_t room = begin > bytes.size() ? 0 : bytes.size() - begin;
    if (entry.offset > room || size > room - entry.offset || entry.offset % alignment != 0)
      in.fail(fmt::format("the elements of '{}' are not within the file", entry.name),
              fmt::format("at most {} bytes", room), fmt::format("{} bytes at {}", size, entry.offset));
    // Tensors that share bytes would unpack to more than the file's size justifies.
    if (size > 0) {
      const auto after = taken.lower_bound(entry.offset + 1);
      if ((after != taken.end() && after->first < entry.offset + size) ||
          (after != taken.begin() && std::prev(after)->second > entry.offset))
        in.fail(fmt::format("the elements of '{}' overlap those of another tensor", entry.name));
      taken[entry.offset] = entry.offset + size;
    }
    if (file.types.contains(entry.name)) in.fail(fmt::format("there are two tensors '{}'", entry.name));
    file.types[entry.name] = entry.type->name;
    const auto elements = size == 0 ? std::span<const std::byte>() : bytes.subspan(begin + entry.offset, size);
    if (options.keep_packed && !entry.type->dtype) {
      file.packed[entry.name] = kept_packed(entry, elements, owner);
    } else {
      file.tensors.set(entry.name, make_tensor(entry, elements, owner, mapped ? bytes : std::span<const std::byte>()));
    }
  }
  return file;
}

Gguf load_gguf(const std::filesystem::path& path, const GgufLoadOptions& options) {
  const auto file = std::make_shared<const MappedFile>(path);
  return read_gguf(file->bytes(), file, file->path(), true, options);
}

Tensor unpack(const GgufPacked& packed) {
  return unpacked(checked_type(packed, "unpack"), bytes_of(packed.rows), packed.shape);
}

Tensor unpack_rows(const GgufPacked& packed, std::int64_t first, std::int64_t count) {
  const TypeInfo& type = checked_type(packed, "unpack_rows");
  const std::int64_t rows = packed.rows.shape(0);
  if (first < 0 || count < 0 || first > rows || count > rows - first)
    throw IndexError({.where = "unpack_rows",
                      .problem = "no such rows",
                      .expected = fmt::format("rows of {}", rows),
                      .got = fmt::format("{} from {} on", count, first)});
  const auto width = static_cast<std::size_t>(packed.rows.shape(1));
  return unpacked(
      type,
      bytes_of(packed.rows).subspan(static_cast<std::size_t>(first) * width, static_cast<std::size_t>(count) * width),
      {count, packed.shape.empty() ? 0 : packed.shape.back()});
}

void save_gguf(const std::filesystem::path& path, const Gguf& file, const GgufSaveOptions& options) {
  const std::vector<Saved> list = saved_tensors(path, file, options);
  Writer head;
  head.number(kMagic);
  head.number(std::uint32_t{3});
  head.number(std::uint64_t{list.size()});
  std::uint64_t entries = 0;
  for (const auto& entry : file.metadata) entries += entry.first == "general.alignment" ? 0 : 1;
  head.number(entries);
  for (const auto& [key, value] : file.metadata) {
    if (key == "general.alignment") continue;  // it is the default
    head.string(key);
    head.number(type_of(value));
    write_value(value, head);
  }
  std::uint64_t at = 0;
  for (const Saved& saved : list) {
    head.string(*saved.name);
    head.number(static_cast<std::uint32_t>(saved.shape->size()));
    for (std::size_t axis = saved.shape->size(); axis-- > 0;)
      head.number(static_cast<std::uint64_t>((*saved.shape)[axis]));
    head.number(saved.type->id);
    head.number(at);
    at += saved.size() + padding(saved.size());
  }
  head.pad();
  AtomicFile out(path);
  out.write(head.out);
  for (const Saved& saved : list) {  // one after the other: only one tensor is quantised at a time
    if (saved.quantize) {
      out.write(quantize_q8_0(saved.tensor->data<float>()));
    } else {
      out.write(bytes_of(*saved.tensor));
    }
    out.write(std::string(padding(saved.size()), '\0'));
  }
  out.commit();
}

}  // namespace tenon::formats
