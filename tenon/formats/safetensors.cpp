#include "tenon/formats/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/mapped_pages.h"

namespace tenon::formats {
namespace {

using Json = nlohmann::ordered_json;

// The format's names. The order of the rows is the reference implementation's order of dtypes: elements are
// written from the last row to the first, which keeps every tensor aligned without gaps.
struct Name {
  std::string_view text;
  DType dtype;
};
constexpr std::array names{
    Name{"BOOL", DType::Bool},      Name{"U8", DType::U8},   Name{"I8", DType::I8},   Name{"F8_E5M2", DType::F8E5M2},
    Name{"F8_E4M3", DType::F8E4M3}, Name{"I16", DType::I16}, Name{"U16", DType::U16}, Name{"F16", DType::F16},
    Name{"BF16", DType::BF16},      Name{"I32", DType::I32}, Name{"U32", DType::U32}, Name{"F32", DType::F32},
    Name{"F64", DType::F64},        Name{"I64", DType::I64}, Name{"U64", DType::U64},
};
// Names of the format that Tenon has no dtype for.
constexpr std::array foreign{"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"};

constexpr std::size_t header_limit = 100'000'000;  // the reference implementation's

const Name* find_name(DType dtype) {
  const auto* found = std::find_if(names.begin(), names.end(), [&](const Name& n) { return n.dtype == dtype; });
  return found == names.end() ? nullptr : found;
}

[[noreturn]] void fail(const std::string& where, std::string problem, std::string expected = {}, std::string got = {}) {
  throw FormatError(
      {.where = where, .problem = std::move(problem), .expected = std::move(expected), .got = std::move(got)});
}

// A name from a file, short and printable enough for a message.
std::string in_quotes(std::string_view name) {
  return fmt::format("\"{}\"", name.size() > 80 ? fmt::format("{}...", name.substr(0, 80)) : std::string(name));
}

std::string shortened(const Json& value) {
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > 80 ? text.substr(0, 80) + "..." : text;
}

std::string_view header_text(std::span<const std::byte> file, const std::string& where) {
  if (file.size() < 8)
    fail(where, "truncated: no header size at byte 0", "8 bytes", fmt::format("{} bytes", file.size()));
  std::uint64_t size = 0;
  for (int i = 7; i >= 0; --i) size = size << 8 | std::to_integer<std::uint64_t>(file[static_cast<std::size_t>(i)]);
  if (size > header_limit)
    fail(where, "not a safetensors file: the header size at byte 0 is too large",
         fmt::format("at most {}", header_limit), fmt::format("{}", size));
  if (size > file.size() - 8)
    fail(where, "truncated: the header at byte 8 goes past the end of the file", fmt::format("{} bytes", size),
         fmt::format("{} bytes", file.size() - 8));
  return {reinterpret_cast<const char*>(file.data()) + 8, static_cast<std::size_t>(size)};
}

// Parses the header. JSON readers drop repeated names silently; here a repeated name is an error.
Json parse_header(std::string_view text, const std::string& where) {
  if (text.empty() || text.front() != '{') fail(where, "the header at byte 8 does not begin with '{'");
  std::vector<std::set<std::string>> seen;
  std::optional<std::string> repeated;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > 8) fail(where, "the header is nested too deeply");
    if (event == Json::parse_event_t::object_start) seen.emplace_back();
    if (event == Json::parse_event_t::object_end) seen.pop_back();
    if (event == Json::parse_event_t::key && !seen.back().insert(value.get<std::string>()).second)
      repeated = value.get<std::string>();
    return true;
  };
  Json header;
  try {
    header = Json::parse(text, watch);
  } catch (const Json::parse_error& error) {
    fail(where, fmt::format("the header is not JSON in UTF-8 (near byte {})", error.byte + 8));
  } catch (const Json::exception& error) {  // a number beyond every type
    fail(where, "the header at byte 8 is not JSON that can be read", {}, error.what());
  }
  if (repeated) fail(where, fmt::format("the header has {} twice", in_quotes(*repeated)));
  return header;
}

