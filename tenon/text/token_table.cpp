#include "tenon/text/token_table.h"

#include <cstring>

#include "tenon/base/error.h"

namespace tenon::text {
namespace {

std::uint32_t hash_of(std::string_view text) {
  constexpr std::uint64_t k = 0x9e3779b97f4a7c15ULL;
  std::uint64_t h = text.size() * k;
  const auto mix = [&](std::uint64_t word) {
    h = (h ^ word) * k;
    h ^= h >> 32;
  };
  while (text.size() >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data(), 8);
    mix(word);
    text.remove_prefix(8);
  }
  std::uint64_t tail = 0;
  std::memcpy(&tail, text.data(), text.size());
  mix(tail);
  return static_cast<std::uint32_t>(h ^ h >> 29);
}

}  // namespace

void TokenTable::grow() {
  slots_.assign(slots_.empty() ? 64 : slots_.size() * 2, 0);
  const std::uint32_t mask = static_cast<std::uint32_t>(slots_.size()) - 1;
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    std::uint32_t at = entries_[i].hash & mask;
    while (slots_[at] != 0) at = (at + 1) & mask;
    slots_[at] = i + 1;
  }
}

void TokenTable::insert(std::string_view text, std::uint32_t id, std::string_view where) {
  if (id > 1'000'000 + 16 * entries_.size())
    throw FormatError({.where = std::string(where),
                       .problem = "a token's number is far beyond the vocabulary",
                       .expected = "numbers without large gaps",
                       .got = std::to_string(id)});
  if (entries_.size() * 2 >= slots_.size()) grow();
  const std::uint32_t hash = hash_of(text), mask = static_cast<std::uint32_t>(slots_.size()) - 1;
  std::uint32_t at = hash & mask;
  while (slots_[at] != 0 && !(entries_[slots_[at] - 1].hash == hash && view(entries_[slots_[at] - 1]) == text))
    at = (at + 1) & mask;
  if (slots_[at] == 0) {
    entries_.push_back({static_cast<std::uint32_t>(block_.size()), static_cast<std::uint32_t>(text.size()), hash, id});
    block_ += text;
    slots_[at] = static_cast<std::uint32_t>(entries_.size());
  } else {
    entries_[slots_[at] - 1].id = id;
  }
  if (id >= by_id_.size()) by_id_.resize(id + 1);
  by_id_[id] = slots_[at];
}

std::uint32_t TokenTable::find(std::string_view text) const {
  if (slots_.empty()) return no_token;
  const std::uint32_t hash = hash_of(text), mask = static_cast<std::uint32_t>(slots_.size()) - 1;
  for (std::uint32_t at = hash & mask; slots_[at] != 0; at = (at + 1) & mask) {
    const Entry& entry = entries_[slots_[at] - 1];
    if (entry.hash == hash && view(entry) == text) return entry.id;
  }
  return no_token;
}

}  // namespace tenon::text
