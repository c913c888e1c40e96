// Trie: byte strings to numbers, for searches of "which of them begin here?". A double array, built once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon::text {

class Trie {
 public:
  Trie() = default;
  // Of equal strings the last one counts. Empty strings are left out.
  explicit Trie(std::vector<std::pair<std::string_view, std::uint32_t>> entries);

  static constexpr std::uint32_t nowhere = 0xffffffffU;
  static constexpr std::uint32_t root = 0;
  [[nodiscard]] bool empty() const { return cells_.empty(); }
  // The node behind `byte`, or nowhere.
  [[nodiscard]] std::uint32_t step(std::uint32_t node, char byte) const {
    const std::uint32_t next = cells_[node].base + static_cast<unsigned char>(byte);
    return next < cells_.size() && cells_[next].parent == node ? next : nowhere;
  }
  // The number of the string that ends at `node`, or nowhere.
  [[nodiscard]] std::uint32_t value(std::uint32_t node) const { return cells_[node].value; }
  // The node of `text`, or nowhere.
  [[nodiscard]] std::uint32_t find(std::string_view text) const;

  struct Match {
    std::uint32_t length = 0;  // 0: none
    std::uint32_t value = nowhere;
  };
  // The longest string that `text` begins with.
  [[nodiscard]] Match longest(std::string_view text) const;

 private:
  struct Cell {
    std::uint32_t base = 0;
    std::uint32_t parent = nowhere;
    std::uint32_t value = nowhere;
  };
  std::vector<Cell> cells_;
};

}  // namespace tenon::text