std::uint64_t unsigned_number(const Json& value, const std::string& name, const char* field, const std::string& where) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    fail(where, fmt::format("tensor {}: {} is not a list of non-negative integers", in_quotes(name), field), "",
         shortened(value));
  return value.get<std::uint64_t>();
}

DType parse_dtype(const Json& value, const std::string& name, const std::string& where) {
  const std::string text = value.is_string() ? value.get<std::string>() : std::string();
  for (const auto& known : names)
    if (known.text == text) return known.dtype;
  if (std::find(foreign.begin(), foreign.end(), text) != foreign.end())
    throw UnsupportedError(
        {.where = where, .problem = fmt::format("tensor {} has dtype {}, which Tenon has not", in_quotes(name), text)});
  fail(where, fmt::format("tensor {}: unknown dtype", in_quotes(name)),
       "F32, F16, BF16, I64 or another of the format's", shortened(value));
}

Shape parse_shape(const Json& value, const std::string& name, const std::string& where) {
  if (!value.is_array())
    fail(where, fmt::format("tensor {}: shape is not a list of non-negative integers", in_quotes(name)), "",
         shortened(value));
  Shape shape;
  for (const auto& extent : value)
    shape.push_back(static_cast<std::int64_t>(unsigned_number(extent, name, "shape", where)));
  return shape;
}

// The bytes that the elements take, or nothing if that does not fit into 63 bits. The other extents of an empty tensor
// must fit too.
std::optional<std::uint64_t> bytes_of(DType dtype, const Shape& shape) {
  std::int64_t count = 1;
  bool is_empty = false;
  for (const std::int64_t extent : shape) {
    is_empty = is_empty || extent == 0;
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(extent, 1), &count)) return {};
  }
  if (count > std::numeric_limits<std::int64_t>::max() / 64) return {};
  if (is_empty) return 0;
  return static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(info(dtype).bits) / 8;
}

SafeTensorsEntry parse_entry(const std::string& name, const Json& value, std::size_t data_begin, std::size_t data_size,
                             const std::string& where) {
  if (!value.is_object()) fail(where, fmt::format("tensor {} is not an object", in_quotes(name)), "", shortened(value));
  for (const char* field : {"dtype", "shape", "data_offsets"})
    if (!value.contains(field)) fail(where, fmt::format("tensor {} has no {}", in_quotes(name), field));
  const DType dtype = parse_dtype(value["dtype"], name, where);
  const Shape shape = parse_shape(value["shape"], name, where);
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    fail(where, fmt::format("tensor {}: data_offsets is not a pair", in_quotes(name)), "[begin, end]",
         shortened(offsets));
  const auto begin = unsigned_number(offsets[0], name, "data_offsets", where);
  const auto end = unsigned_number(offsets[1], name, "data_offsets", where);
  if (begin > end) fail(where, fmt::format("tensor {} ends before it begins", in_quotes(name)), "", shortened(offsets));
  const auto needed = bytes_of(dtype, shape);
  if (!needed)
    fail(where, fmt::format("tensor {}: the shape is too large", in_quotes(name)), "", shortened(value["shape"]));
  if (*needed != end - begin)
    fail(where, fmt::format("tensor {}: shape and data_offsets disagree", in_quotes(name)),
         fmt::format("{} bytes for {}", *needed, to_string(TensorType{dtype, shape})),
         fmt::format("{} bytes", end - begin));
  if (end > data_size)
    fail(where, fmt::format("truncated: tensor {} goes past the end of the file", in_quotes(name)),
         fmt::format("{} bytes of elements", end), fmt::format("{}", data_size));
  return {.name = name,
          .type = {dtype, shape},
          .begin = data_begin + static_cast<std::size_t>(begin),
          .size = static_cast<std::size_t>(end - begin)};
}

