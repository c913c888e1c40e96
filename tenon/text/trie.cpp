#include "tenon/text/trie.h"

#include <algorithm>

namespace tenon::text {

Trie::Trie(std::vector<std::pair<std::string_view, std::uint32_t>> entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::erase_if(entries, [](const auto& entry) { return entry.first.empty(); });
  cells_.resize(257);
  struct Range {
    std::uint32_t node;
    std::size_t begin, end, depth;
  };
  std::vector<Range> open{{root, 0, entries.size(), 0}};
  std::vector<bool> taken(257);
  taken[0] = true;
  std::size_t first_free = 1, last_taken = 0;
  std::vector<std::pair<unsigned char, std::size_t>> children;  // byte, where its entries begin
  while (!open.empty()) {
    auto [node, begin, end, depth] = open.back();
    open.pop_back();
    while (begin < end && entries[begin].first.size() == depth) cells_[node].value = entries[begin++].second;
    if (begin == end) {
      cells_[node].base = 0;
      continue;
    }
    children.clear();
    for (std::size_t i = begin; i < end; ++i) {
      const auto byte = static_cast<unsigned char>(entries[i].first[depth]);
      if (children.empty() || children.back().first != byte) children.emplace_back(byte, i);
    }
    while (first_free < taken.size() && taken[first_free]) ++first_free;
    // A base at which every child's cell is free. Where cells are crowded it is looked for behind the last one taken,
    // and never again in front.
    std::size_t base = first_free > children.front().first ? first_free - children.front().first : 0;
    const auto fits = [&] {
      return std::none_of(children.begin(), children.end(), [&](const auto& c) { return taken[base + c.first]; });
    };
    for (int tries = 0;; ++base, ++tries) {
      if (tries == 64) base = first_free = std::max(base, last_taken + 1);
      if (base + 257 > taken.size()) {
        taken.resize(base + 257 + taken.size() / 2);
        cells_.resize(taken.size());
      }
      if (fits()) break;
    }
    last_taken = std::max(last_taken, base + children.back().first);
    cells_[node].base = static_cast<std::uint32_t>(base);
    for (std::size_t i = 0; i < children.size(); ++i) {
      const auto child = static_cast<std::uint32_t>(base + children[i].first);
      taken[child] = true;
      cells_[child].parent = node;
      open.push_back({child, children[i].second, i + 1 < children.size() ? children[i + 1].second : end, depth + 1});
    }
  }
  cells_.resize(last_taken + 1);
  cells_.shrink_to_fit();
}

std::uint32_t Trie::find(std::string_view text) const {
  if (cells_.empty()) return nowhere;
  std::uint32_t node = root;
  for (const char byte : text) {
    node = step(node, byte);
    if (node == nowhere) return nowhere;
  }
  return node;
}

Trie::Match Trie::longest(std::string_view text) const {
  Match best;
  if (cells_.empty()) return best;
  std::uint32_t node = root;
  for (std::uint32_t i = 0; i < text.size(); ++i) {
    node = step(node, text[i]);
    if (node == nowhere) break;
    if (value(node) != nowhere) best = {i + 1, value(node)};
  }
  return best;
}

}  // namespace tenon::text
