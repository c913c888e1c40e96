// A pull parser for JSON bodies: goes once over the text, builds no tree, never recurses.
//
// As tolerant as TensorFlow Serving: NaN, Infinity and -Infinity are numbers, and what follows the first complete value
// is ignored. Use: begin_object() … while (next_key(key)) { read or skip_value() }, likewise arrays with next_item().
// Errors: RequestError INVALID_ARGUMENT naming the byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tenon/serve/append.h"

namespace tenon::serve {

enum class JsonKind : uint8_t { Object, Array, String, Number, True, False, Null };

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : at_(text.data()), begin_(text.data()), end_(text.data() + text.size()) {}

  // What comes next, without taking it.
  JsonKind peek();
  void begin_object();
  // The next key of the object; false at its end. A view is valid until the next key or text is read.
  bool next_key(std::string& key);
  bool next_key(std::string_view& key);
  void begin_array();
  bool next_item();  // false at the array's end
  // Appends nothing for what it skips; checks its form all the same.
  void skip_value();

  void string(std::string& out);  // replaced; escapes decoded
  std::string_view text();        // the same without a copy, valid until the next key or text is read
  bool boolean();
  void null();
  // The number's text: valid as JSON's numbers are, or NaN, Infinity, -Infinity.
  std::string_view number();
  double real();
  // RequestError if it is no integer of T.
  template <class T>
  T integer();
  // The text of the next value, skipped.
  std::string_view raw_value();

  [[nodiscard]] size_t offset() const { return static_cast<size_t>(at_ - begin_); }
  [[noreturn]] void fail(std::string_view problem) const;
  // Where the reader stands, to come back to.
  struct Mark {
    const char* at;
    size_t depth;
    bool first;
  };
  [[nodiscard]] Mark mark() const { return {at_, open_.size(), first_}; }
  void back_to(const Mark& mark);

 private:
  static constexpr size_t kDeepest = 1000;
  void space() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }
  // The part of a text up to what is not simply a character of it.
  std::string_view plain();
  // text(), where one has been seen to begin.
  std::string_view text_here();
  void word(std::string_view text);
  char take();
  void open(char c);
  void scan_string();

  const char* at_;
  const char* begin_;
  const char* end_;
  std::string open_;     // brackets to close
  std::string decoded_;  // the last text that had escapes
  bool first_ = true;    // no item of the innermost bracket has been read
};

// Numbers and texts as JSON writes them.
void append_json(std::string& out, std::string_view text);
// The shortest text that reads back as the same number, with ".0" for whole ones; NaN and infinities bare.
void append_number(std::string& out, float v);
void append_number(std::string& out, double v);
inline void append_integer(std::string& out, int64_t v) { out.append(std::string_view(Digits(v))); }
// "1,2,3"
template <class List>
void append_list(std::string& out, const List& numbers) {
  const size_t begin = out.size();
  for (const int64_t v : numbers) {
    if (out.size() > begin) out += ',';
    append_integer(out, v);
  }
}

}  // namespace tenon::serve
