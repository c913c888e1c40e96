#include "tenon/text/decoder.h"

#include <algorithm>

#include "tenon/text/bytes_as_characters.h"

namespace tenon::text {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  if (what.empty()) return;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
    text.replace(at, what.size(), with);
}

// Spaces that English does not write, as the first BERT tokenizers undid them.
void clean_up(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [what, with] : kRules) replace_all(text, what, with);
}

// The length of the UTF-8 sequence at `at`, or minus the length of the longest beginning of one (at least 1).
int sequence_length(std::string_view bytes, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return -1;
  const int length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) return -1;
  for (int i = 2; i < length; ++i)
    if ((byte(static_cast<std::size_t>(i)) & 0xc0U) != 0x80U) return -i;
  return length;
}

// The byte that "<0x0A>" stands for, or -1.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  // As the reference reads numbers, a plus sign may stand in front.
  const int high = token[3] == '+' ? 0 : digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    const int length = sequence_length(bytes, at);
    if (length > 0) {
      out += bytes.substr(at, static_cast<std::size_t>(length));
      at += static_cast<std::size_t>(length);
    } else {
      out += kReplacement;
      at += static_cast<std::size_t>(-length);
    }
  }
  return out;
}

Texts ByteLevelDecoder::apply(const Texts& tokens) const {
  std::string bytes;
  for (const auto& token : tokens) {
    const std::size_t before = bytes.size();
    for (std::size_t at = 0; at < token.size();) {
      const int byte = byte_of_character(next_code_point(token, at));
      if (byte < 0) {  // not written in this way: as it is
        bytes.resize(before);
        bytes += token;
        break;
      }
      bytes += static_cast<char>(byte);
    }
  }
  return {replace_invalid_utf8(bytes)};
}

Texts WordPieceDecoder::apply(Texts tokens) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i != 0) {
      if (tokens[i].starts_with(prefix)) {
        tokens[i].erase(0, prefix.size());
      } else {
        tokens[i].insert(0, " ");
      }
    }
    if (cleanup) clean_up(tokens[i]);
  }
  return tokens;
}

Texts MetaspaceDecoder::apply(Texts tokens) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], replacement, i == 0 && drop_first ? "" : " ");
  return tokens;
}

Texts BpeDecoder::apply(Texts tokens) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
  return tokens;
}

Texts ByteFallbackDecoder::apply(Texts tokens) const {
  Texts out;
  std::string bytes;
  const auto flush = [&] {
    bool valid = true;
    for (std::size_t at = 0; at < bytes.size() && valid;) {
      const int length = sequence_length(bytes, at);
      valid = length > 0;
      at += static_cast<std::size_t>(std::abs(length));
    }
    if (valid && !bytes.empty()) {
      out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), std::string(kReplacement));
    }
    bytes.clear();
  };
  for (auto& token : tokens) {
    const int byte = byte_of(token);
    if (byte >= 0) {
      bytes += static_cast<char>(byte);
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  return out;
}

Texts FuseDecoder::apply(const Texts& tokens) const {
  std::string all;
  for (const auto& token : tokens) all += token;
  return {all};
}

Texts StripDecoder::apply(Texts tokens) const {
  std::string mark;
  append_code_point(mark, content);
  for (auto& token : tokens) {
    std::string_view rest = token;
    for (std::size_t i = 0; i < start && rest.starts_with(mark); ++i) rest.remove_prefix(mark.size());
    for (std::size_t i = 0; i < stop && rest.ends_with(mark); ++i) rest.remove_suffix(mark.size());
    token = std::string(rest);
  }
  return tokens;
}

Texts ReplaceDecoder::apply(Texts tokens) const {
  Regex::Matcher matcher(pattern);
  for (auto& token : tokens) {
    std::string out;
    std::size_t last = 0;
    matcher.for_each(token, [&](Span match) {
      out.append(token, last, match.begin - last);
      out += content;
      last = match.end;
    });
    token = out.append(token, last);
  }
  return tokens;
}

Texts CtcDecoder::apply(Texts tokens) const {
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (auto& token : tokens) {
    replace_all(token, pad_token, "");
    if (cleanup) {
      clean_up(token);
      replace_all(token, word_delimiter, " ");
    }
  }
  std::erase_if(tokens, [](const std::string& token) { return token.empty(); });
  return tokens;
}

Texts SentencePieceDecoder::apply(const Texts& tokens) const {
  constexpr std::string_view kSpace = "\xe2\x96\x81";
  std::string text, bytes;
  bool seen_space = false;
  const auto flush = [&] {
    text += replace_invalid_utf8(bytes);
    bytes.clear();
  };
  for (auto& token : tokens) {
    if (const int byte = byte_of(token); byte >= 0) {
      bytes += static_cast<char>(byte);
      continue;
    }
    flush();
    const bool at_start = !seen_space && text.empty();
    if (token == unknown) {
      text += unknown_surface;
      continue;
    }
    std::string_view piece = token;
    bool first_space = false;
    if (at_start && drop_first_space && piece.starts_with(kSpace)) {
      piece.remove_prefix(kSpace.size());
      first_space = !remove_extra_whitespaces;
    }
    seen_space |= first_space;
    std::string plain(piece);
    replace_all(plain, kSpace, " ");
    text += plain;
  }
  flush();
  return {text};
}

std::string decode(const std::vector<DecoderStep>& steps, Texts tokens) {
  for (const auto& step : steps) tokens = std::visit([&](const auto& s) { return s.apply(std::move(tokens)); }, step);
  std::string text;
  for (const auto& token : tokens) text += token;
  return text;
}

}  // namespace tenon::text
