// How fast a tokenizer encodes, on one thread.
//
//   tokenizer_bench TOKENIZER TEXTS.json [REPEATS [RESULTS.json]]
//
// TEXTS.json is a list of texts. Prints the best time of REPEATS rounds over all of them as JSON; RESULTS.json gets
// what the tokenizer makes of each text, for a peer to compare. bench/peers/tokenizers_peer.py runs it beside the
// reference.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/text/tokenizer.h"

namespace {

using Json = nlohmann::json;

Json result_of(const tenon::text::Tokenizer& tokenizer, const std::string& text) {
  Json result;
  try {
    const auto encoding = tokenizer.encode(text, {.offsets = tenon::text::OffsetUnit::Characters});
    result["ids"] = encoding.ids;
    result["type_ids"] = encoding.type_ids;
    result["special"] = encoding.special_mask;
    Json& words = result["words"] = Json::array();
    for (const auto word : encoding.words) words.push_back(word < 0 ? Json() : Json(word));
    Json& offsets = result["offsets"] = Json::array();
    for (const auto& [begin, end] : encoding.offsets) offsets.push_back({begin, end});
    result["decoded"] = tokenizer.decode(encoding.ids, true);
    result["decoded_all"] = tokenizer.decode(encoding.ids, false);
    tenon::text::StreamDecoder stream(tokenizer);
    Json& parts = result["stream"] = Json::array();
    if (encoding.ids.size() < 200)
      for (const auto id : encoding.ids) parts.push_back(stream.add(id));
  } catch (const tenon::Error& error) {
    result["error"] = error.what();
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: {} TOKENIZER TEXTS.json [REPEATS [RESULTS.json]]\n", argv[0]);
    return 2;
  }
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  try {
    const auto loading = Clock::now();
    const auto tokenizer = tenon::text::load_tokenizer(argv[1]);
    const double load = seconds(loading);
    const auto texts = Json::parse(tenon::read_text_file(argv[2])).get<std::vector<std::string>>();
    std::size_t bytes = 0, tokens = 0;
    for (const auto& text : texts) bytes += text.size();
    double best = 1e30;
    for (int round = 0; round < (argc > 3 ? std::atoi(argv[3]) : 3); ++round) {
      tokens = 0;
      const auto start = Clock::now();
      for (const auto& text : texts) tokens += tokenizer.encode(text).ids.size();
      best = std::min(best, seconds(start));
    }
    if (argc > 4) {
      Json results = Json::array();
      for (const auto& text : texts) results.push_back(result_of(tokenizer, text));
      tenon::write_file_atomic(argv[4], results.dump());
    }
    fmt::print("{{\"seconds\": {:.6f}, \"bytes\": {}, \"tokens\": {}, \"load_seconds\": {:.6f}}}\n", best, bytes,
               tokens, load);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
