#include "tenon/formats/hdf5/links.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tenon/formats/hdf5/heaps.h"
#include "tenon/formats/hdf5/trees.h"

namespace tenon::formats::hdf5 {
namespace {

constexpr std::uint8_t kLinksByName = 5;  // records: a hash of 4 bytes, an id of the heap

void old_links(File& file, const Message& message, std::vector<Link>& links) {
  Cursor body = message.body;
  const std::uint64_t tree = body.offset(), heap_address = body.offset();
  LocalHeap heap(file, heap_address);
  std::set<std::uint64_t> nodes;
  const auto symbol_node = [&](Cursor, std::uint64_t address) {
    if (!nodes.insert(address).second) file.fail(address, "a group lists the same names twice");
    Cursor head = file.cursor_from(address, "a symbol table node");
    head.signature("SNOD");
    head.version(1);
    head.skip(1);
    const std::uint64_t count = head.u16(), size = 2 * std::uint64_t{file.offset_size()} + 24;
    Cursor cursor = file.cursor(head.address(), count * size, "a symbol table node");
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t name = cursor.offset(), object = cursor.offset();
      const std::uint32_t kind = cursor.u32();
      cursor.skip(20);
      if (kind == 2) continue;  // a soft link
      const std::string_view text = heap.name(name);
      file.copy(text.size(), address, "a group's names");
      links.push_back({std::string(text), object});
    }
  };
  walk_old_tree(file, tree, {OldTree::Group, file.length_size()}, symbol_node);
}

void add_link(File& file, Cursor body, std::vector<Link>& links) {
  body.version(1);
  const unsigned flags = body.u8();
  const unsigned kind = (flags & 8U) != 0 ? body.u8() : 0;
  if ((flags & 4U) != 0) body.skip(8);  // the order of creation
  if ((flags & 16U) != 0) body.skip(1);
  const std::uint64_t length = body.number(1U << (flags & 3U));
  const std::uint64_t at = body.address();
  const std::string_view name = as_text(body.take(length));
  if (kind != 0) return;  // a soft or external link
  file.copy(name.size(), at, "a group's names");
  links.push_back({std::string(name), body.offset()});
}

void dense_links(File& file, const Message& message, std::vector<Link>& links) {
  Cursor body = message.body;
  body.version(0);
  const unsigned flags = body.u8();
  if ((flags & 1U) != 0) body.skip(8);
  const std::uint64_t heap_address = body.offset(), tree = body.offset();
  if (!file.defined(heap_address) || !file.defined(tree)) return;  // the links are messages
  FractalHeap heap(file, heap_address);
  walk_new_tree(file, tree, kLinksByName, [&](Cursor record) {
    record.skip(4);
    add_link(file, heap.object(record.sub(heap.id_size())), links);
  });
}

}  // namespace

std::vector<Link> read_links(File& file, const ObjectHeader& header) {
  std::vector<Link> links;
  for (const Message& message : header.messages) {
    if (message.type == MessageType::SymbolTable) old_links(file, message, links);
    if (message.type == MessageType::Link) add_link(file, message.body, links);
    if (message.type == MessageType::LinkInfo) dense_links(file, message, links);
  }
  std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < links.size(); ++i)
    if (links[i].name == links[i - 1].name)
      file.fail(header.address, fmt::format("a group has two members of the name '{}'", links[i].name.substr(0, 80)));
  return links;
}

}  // namespace tenon::formats::hdf5
