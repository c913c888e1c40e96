// Protobuf's wire format, read across the pieces in which a message came and written without copying tensors.
//
//   WireReader in(pieces);
//   while (in.next()) switch (in.field()) { case 1: in.text(name); break; … default: in.skip(); }
//
// A nested message is entered with sub(), which gives a reader of just it. Errors: RequestError INVALID_ARGUMENT.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/serve/http.h"

namespace tenon::serve {

enum class WireType : uint8_t { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };

class WireReader {
 public:
  // The pieces must outlive the reader.
  explicit WireReader(std::span<const std::span<const std::byte>> pieces);
  explicit WireReader(const std::span<const std::byte>& piece) : WireReader(std::span(&piece, 1)) {}
  explicit WireReader(const std::span<const std::byte>&& piece) = delete;  // the span itself must live on

  // The next field; false at the end of the message. The value must then be read or skipped.
  bool next();
  [[nodiscard]] int field() const { return field_; }
  [[nodiscard]] WireType type() const { return type_; }

  uint64_t varint();
  int64_t int64() { return static_cast<int64_t>(varint()); }
  int32_t int32() { return static_cast<int32_t>(varint()); }
  bool boolean() { return varint() != 0; }
  uint32_t fixed32();
  uint64_t fixed64();
  float real32();
  double real64();
  std::string text();
  // A bytes field: its length, after which the caller takes exactly so many bytes with copy() (or peek_whole()).
  size_t length();
  void copy(std::byte* to, size_t n);
  // The next n bytes if they lie in one piece, taken; else an empty span and nothing is taken.
  std::span<const std::byte> in_place(size_t n);
  // A reader of the nested message, which this one has then passed.
  WireReader sub();
  void skip();
  // Calls fn(reader) for each number of a repeated field, packed or not: fn reads one with varint(), real32() ….
  template <class Fn>
  void repeated(Fn&& fn) {
    if (type_ != WireType::Bytes) return fn(*this);
    WireReader list = sub();
    while (list.left_ > 0) fn(list);
  }
  [[nodiscard]] size_t left() const { return left_; }

 private:
  WireReader() = default;
  void need(size_t n) const;
  uint8_t byte();
  void expect(WireType type) const;
  [[noreturn]] static void fail(std::string_view problem);

  std::span<const std::span<const std::byte>> pieces_;
  size_t piece_ = 0, at_ = 0;  // where we are
  size_t left_ = 0;            // of this message
  int field_ = 0;
  WireType type_ = WireType::Varint;
  int depth_ = 0;
};

// The text of field 1, or that of field 1's field 1 … for a larger depth; "" if there is none before what is broken.
std::string first_text(std::span<const std::span<const std::byte>> message, int depth);

// A message as pieces: what is written, and tensors that are only pointed to.
class WireWriter {
 public:
  void varint(int field, uint64_t v);  // also int32, int64, bool, enums: negative ones as 64 bits
  void integer(int field, int64_t v) {
    if (v != 0) varint(field, static_cast<uint64_t>(v));
  }
  void real32(int field, float v);
  void real64(int field, double v);
  void text(int field, std::string_view v);  // nothing if empty
  void bytes(int field, std::string_view v);
  void packed_varints(int field, std::span<const int64_t> values);
  void message(int field, const WireWriter& nested);
  // The same in place: what is written between these two is the nested message (no chunk() then).
  size_t open_message(int field);
  void close_message(size_t opened);
  // A bytes field whose content is not copied.
  void chunk(int field, Chunk content);
  [[nodiscard]] size_t size() const { return size_; }
  // The pieces, in order. The writer is empty afterwards.
  std::vector<Chunk> take();
  [[nodiscard]] std::string to_string() const;

 private:
  void tag(int field, WireType type) { put(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(type)); }
  void put(uint64_t v);
  void flush();
  std::string open_;
  std::vector<Chunk> chunks_;
  size_t size_ = 0;
};

}  // namespace tenon::serve
