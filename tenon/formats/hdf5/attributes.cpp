#include "tenon/formats/hdf5/attributes.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/formats/hdf5/datatype.h"
#include "tenon/formats/hdf5/trees.h"

namespace tenon::formats::hdf5 {
namespace {

constexpr std::uint8_t kAttributesByName = 8;  // records: an id of the heap, flags, the order of creation, a hash

using Visit = std::function<void(std::string_view, std::vector<std::string>)>;

// The text of a field of fixed size ends with its first zero byte.
std::string fixed_text(std::span<const std::byte> bytes) {
  const auto end = std::find(bytes.begin(), bytes.end(), std::byte{0});
  return std::string(as_text(bytes.first(static_cast<std::size_t>(end - bytes.begin()))));
}

std::vector<std::string> read_texts(File& file, GlobalHeap& heap, Cursor body, const Datatype& type,
                                    std::uint64_t count) {
  // An empty text costs memory too, so there are no more of them than bytes.
  const std::uint64_t stored =
      type.kind == Datatype::Kind::HeapText ? 8 + std::uint64_t{file.offset_size()} : type.size;
  if (count > body.remaining() / stored) body.fail("an attribute is longer than its message");
  file.work(count * sizeof(std::string), body.address());
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t at = body.address();
    if (type.kind == Datatype::Kind::FixedText) {
      file.copy(type.size, at, "an attribute");
      texts.push_back(fixed_text(body.take(type.size)));
      continue;
    }
    const std::uint64_t length = body.u32(), collection = body.offset();
    const std::uint32_t index = body.u32();
    if (length == 0 || !file.defined(collection) || collection == 0) {
      texts.emplace_back();
      continue;
    }
    const auto object = heap.object(collection, index);
    if (length > object.size()) file.fail(at, "a text is longer than its object in the global heap");
    file.copy(length, at, "an attribute");
    texts.push_back(fixed_text(object.first(static_cast<std::size_t>(length))));
  }
  return texts;
}

void read_attribute(File& file, GlobalHeap& heap, Cursor body, const Visit& visit) {
  const unsigned version = body.u8(), flags = body.u8();
  if (version < 1 || version > 3) body.fail("unknown version of an attribute", "1 to 3", fmt::format("{}", version));
  const std::uint64_t name_size = body.u16(), type_size = body.u16(), space_size = body.u16();
  if (version == 3) body.skip(1);
  const auto padded = [&](std::uint64_t size) { return version == 1 ? (size + 7) / 8 * 8 : size; };
  const auto name = body.take(padded(name_size)).first(static_cast<std::size_t>(name_size));
  const Message type{MessageType::Datatype, version > 1 && (flags & 1U) != 0, body.sub(padded(type_size))};
  const Message space{MessageType::Dataspace, version > 1 && (flags & 2U) != 0, body.sub(padded(space_size))};
  const Datatype datatype = read_datatype(resolve(file, type));
  if (datatype.kind != Datatype::Kind::FixedText && datatype.kind != Datatype::Kind::HeapText) return;
  const Dataspace dataspace = read_dataspace(resolve(file, space));
  visit(fixed_text(name), read_texts(file, heap, body, datatype, dataspace.count));
}

void dense_attributes(File& file, GlobalHeap& heap, Cursor body, const Visit& visit) {
  body.version(0);
  const unsigned flags = body.u8();
  if ((flags & 1U) != 0) body.skip(2);
  const std::uint64_t heap_address = body.offset(), tree = body.offset();
  if (!file.defined(heap_address) || !file.defined(tree)) return;
  FractalHeap objects(file, heap_address);
  walk_new_tree(file, tree, kAttributesByName, [&](Cursor record) {
    const Cursor id = record.sub(objects.id_size());
    if ((record.u8() & 2U) != 0)
      file.unsupported(record.address(), "an attribute in the file's table of shared messages");
    read_attribute(file, heap, objects.object(id), visit);
  });
}

}  // namespace

void read_text_attributes(File& file, GlobalHeap& heap, const ObjectHeader& header, const Visit& visit) {
  for (const Message& message : header.messages) {
    if (message.type == MessageType::Attribute) read_attribute(file, heap, resolve(file, message), visit);
    if (message.type == MessageType::AttributeInfo) dense_attributes(file, heap, message.body, visit);
  }
}

}  // namespace tenon::formats::hdf5
