#include "tenon/serve/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "tenon/serve/status.h"

namespace tenon::serve {

static_assert(std::endian::native == std::endian::little, "raw tensors are little-endian");

WireReader::WireReader(std::span<const std::span<const std::byte>> pieces) : pieces_(pieces) {
  for (const auto& piece : pieces) left_ += piece.size();
}

void WireReader::fail(std::string_view problem) {
  throw RequestError(Code::InvalidArgument, fmt::format("the message is no protobuf of its kind: {}", problem));
}
void WireReader::need(size_t n) const {
  if (n > left_) fail("it ends too early");
}
void WireReader::expect(WireType type) const {
  if (type_ != type) fail(fmt::format("field {} has another wire type", field_));
}

uint8_t WireReader::byte() {
  need(1);
  while (at_ == pieces_[piece_].size()) {
    ++piece_;
    at_ = 0;
  }
  --left_;
  return static_cast<uint8_t>(pieces_[piece_][at_++]);
}

uint64_t WireReader::varint() {
  if (left_ > 0 && piece_ < pieces_.size() && at_ < pieces_[piece_].size()) {  // nearly always one byte
    const auto b = static_cast<uint8_t>(pieces_[piece_][at_]);
    if (b < 128) {
      ++at_;
      --left_;
      return b;
    }
  }
  uint64_t v = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    const uint8_t b = byte();
    v |= static_cast<uint64_t>(b & 127) << std::min(shift, 63);
    if (b < 128) return v;
  }
  fail("a number is too long");
}

bool WireReader::next() {
  if (left_ == 0) return false;
  const uint64_t tag = varint();
  field_ = static_cast<int>(tag >> 3);
  const auto type = static_cast<uint8_t>(tag & 7);
  if (field_ <= 0 || tag >> 3 > 536870911) fail("a field's number is out of range");
  if (type != 0 && type != 1 && type != 2 && type != 5) fail("unknown wire type");
  type_ = static_cast<WireType>(type);
  return true;
}

void WireReader::copy(std::byte* to, size_t n) {
  need(n);
  left_ -= n;
  while (n > 0) {
    while (at_ == pieces_[piece_].size()) {
      ++piece_;
      at_ = 0;
    }
    const size_t part = std::min(n, pieces_[piece_].size() - at_);
    if (to) {
      std::memcpy(to, pieces_[piece_].data() + at_, part);
      to += part;
    }
    at_ += part;
    n -= part;
  }
}

std::span<const std::byte> WireReader::in_place(size_t n) {
  need(n);
  while (n > 0 && at_ == pieces_[piece_].size()) {
    ++piece_;
    at_ = 0;
  }
  if (n == 0 || pieces_[piece_].size() - at_ < n) return {};
  const auto out = pieces_[piece_].subspan(at_, n);
  at_ += n;
  left_ -= n;
  return out;
}

uint32_t WireReader::fixed32() {
  uint32_t v = 0;
  copy(reinterpret_cast<std::byte*>(&v), 4);
  return v;
}
uint64_t WireReader::fixed64() {
  uint64_t v = 0;
  copy(reinterpret_cast<std::byte*>(&v), 8);
  return v;
}
float WireReader::real32() { return std::bit_cast<float>(fixed32()); }
double WireReader::real64() { return std::bit_cast<double>(fixed64()); }

size_t WireReader::length() {
  expect(WireType::Bytes);
  const uint64_t n = varint();
  if (n > left_) fail("a length goes beyond the end");
  return static_cast<size_t>(n);
}
std::string WireReader::text() {
  std::string out(length(), '\0');
  copy(reinterpret_cast<std::byte*>(out.data()), out.size());
  return out;
}

std::string first_text(std::span<const std::span<const std::byte>> message, int depth) {
  try {
    WireReader in(message);
    while (in.next()) {
      if (in.field() != 1) {
        in.skip();
        continue;
      }
      if (depth == 0) return in.text();
      in = in.sub();
      --depth;
    }
    return {};
  } catch (const RequestError&) {
    return {};  // what is broken has no name
  }
}

