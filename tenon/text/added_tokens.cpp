#include "tenon/text/added_tokens.h"

#include "tenon/text/unicode.h"

namespace tenon::text {

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const std::vector<NormalizerStep>& normalizer) {
  for (auto& token : tokens) {
    if (token.content.empty()) continue;
    const auto [found, is_new] = by_content_.try_emplace(token.content, tokens_.size());
    if (is_new) {
      tokens_.push_back(std::move(token));
    } else {
      tokens_[found->second] = std::move(token);
    }
  }
  std::vector<std::pair<std::string_view, std::uint32_t>> exact, normalized;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    by_id_[token.id] = i;
    if (!token.normalized) {
      exact.emplace_back(token.content, static_cast<std::uint32_t>(i));
      continue;
    }
    AlignedText form(token.content);
    normalize(normalizer, form);
    std::string_view content = token.content;
    if (form.str() != token.content) content = normalized_forms_[token.id] = form.str();
    normalized.emplace_back(content, static_cast<std::uint32_t>(i));
  }
  if (!exact.empty()) exact_ = Trie(std::move(exact));
  if (!normalized.empty()) normalized_ = Trie(std::move(normalized));
}

const AddedToken* AddedTokens::find(std::uint32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(content);
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

bool AddedTokens::is_special(std::string_view content) const {
  const AddedToken* token = find(content);
  return token != nullptr && token->special;
}

const std::string& AddedTokens::decoded_form(const AddedToken& token) const {
  const auto found = normalized_forms_.find(token.id);
  return found == normalized_forms_.end() ? token.content : found->second;
}

// Leftmost first, of those the longest.
void AddedTokens::cut(AlignedText text, const Trie& trie, bool find_special, std::vector<Piece>& pieces) const {
  const auto push = [&](std::size_t begin, std::size_t end, std::uint32_t token) {
    if (begin >= end) return;
    Piece piece;
    if (begin == 0 && end == text.size()) {
      piece.text = std::move(text);
    } else {
      piece.text = text.slice(begin, end);
    }
    piece.words.push_back({0, piece.text.size()});
    piece.token = token;
    pieces.push_back(std::move(piece));
  };
  if (trie.empty()) return push(0, text.size(), no_token);
  const std::string_view all = text.str();
  std::size_t done = 0;
  for (std::size_t at = 0; at < all.size();) {
    if (trie.step(Trie::root, all[at]) == Trie::nowhere) {
      ++at;
      continue;
    }
    const Trie::Match match = trie.longest(all.substr(at));
    if (match.length == 0) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + match.length;
    at = end;
    const AddedToken& token = tokens_[match.value];
    if (token.special && !find_special) continue;
    const auto character = [&](std::size_t where) { return next_code_point(all, where); };
    if (token.single_word && ((begin > 0 && is_word_character(character(previous_code_point(all, begin)))) ||
                              (end < all.size() && is_word_character(character(end)))))
      continue;
    if (token.strip_left) {
      while (begin > done) {
        const std::size_t before = previous_code_point(all, begin);
        if (!is_whitespace(character(before))) break;
        begin = before;
      }
      begin = std::max(begin, done);
    }
    if (token.strip_right)
      while (end < all.size() && is_whitespace(character(end))) next_code_point(all, end);
    if (done == 0 && begin == 0 && end == all.size()) return push(0, text.size(), token.id);
    push(done, begin, no_token);
    push(begin, end, token.id);
    done = end;
  }
  push(done, text.size(), no_token);
}

std::vector<Piece> AddedTokens::split(std::string_view text, const std::vector<NormalizerStep>& normalizer,
                                      bool find_special) const {
  std::vector<Piece> exact, pieces;
  cut(AlignedText(text), exact_, find_special, exact);
  for (auto& piece : exact) {
    if (piece.token != no_token) {
      pieces.push_back(std::move(piece));
      continue;
    }
    normalize(normalizer, piece.text);
    cut(std::move(piece.text), normalized_, find_special, pieces);
  }
  return pieces;
}

}  // namespace tenon::text
