// Object headers: the list of messages that says what an object is, in both versions, with its continuations.
#pragma once

#include <vector>

#include "tenon/formats/hdf5/bytes.h"

namespace tenon::formats::hdf5 {

enum class MessageType : std::uint16_t {
  Dataspace = 0x01,
  LinkInfo = 0x02,
  Datatype = 0x03,
  OldFillValue = 0x04,
  FillValue = 0x05,
  Link = 0x06,
  ExternalFiles = 0x07,
  Layout = 0x08,
  Filters = 0x0b,
  Attribute = 0x0c,
  Continuation = 0x10,
  SymbolTable = 0x11,
  AttributeInfo = 0x15,
};

struct Message {
  MessageType type{};
  bool shared = false;  // the body says where the message is
  Cursor body;
};

struct ObjectHeader {
  std::uint64_t address = 0;
  std::vector<Message> messages;
  // The first message of a type, or null.
  [[nodiscard]] const Message* find(MessageType type) const;
};

ObjectHeader read_object_header(File& file, std::uint64_t address);

// The body of a message that may be shared: a committed datatype lies in an object header of its own.
Cursor resolve(File& file, const Message& message);

}  // namespace tenon::formats::hdf5
