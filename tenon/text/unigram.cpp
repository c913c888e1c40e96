#include "tenon/text/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <ranges>

#include "tenon/base/error.h"

namespace tenon::text {
namespace {

constexpr double kUnknownPenalty = 10;

bool flag(const std::vector<bool>& flags, std::uint32_t id) { return id < flags.size() && flags[id]; }

}  // namespace

Unigram::Unigram(TokenTable vocabulary, std::vector<double> scores, UnigramOptions options, std::string_view where)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), options_(std::move(options)) {
  if (options_.unknown != no_token && options_.unknown >= scores_.size())
    throw FormatError({.where = std::string(where),
                       .problem = "the unknown token is not in the vocabulary",
                       .expected = fmt::format("a number below {}", scores_.size()),
                       .got = std::to_string(options_.unknown)});
  double smallest = std::numeric_limits<double>::infinity(), largest = -smallest;
  for (std::uint32_t id = 0; id < scores_.size(); ++id) {
    if (flag(options_.excluded, id) || flag(options_.user_defined, id)) continue;
    smallest = std::min(smallest, scores_[id]);
    largest = std::max(largest, scores_[id]);
  }
  unknown_score_ = smallest - kUnknownPenalty;
  if (options_.single_precision) unknown_score_ = static_cast<float>(unknown_score_);
  std::vector<std::pair<std::string_view, std::uint32_t>> entries;
  vocabulary_.for_each([&](std::string_view text, std::uint32_t id) {
    if (flag(options_.user_defined, id)) scores_[id] = static_cast<double>(text.size()) * largest - 0.1;
    if (!flag(options_.excluded, id)) entries.emplace_back(text, id);
  });
  trie_ = Trie(std::move(entries));
  for (unsigned byte = 0; byte < 256; ++byte) fallback_ids_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
}

// best[i] is the best way to cut the first i bytes, and its last token.
void Unigram::find_best(std::string_view word, std::vector<Best>& best) const {
  const auto offer = [&](std::size_t begin, std::size_t end, double score, std::uint32_t id) {
    double total = best[begin].score + score;
    if (best[end].begin != no_token && total <= best[end].score) return;
    if (options_.single_precision) total = static_cast<float>(total);
    best[end] = {total, static_cast<std::uint32_t>(begin), id};
  };
  for (std::size_t begin = 0; begin < word.size();) {
    const std::size_t first = code_point_length(word[begin]);
    bool single = false;
    std::uint32_t node = Trie::root;
    for (std::size_t end = begin; end < word.size();) {
      node = trie_.step(node, word[end++]);
      if (node == Trie::nowhere) break;
      const std::uint32_t id = trie_.value(node);
      if (id == Trie::nowhere) continue;
      offer(begin, end, scores_[id], id);
      single |= end - begin == first;
    }
    if (!single) {
      if (options_.unknown == no_token)
        throw ValueError({.where = "tokenizer",
                          .problem = fmt::format("'{}' is not in the vocabulary, which has no unknown token",
                                                 word.substr(begin, first))});
      offer(begin, begin + first, unknown_score_, options_.unknown);
    }
    begin += first;
  }
}

void Unigram::push_unknown(std::string_view part, std::uint32_t offset, std::vector<WordToken>& tokens) const {
  const Span bytes{offset, offset + static_cast<std::uint32_t>(part.size())};
  const std::uint32_t known = options_.single_precision ? no_token : vocabulary_.find(part);
  if (known != no_token) {
    tokens.push_back({known, bytes});
    return;
  }
  const auto fallback = [&](char c) { return fallback_ids_[static_cast<unsigned char>(c)]; };
  if (options_.byte_fallback &&
      std::all_of(part.begin(), part.end(), [&](char c) { return fallback(c) != no_token; })) {
    for (const char c : part) tokens.push_back({fallback(c), bytes});
  } else {
    tokens.push_back({options_.unknown, bytes});
  }
}

void Unigram::encode(std::string_view word, std::uint32_t offset, std::vector<WordToken>& tokens) const {
  std::vector<Best> best(word.size() + 1);
  find_best(word, best);
  // Backwards through the best path; unknown neighbours become one.
  struct Part {
    std::uint32_t begin, end, id;
  };
  std::vector<Part> parts;
  for (auto end = static_cast<std::uint32_t>(word.size()); end > 0;) {
    const Best& step = best[end];
    const bool unknown = step.id == options_.unknown;
    if (unknown && !parts.empty() && parts.back().id == options_.unknown) {
      parts.back().begin = step.begin;
    } else {
      parts.push_back({step.begin, end, step.id});
    }
    end = step.begin;
  }
  for (const auto& part : parts | std::views::reverse) {
    if (part.id == options_.unknown) {
      push_unknown(word.substr(part.begin, part.end - part.begin), offset + part.begin, tokens);
    } else {
      tokens.push_back({part.id, {offset + part.begin, offset + part.end}});
    }
  }
}

}  // namespace tenon::text
