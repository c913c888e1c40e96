#include "tenon/text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <queue>

#include "tenon/base/error.h"
#include "tenon/text/bytes_as_characters.h"

namespace tenon::text {
namespace {

constexpr std::size_t kShortWord = 40;  // up to here looking at all pairs beats a queue

std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) { return std::uint64_t{left} << 32 | right; }
std::size_t pair_slot(std::uint64_t key) {
  const std::uint64_t h = key * 0x9e3779b97f4a7c15ULL;
  return static_cast<std::size_t>(h >> 20 ^ h >> 41);
}

}  // namespace

Bpe::Bpe(TokenTable vocabulary, const std::vector<Merge>& merges, BpeOptions options, std::string_view where)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  if (options_.unknown) {
    unknown_ = vocabulary_.find(*options_.unknown);
  }
  byte_ids_.fill(no_token);
  fallback_ids_.fill(no_token);
  for (unsigned byte = 0; byte < 256; ++byte) fallback_ids_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
  if (options_.bytes) {
    vocabulary_.for_each([&](std::string_view text, std::uint32_t id) {
      if (const auto bytes = bytes_of_characters(text)) raw_.insert(*bytes, id, where);
    });
    for (unsigned byte = 0; byte < 256; ++byte) {
      const char text = static_cast<char>(byte);
      byte_ids_[byte] = raw_.find({&text, 1});
    }
  } else {
    for (unsigned byte = 0; byte < 128; ++byte) {
      const char text = static_cast<char>(byte);
      byte_ids_[byte] = vocabulary_.find({&text, 1});
    }
  }
  std::size_t capacity = 16;
  while (capacity < merges.size() * 2) capacity *= 2;
  pairs_.resize(capacity);
  for (const auto& merge : merges) {
    const std::uint64_t key = pair_key(merge.left, merge.right);
    std::size_t at = pair_slot(key) & (capacity - 1);
    while (pairs_[at].key != ~std::uint64_t{0} && pairs_[at].key != key) at = (at + 1) & (capacity - 1);
    pairs_[at] = {key, merge.rank, merge.result};
  }
  const std::size_t limit = std::max<std::size_t>(vocabulary_.id_limit(), 1);
  whole_ = std::make_unique<std::atomic<Whole>[]>(limit);
}

const Bpe::Pair* Bpe::find_pair(std::uint32_t left, std::uint32_t right) const {
  const std::uint64_t key = pair_key(left, right);
  const std::size_t mask = pairs_.size() - 1;
  for (std::size_t at = pair_slot(key) & mask;; at = (at + 1) & mask) {
    if (pairs_[at].key == key) return &pairs_[at];
    if (pairs_[at].key == ~std::uint64_t{0}) return nullptr;
  }
}

void Bpe::split_bytes(std::string_view word, std::vector<Symbol>& symbols) const {
  for (const char c : word) {
    const std::uint32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id != no_token) {
      symbols.push_back({id, 1});
    } else if (unknown_ != no_token) {
      if (options_.fuse_unknown && !symbols.empty() && symbols.back().id == unknown_) {
        ++symbols.back().length;
      } else {
        symbols.push_back({unknown_, 1});
      }
    }
  }
}

void Bpe::split(std::string_view word, std::vector<Symbol>& symbols) const {
  const bool plain = options_.continuing_prefix.empty() && options_.end_suffix.empty();
  std::uint32_t unknown_length = 0;
  const auto flush_unknown = [&] {
    if (unknown_length != 0) symbols.push_back({unknown_, unknown_length});
    unknown_length = 0;
  };
  std::string written;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t length = code_point_length(word[at]);
    std::string_view symbol = word.substr(at, length);
    std::uint32_t id = no_token;
    if (plain && length == 1) {
      id = byte_ids_[static_cast<unsigned char>(symbol[0])];
    } else if (plain) {
      id = vocabulary_.find(symbol);
    } else {
      written.clear();
      if (at > 0) written += options_.continuing_prefix;
      written += symbol;
      if (at + length == word.size()) written += options_.end_suffix;
      symbol = written;
      id = vocabulary_.find(symbol);
    }
    at += length;
    if (id != no_token) {
      flush_unknown();
      symbols.push_back({id, static_cast<std::uint32_t>(length)});
      continue;
    }
    const auto fallback = [&](char c) { return fallback_ids_[static_cast<unsigned char>(c)]; };
    if (options_.byte_fallback &&
        std::all_of(symbol.begin(), symbol.end(), [&](char c) { return fallback(c) != no_token; })) {
      // As the reference does it, an unknown character before these bytes comes behind them.
      for (const char c : symbol) symbols.push_back({fallback(c), 1});
      continue;
    }
    if (!options_.unknown) continue;
    if (unknown_ == no_token)
      throw ValueError({.where = "tokenizer",
                        .problem = fmt::format("the unknown token '{}' is not in the vocabulary", *options_.unknown)});
    if (!options_.fuse_unknown) flush_unknown();
    unknown_length += static_cast<std::uint32_t>(length);
  }
  flush_unknown();
}