// Where the header has this key: one before an object, or before something else if there is no such key. Nothing if it
// is written with escapes.
std::optional<std::size_t> place_of(std::string_view name, std::string_view header) {
  const std::string quoted = Json(name).dump();
  std::optional<std::size_t> key;
  for (std::size_t at = header.find(quoted); at != std::string_view::npos; at = header.find(quoted, at + 1)) {
    std::size_t next = at + quoted.size();
    const auto skip = [&] { next = std::min(header.find_first_not_of(" \t\r\n", next), header.size()); };
    skip();
    if (next == header.size() || header[next] != ':') continue;
    ++next;
    skip();
    if (next < header.size() && header[next] == '{') return 8 + at;
    if (!key) key = 8 + at;
  }
  return key;
}

// The same; an error says where the header has the name.
SafeTensorsEntry parse_entry(const std::string& name, const Json& value, std::string_view header, std::size_t file_size,
                             const std::string& where) {
  const auto with_place = [&](ErrorParts parts) {
    if (const auto at = place_of(name, header)) parts.problem += fmt::format(" (its entry is at byte {})", *at);
    return parts;
  };
  try {
    return parse_entry(name, value, 8 + header.size(), file_size - 8 - header.size(), where);
  } catch (const FormatError& error) {
    throw FormatError(with_place(error.parts()));
  } catch (const UnsupportedError& error) {
    throw UnsupportedError(with_place(error.parts()));
  }
}

// The elements must fill the rest of the file exactly: no overlap, no hole, nothing after.
void check_layout(const std::vector<SafeTensorsEntry>& entries, std::size_t data_begin, std::size_t file_size,
                  const std::string& where) {
  std::size_t at = data_begin;
  for (const auto& entry : entries) {
    if (entry.begin < at)
      fail(where, fmt::format("tensor {} overlaps another at byte {}", in_quotes(entry.name), entry.begin));
    if (entry.begin > at)
      fail(where,
           fmt::format("a hole of {} bytes before tensor {} at byte {}", entry.begin - at, in_quotes(entry.name), at));
    at += entry.size;
  }
  if (at != file_size) fail(where, fmt::format("{} bytes after the last tensor at byte {}", file_size - at, at));
}

Tensor make_tensor(const SafeTensorsEntry& entry, std::span<const std::byte> file,
                   const std::shared_ptr<const void>& owner, const std::string& where, bool mapped) {
  const auto elements = file.subspan(entry.begin, entry.size);
  if (entry.type.dtype == DType::Bool)
    for (std::size_t i = 0; i < elements.size(); ++i)
      if (elements[i] > std::byte{1})
        fail(where, fmt::format("tensor {} holds a bool that is neither 0 nor 1 at byte {}", in_quotes(entry.name),
                                entry.begin + i));
  const auto alignment = static_cast<std::size_t>(std::max(1, info(entry.type.dtype).bits / 8));
  const bool aligned = reinterpret_cast<std::uintptr_t>(elements.data()) % alignment == 0;
  if (aligned && owner != nullptr && !elements.empty()) {
    // Read-only memory: the buffer is not writable, so nothing writes through this pointer.
    auto* data = const_cast<std::byte*>(elements.data());
    return from_buffer(Buffer::wrap(data, elements.size(), owner), entry.type);
  }
  Tensor copy = empty(entry.type.shape, entry.type.dtype);
  if (mapped) {
    copy_from_mapping(elements, mutable_data(copy));
  } else if (!elements.empty()) {
    std::memcpy(mutable_data(copy), elements.data(), elements.size());
  }
  return copy;
}

struct Saved {
  const std::string* name;
  const Tensor* tensor;
  const Name* dtype;
};

