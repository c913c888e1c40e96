// Added tokens: those beside the model's vocabulary, found in the text before anything else happens to it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/text/normalizer.h"
#include "tenon/text/piece.h"
#include "tenon/text/trie.h"

namespace tenon::text {

struct AddedToken {
  std::string content;
  std::uint32_t id = 0;
  bool single_word = false;  // not inside a word
  bool strip_left = false;   // takes the white space on its left along
  bool strip_right = false;
  bool normalized = true;  // looked for in the normalised text
  bool special = false;    // left out when decoding
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // A content that is there already is replaced.
  AddedTokens(std::vector<AddedToken> tokens, const std::vector<NormalizerStep>& normalizer);

  // The text, cut at the added tokens and normalised in between.
  [[nodiscard]] std::vector<Piece> split(std::string_view text, const std::vector<NormalizerStep>& normalizer,
                                         bool find_special) const;

  [[nodiscard]] const AddedToken* find(std::uint32_t id) const;
  [[nodiscard]] const AddedToken* find(std::string_view content) const;
  [[nodiscard]] bool is_special(std::string_view content) const;
  // The text that decoding starts from: the normalised form of a token that is looked for in normalised text.
  [[nodiscard]] const std::string& decoded_form(const AddedToken& token) const;
  [[nodiscard]] const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  void cut(AlignedText text, const Trie& trie, bool find_special, std::vector<Piece>& pieces) const;

  std::vector<AddedToken> tokens_;
  std::map<std::uint32_t, std::size_t> by_id_;
  std::map<std::string, std::size_t, std::less<>> by_content_;
  std::map<std::uint32_t, std::string> normalized_forms_;  // where they differ from the content
  Trie exact_, normalized_;
};

}  // namespace tenon::text
