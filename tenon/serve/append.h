// Texts put together from pieces. The pieces are a list and not a call each: the code of a request is read from memory
// nearly every time that it runs, so that its length is time.
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

namespace tenon::serve {

// A whole number as text.
class Digits {
 public:
  explicit Digits(std::integral auto v) {
    size_ = static_cast<size_t>(std::to_chars(text_.data(), text_.data() + text_.size(), v).ptr - text_.data());
  }
  operator std::string_view() const { return {text_.data(), size_}; }  // NOLINT(google-explicit-constructor): a piece

 private:
  std::array<char, 20> text_{};
  size_t size_ = 0;
};

// append_all(out, {"\r\nContent-Length: ", Digits(length)});
void append_all(std::string& out, std::initializer_list<std::string_view> pieces);

}  // namespace tenon::serve
