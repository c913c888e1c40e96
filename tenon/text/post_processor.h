// Post-processors: which tokens are added around one text or two, and which spaces offsets leave out.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "tenon/text/encoding.h"

namespace tenon::text {

// What a template is made of: one of the texts, or tokens.
struct TemplatePart {
  int sequence = -1;  // 0 or 1; -1: tokens
  std::int64_t type_id = 0;
  std::vector<std::int64_t> ids;
};
struct TemplateProcessor {
  std::vector<TemplatePart> single, pair;
  bool one_type = false;  // every type id is 0 (RoBERTa)
};
// Offsets without the spaces that a token begins and ends with.
struct TrimOffsets {
  bool add_prefix_space = true;
};
using PostProcessorStep = std::variant<TemplateProcessor, TrimOffsets>;

// Spaces at the ends of each token's text.
struct Edges {
  std::uint16_t leading = 0, trailing = 0;
};

// How many tokens are added to one text or to a pair.
std::int64_t added_token_count(const std::vector<PostProcessorStep>& steps, bool pair);

}  // namespace tenon::text
