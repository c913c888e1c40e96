// TokenTable: the tokens of a vocabulary, text to number and back. A flat hash table over one block of text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::text {

inline constexpr std::uint32_t no_token = 0xffffffffU;

class TokenTable {
 public:
  // A text that is there gets the new number. Errors: FormatError naming `where` for a number so large that the
  // vocabulary would be mostly holes.
  void insert(std::string_view text, std::uint32_t id, std::string_view where);

  // The number, or no_token.
  [[nodiscard]] std::uint32_t find(std::string_view text) const;
  // The text; empty if there is no such number.
  [[nodiscard]] std::string_view text(std::uint32_t id) const {
    return contains(id) ? view(entries_[by_id_[id] - 1]) : std::string_view();
  }
  [[nodiscard]] bool contains(std::uint32_t id) const { return id < by_id_.size() && by_id_[id] != 0; }
  // How many texts there are, and one more than the largest number.
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] std::uint32_t id_limit() const { return static_cast<std::uint32_t>(by_id_.size()); }

  template <class Fn>
  void for_each(Fn&& fn) const {
    for (const auto& entry : entries_) fn(view(entry), entry.id);
  }

 private:
  struct Entry {
    std::uint32_t offset, length, hash, id;
  };
  [[nodiscard]] std::string_view view(const Entry& entry) const {
    return std::string_view(block_).substr(entry.offset, entry.length);
  }
  void grow();

  std::string block_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> slots_;  // entry + 1; 0: free
  std::vector<std::uint32_t> by_id_;  // entry + 1; 0: no such number
};

}  // namespace tenon::text