// The tensors in the order of the file: widest dtype first, then by name.
std::vector<Saved> in_file_order(const StateDict& tensors, const std::string& where) {
  std::vector<Saved> order;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined() || !tensor.is_concrete())
      throw ValueError({.where = where, .problem = fmt::format("tensor {} has no elements to save", in_quotes(name))});
    if (!tensor.is_contiguous())
      throw ValueError({.where = where,
                        .problem = fmt::format("tensor {} is not contiguous", in_quotes(name)),
                        .hint = "save contiguous(x)"});
    if (name == "__metadata__")
      throw ValueError(
          {.where = where, .problem = "a tensor cannot be called \"__metadata__\": the format keeps that name"});
    const Name* dtype = find_name(tensor.dtype());
    if (dtype == nullptr)
      throw UnsupportedError({.where = where,
                              .problem = fmt::format("tensor {}: the format has no dtype {}", in_quotes(name),
                                                     tenon::name(tensor.dtype())),
                              .hint = "save cast(x, i8)"});
    order.push_back({&name, &tensor, dtype});
  }
  std::stable_sort(order.begin(), order.end(), [](const Saved& a, const Saved& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : *a.name < *b.name;
  });
  return order;
}

std::span<const std::byte> elements_of(const Tensor& tensor) {
  const auto* impl = tensor.impl();
  const auto begin = byte_size(tensor.dtype(), impl->offset);
  return {impl->buffer->data() + begin, static_cast<std::size_t>(byte_size(tensor.dtype(), tensor.size()))};
}

std::string header_for(const std::vector<Saved>& order, const std::map<std::string, std::string>& metadata,
                       const std::string& where) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t at = 0;
  for (const auto& saved : order) {
    const std::size_t end = at + elements_of(*saved.tensor).size();
    const Shape& shape = saved.tensor->shape();
    header[*saved.name] = Json{{"dtype", saved.dtype->text},
                               {"shape", std::vector<std::int64_t>(shape.begin(), shape.end())},
                               {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::type_error&) {
    throw ValueError({.where = where, .problem = "a tensor's name or a text of the metadata is not UTF-8"});
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

std::optional<std::size_t> place_in_header(std::span<const std::byte> file, std::string_view key) {
  return place_of(key, header_text(file, {}));
}

SafeTensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& where) {
  const std::string_view text = header_text(file, where);
  const Json header = parse_header(text, where);
  SafeTensorsHeader out;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      out.entries.push_back(parse_entry(name, value, text, file.size(), where));
      continue;
    }
    if (!value.is_object()) fail(where, "__metadata__ is not an object of texts", "", shortened(value));
    for (const auto& [key, entry] : value.items()) {
      if (!entry.is_string())
        fail(where, fmt::format("__metadata__: {} is not a text", in_quotes(key)), "", shortened(entry));
      out.metadata.emplace(key, entry.get<std::string>());
    }
  }
  std::stable_sort(out.entries.begin(), out.entries.end(), [](const auto& a, const auto& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.size < b.size;
  });
  check_layout(out.entries, 8 + text.size(), file.size(), where);
  return out;
}

SafeTensors read_safetensors(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                             const std::string& where, bool mapped) {
  SafeTensorsHeader header = parse_safetensors_header(bytes, where);
  SafeTensors out{.tensors = {}, .metadata = std::move(header.metadata)};
  for (const auto& entry : header.entries) out.tensors.set(entry.name, make_tensor(entry, bytes, owner, where, mapped));
  return out;
}

SafeTensors load_safetensors(const std::filesystem::path& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  return read_safetensors(file->bytes(), file, path.string(), true);
}

void save_safetensors(const std::filesystem::path& path, const StateDict& tensors,
                      const std::map<std::string, std::string>& metadata) {
  const std::string where = path.string();
  const auto order = in_file_order(tensors, where);
  const std::string header = header_for(order, metadata, where);
  std::array<std::byte, 8> size{};
  for (std::size_t i = 0; i < size.size(); ++i) size[i] = static_cast<std::byte>(header.size() >> (8 * i) & 0xff);
  AtomicFile file(path);
  file.write(size);
  file.write(header);
  for (const auto& saved : order) file.write(elements_of(*saved.tensor));
  file.commit();
}

}  // namespace tenon::formats