WireReader WireReader::sub() {
  constexpr int kDeepest = 64;
  if (depth_ >= kDeepest) fail("messages are nested too deeply");
  const size_t n = length();
  WireReader inner;
  inner.pieces_ = pieces_;
  inner.piece_ = piece_;
  inner.at_ = at_;
  inner.left_ = n;
  inner.depth_ = depth_ + 1;
  copy(nullptr, n);
  return inner;
}

void WireReader::skip() {
  switch (type_) {
    case WireType::Varint:
      (void)varint();
      break;
    case WireType::Fixed64:
      copy(nullptr, 8);
      break;
    case WireType::Fixed32:
      copy(nullptr, 4);
      break;
    case WireType::Bytes:
      copy(nullptr, length());
  }
}

// ---- writing ----

void WireWriter::put(uint64_t v) {
  char bytes[10];
  size_t n = 0;
  for (; v > 127; v >>= 7) bytes[n++] = static_cast<char>((v & 127) | 128);
  bytes[n++] = static_cast<char>(v);
  open_.append(bytes, n);
  size_ += n;
}
size_t WireWriter::open_message(int field) {
  tag(field, WireType::Bytes);
  put(0);  // the length, nearly always one byte
  return open_.size();
}
void WireWriter::close_message(size_t opened) {
  WireWriter length;
  length.put(open_.size() - opened);
  open_.replace(opened - 1, 1, length.open_);
  size_ += length.size_ - 1;
}
void WireWriter::varint(int field, uint64_t v) {
  tag(field, WireType::Varint);
  put(v);
}
void WireWriter::real32(int field, float v) {
  tag(field, WireType::Fixed32);
  open_.append(reinterpret_cast<const char*>(&v), 4);
  size_ += 4;
}
void WireWriter::real64(int field, double v) {
  tag(field, WireType::Fixed64);
  open_.append(reinterpret_cast<const char*>(&v), 8);
  size_ += 8;
}
void WireWriter::text(int field, std::string_view v) {
  if (!v.empty()) bytes(field, v);
}
void WireWriter::bytes(int field, std::string_view v) {
  tag(field, WireType::Bytes);
  put(v.size());
  open_ += v;
  size_ += v.size();
}
void WireWriter::packed_varints(int field, std::span<const int64_t> values) {
  if (values.empty()) return;
  const size_t opened = open_message(field);
  for (int64_t v : values) put(static_cast<uint64_t>(v));
  close_message(opened);
}
void WireWriter::flush() {
  if (!open_.empty()) chunks_.push_back(Chunk::of(std::exchange(open_, {})));
}
void WireWriter::message(int field, const WireWriter& nested) {
  tag(field, WireType::Bytes);
  put(nested.size_);
  if (!nested.chunks_.empty()) {
    flush();
    chunks_.insert(chunks_.end(), nested.chunks_.begin(), nested.chunks_.end());
  }
  open_ += nested.open_;
  size_ += nested.size_;
}
void WireWriter::chunk(int field, Chunk content) {
  tag(field, WireType::Bytes);
  put(content.bytes.size());
  size_ += content.bytes.size();
  if (content.bytes.size() <= 256) {  // a copy is cheaper than a piece
    open_.append(reinterpret_cast<const char*>(content.bytes.data()), content.bytes.size());
    return;
  }
  flush();
  chunks_.push_back(std::move(content));
}
std::vector<Chunk> WireWriter::take() {
  flush();
  size_ = 0;
  return std::exchange(chunks_, {});
}
std::string WireWriter::to_string() const {
  std::string out;
  for (const auto& c : chunks_) out.append(reinterpret_cast<const char*>(c.bytes.data()), c.bytes.size());
  return out + open_;
}

}  // namespace tenon::serve
