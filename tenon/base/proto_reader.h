// One message of a protobuf file that is not trusted: protozero's reader, which knows where it is.
//
// Wire types are checked before a field is read, and every mistake is a FormatError that names the file, the byte at
// which the field begins, and the reason. Messages inside of messages know their place in the whole file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <protozero/pbf_reader.hpp>
#include <string>
#include <string_view>

namespace tenon {

// What is being read: the file's bytes, its name, and what it should be ("an ONNX model"), all kept by others.
struct ProtoSource {
  std::string_view bytes;
  std::string_view where;
  std::string_view what;
};

class ProtoReader {
 public:
  using Wire = protozero::pbf_wire_type;

  explicit ProtoReader(const ProtoSource& source) : ProtoReader(source, source.bytes) {}

  // Goes to the next field; false at the message's end.
  bool next() {
    field_ = reader_.data().data();
    return guarded([&] { return reader_.next(); });
  }
  [[nodiscard]] uint32_t tag() const { return reader_.tag(); }
  [[nodiscard]] bool is(Wire type) const { return reader_.has_wire_type(type); }
  [[nodiscard]] bool is_packed() const { return is(Wire::length_delimited); }
  // Where the field begins in the file.
  [[nodiscard]] size_t offset() const { return static_cast<size_t>(field_ - source_.bytes.data()); }

  void skip() {
    guarded([&] { reader_.skip(); });
  }
  std::string_view view() {
    return get(Wire::length_delimited, [&] {
      const auto bytes = reader_.get_view();
      return std::string_view(bytes.data(), bytes.size());
    });
  }
  std::string text() { return std::string(view()); }
  ProtoReader message() { return ProtoReader(source_, view()); }
  int64_t integer() {
    return get(Wire::varint, [&] { return reader_.get_int64(); });
  }
  uint64_t natural() {
    return get(Wire::varint, [&] { return reader_.get_uint64(); });
  }
  int32_t short_integer() {
    return get(Wire::varint, [&] { return reader_.get_int32(); });
  }
  float real() {
    return get(Wire::fixed32, [&] { return reader_.get_float(); });
  }
  double long_real() {
    return get(Wire::fixed64, [&] { return reader_.get_double(); });
  }
  // The numbers of a packed field.
  template <class Use>
  void packed_integers(const Use& use) {
    guarded([&] {
      for (const int64_t value : reader_.get_packed_int64()) use(value);
    });
  }
  template <class Use>
  void packed_floats(const Use& use) {
    guarded([&] {
      for (const float value : reader_.get_packed_float()) use(value);
    });
  }
  template <class Use>
  void packed_doubles(const Use& use) {
    guarded([&] {
      for (const double value : reader_.get_packed_double()) use(value);
    });
  }

  [[noreturn]] void fail(std::string_view reason) const;  // FormatError

 private:
  ProtoReader(const ProtoSource& source, std::string_view message)
      : source_(source), reader_(message.data(), message.size()), field_(message.data()) {}

  template <class F>
  auto guarded(const F& f) -> decltype(f()) {
    try {
      return f();
    } catch (const protozero::exception& error) {
      fail(error.what());
    }
  }
  template <class F>
  auto get(Wire type, const F& f) -> decltype(f()) {
    if (!is(type)) fail("a field of another kind than its number says");
    return guarded(f);
  }

  ProtoSource source_;
  protozero::pbf_reader reader_;
  const char* field_;
};

}  // namespace tenon