// Looks at every pair each time; nothing beats that for the few symbols of a word.
void Bpe::merge_short(std::vector<Symbol>& symbols) const {
  std::uint32_t ranks[kShortWord + 1] = {}, results[kShortWord + 1] = {};
  std::size_t count = symbols.size();
  const auto look = [&](std::size_t i) {
    const Pair* pair = find_pair(symbols[i].id, symbols[i + 1].id);
    ranks[i] = pair == nullptr ? no_token : pair->rank;
    results[i] = pair == nullptr ? 0 : pair->result;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) look(i);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == no_token) break;
    symbols[best] = {results[best], symbols[best].length + symbols[best + 1].length};
    for (std::size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];  // the last of them belongs to no pair any more
      results[i] = results[i + 1];
    }
    --count;
    if (best + 1 < count) look(best);
    if (best > 0) look(best - 1);
  }
  symbols.resize(count);
}

void Bpe::merge_long(std::vector<Symbol>& symbols) const {
  struct Candidate {
    std::uint32_t rank, position, result;
    bool operator<(const Candidate& other) const {  // the largest comes first in the queue
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  const auto count = static_cast<std::uint32_t>(symbols.size());
  std::vector<std::uint32_t> previous(count), next(count);
  std::vector<Candidate> start;
  for (std::uint32_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? no_token : i - 1;
    next[i] = i + 1 == count ? no_token : i + 1;
    if (next[i] == no_token) break;
    if (const Pair* pair = find_pair(symbols[i].id, symbols[i + 1].id)) start.push_back({pair->rank, i, pair->result});
  }
  std::priority_queue<Candidate> queue({}, std::move(start));
  const auto offer = [&](std::uint32_t at) {
    if (at == no_token || next[at] == no_token) return;
    if (const Pair* pair = find_pair(symbols[at].id, symbols[next[at]].id)) queue.push({pair->rank, at, pair->result});
  };
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const std::uint32_t at = top.position, right = next[at];
    if (symbols[at].length == 0 || right == no_token) continue;
    const Pair* pair = find_pair(symbols[at].id, symbols[right].id);
    if (pair == nullptr || pair->result != top.result) continue;  // one of the two has been merged since
    symbols[at] = {top.result, symbols[at].length + symbols[right].length};
    symbols[right].length = 0;
    next[at] = next[right];
    if (next[at] != no_token) previous[next[at]] = at;
    offer(previous[at]);
    offer(at);
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.length == 0; });
}

void Bpe::encode(std::string_view word, std::uint32_t offset, std::vector<WordToken>& tokens) const {
  const TokenTable& table = options_.bytes ? raw_ : vocabulary_;
  const std::uint32_t known = table.find(word);
  const auto length = static_cast<std::uint32_t>(word.size());
  const bool plain = options_.continuing_prefix.empty() && options_.end_suffix.empty();
  std::atomic<Whole>* whole = known != no_token && plain ? &whole_[known] : nullptr;
  const bool forced = known < options_.whole_words.size() && options_.whole_words[known];
  if (known != no_token && (options_.ignore_merges || forced ||
                            (whole != nullptr && whole->load(std::memory_order_relaxed) == Whole::Yes))) {
    tokens.push_back({known, {offset, offset + length}});
    return;
  }
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  if (options_.bytes) {
    split_bytes(word, symbols);
  } else {
    split(word, symbols);
  }
  if (symbols.size() > kShortWord) {
    merge_long(symbols);
  } else if (symbols.size() > 1) {
    merge_short(symbols);
  }
  if (whole != nullptr)
    whole->store(symbols.size() == 1 && symbols[0].id == known ? Whole::Yes : Whole::No, std::memory_order_relaxed);
  for (const auto& symbol : symbols) {
    tokens.push_back({symbol.id, {offset, offset + symbol.length}});
    offset += symbol.length;
  }
}

std::vector<Merge> implied_merges(const TokenTable& vocabulary, const std::vector<std::uint32_t>& rank_of,
                                  std::string_view where) {
  constexpr std::size_t kLongestToken = 1024;
  std::vector<Merge> merges;
  vocabulary.for_each([&](std::string_view text, std::uint32_t id) {
    if (rank_of[id] == no_token) return;
    if (text.size() > kLongestToken)
      throw FormatError({.where = std::string(where),
                         .problem = fmt::format("the token {} is too long", id),
                         .expected = fmt::format("at most {} bytes", kLongestToken),
                         .got = std::to_string(text.size())});
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const std::uint32_t left = vocabulary.find(text.substr(0, cut));
      if (left == no_token) continue;
      const std::uint32_t right = vocabulary.find(text.substr(cut));
      if (right != no_token) merges.push_back({left, right, id, rank_of[id]});
    }
  });
  return merges;
}

}  // namespace tenon::text
