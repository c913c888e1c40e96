#include "tenon/formats/hdf5/object_header.h"

#include <fmt/format.h>

#include <set>

namespace tenon::formats::hdf5 {
namespace {

constexpr std::string_view kWhat = "an object header";

// The messages of one block, and the blocks that continue it.
class Blocks {
 public:
  Blocks(File& file, ObjectHeader& header) : file_(file), header_(header) {}

  void read_old(Cursor block) {
    old_messages(block);
    continue_with([&](std::uint64_t address, std::uint64_t size) { old_messages(file_.cursor(address, size, kWhat)); });
  }

  void read_new(Cursor block, bool ordered) {
    new_messages(block, ordered);
    continue_with([&](std::uint64_t address, std::uint64_t size) {
      Cursor whole = file_.cursor(address, size, kWhat);
      whole.signature("OCHK");
      if (whole.remaining() < 4) whole.fail("a continuation of an object header ends early");
      const Cursor inside = whole.sub(whole.remaining() - 4);
      file_.verify_checksum(whole, address);
      new_messages(inside, ordered);
    });
  }

 private:
  void old_messages(Cursor block) {
    while (block.remaining() >= 8) {
      const auto type = static_cast<MessageType>(block.u16());
      const std::uint16_t size = block.u16();
      const std::uint8_t flags = block.u8();
      block.skip(3);
      add(type, flags, block.sub(size));
    }
  }

  void new_messages(Cursor block, bool ordered) {
    const std::size_t prefix = ordered ? 6 : 4;
    while (block.remaining() >= prefix) {  // a smaller rest is a gap
      const auto type = static_cast<MessageType>(block.u8());
      const std::uint16_t size = block.u16();
      const std::uint8_t flags = block.u8();
      if (ordered) block.skip(2);
      add(type, flags, block.sub(size));
    }
  }

  void add(MessageType type, std::uint8_t flags, Cursor body) {
    if (type == MessageType::Continuation) {
      const std::uint64_t address = body.offset(), size = body.length();
      waiting_.emplace_back(address, size);
    } else if (type != MessageType{}) {
      header_.messages.push_back({type, (flags & 2U) != 0, body});
    }
  }

  template <class Read>
  void continue_with(Read&& read) {
    while (!waiting_.empty()) {
      const auto [address, size] = waiting_.back();
      waiting_.pop_back();
      if (!seen_.insert(address).second) file_.fail(address, "an object header continues in a circle");
      read(address, size);
    }
  }

  File& file_;
  ObjectHeader& header_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> waiting_;
  std::set<std::uint64_t> seen_;
};

void read_version_2(File& file, std::uint64_t address, Cursor& cursor, ObjectHeader& header) {
  cursor.signature("OHDR");
  cursor.version(2);
  const std::uint8_t flags = cursor.u8();
  if ((flags & 0x20U) != 0) cursor.skip(16);  // times
  if ((flags & 0x10U) != 0) cursor.skip(4);   // when attributes become dense
  const std::uint64_t size = cursor.number(1U << (flags & 3U));
  file.work(size, address);
  const Cursor block = cursor.sub(size);
  file.verify_checksum(cursor, address);
  Blocks(file, header).read_new(block, (flags & 4U) != 0);
}

void read_version_1(File& file, Cursor& cursor, ObjectHeader& header) {
  cursor.version(1);
  cursor.skip(7);  // reserved, the number of messages, the reference count
  const std::uint32_t size = cursor.u32();
  cursor.skip(4);
  file.work(size, cursor.address());
  Blocks(file, header).read_old(cursor.sub(size));
}

}  // namespace

const Message* ObjectHeader::find(MessageType type) const {
  for (const Message& message : messages)
    if (message.type == type) return &message;
  return nullptr;
}

ObjectHeader read_object_header(File& file, std::uint64_t address) {
  ObjectHeader header{.address = address, .messages = {}};
  Cursor cursor = file.cursor_from(address, kWhat);
  if (cursor.remaining() >= 4 && as_text(Cursor(cursor).take(4)) == "OHDR") {
    read_version_2(file, address, cursor, header);
  } else {
    read_version_1(file, cursor, header);
  }
  return header;
}

Cursor resolve(File& file, const Message& message) {
  if (!message.shared) return message.body;
  Cursor body = message.body;
  const std::uint8_t version = body.u8(), kind = body.u8();
  if (version < 1 || version > 3)
    body.fail("unknown version of a shared message", "1 to 3", fmt::format("{}", version));
  if (version == 3 && kind == 1)
    file.unsupported(body.address(), "a message in the file's table of shared messages",
                     "write the file without shared object header messages");
  if (version == 1) body.skip(6);
  const std::uint64_t address = body.offset();
  for (Message& found : read_object_header(file, address).messages) {
    if (found.type != message.type) continue;
    if (found.shared) file.fail(address, "a shared message is itself shared");
    return found.body;
  }
  file.fail(address, "a shared message is not where the file says");
}

}  // namespace tenon::formats::hdf5
