// Every result is compared with the `tokenizers`, `sentencepiece` or `tiktoken` package's (goldens).
#include "tenon/text/tokenizer.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "tenon/base/error.h"
#include "tenon/text/base64.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"
#include "tests/text/golden.h"

namespace tenon::text {
namespace {

using nlohmann::json;
using testing_support::error_text;
using testing_support::read_golden;

constexpr EncodeOptions kCharacters{.offsets = OffsetUnit::Characters};

json flat(const std::vector<Offset>& offsets) {
  json list = json::array();
  for (const auto& [begin, end] : offsets) list.push_back(begin), list.push_back(end);
  return list;
}
json words_of(const Encoding& e) {
  json list = json::array();
  for (const auto word : e.words) list.push_back(word < 0 ? json() : json(word));
  return list;
}

// ids, offsets, words, decoded.
void expect_result(const Tokenizer& tokenizer, const std::string& text, const json& expected) {
  const Encoding e = tokenizer.encode(text, kCharacters);
  EXPECT_EQ(json(e.ids), expected[0]) << text;
  EXPECT_EQ(flat(e.offsets), expected[1]) << text;
  EXPECT_EQ(words_of(e), expected[2]) << text;
  EXPECT_EQ(tokenizer.decode(e.ids), expected[3].get<std::string>()) << text;
}

// What a stream says adds up to what decoding says at once, up to a character that never ended.
void expect_stream(const Tokenizer& tokenizer, const std::vector<std::int64_t>& ids) {
  StreamDecoder stream(tokenizer);
  std::string said;
  for (const auto id : ids) said += stream.add(id);
  const std::string all = tokenizer.decode(ids);
  EXPECT_TRUE(all.starts_with(said)) << said << " | " << all;
  EXPECT_TRUE(said == all || all.ends_with("\xef\xbf\xbd")) << said << " | " << all;
}

TEST(Tokenizer, SmallOnesOfEveryKindEqualTheReference) {
  const json golden = read_golden("tokenizers.json.gz");
  for (const auto& [name, entry] : golden["tokenizers"].items()) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = read_tokenizer_json(entry["json"].dump(), name);
    for (std::size_t i = 0; i < golden["texts"].size(); ++i)
      expect_result(tokenizer, golden["texts"][i].get<std::string>(), entry["results"][i]);
    const Encoding pair = tokenizer.encode_pair("Hello world", "the second 日本 text");
    EXPECT_EQ(json(pair.ids), entry["pair"][0]);
    EXPECT_EQ(json(pair.type_ids), entry["pair"][1]);
    EXPECT_EQ(json(pair.special_mask), entry["pair"][2]);
    const std::vector<std::string> words{"Hello", "wörld", "again and"};
    const Encoding cut = tokenizer.encode_words(words, kCharacters);
    EXPECT_EQ(json(cut.ids), entry["words"][0]);
    EXPECT_EQ(flat(cut.offsets), entry["words"][1]);
    EXPECT_EQ(words_of(cut), entry["words"][2]);
  }
}

TEST(Tokenizer, StreamsSayWhatDecodingSays) {
  const json golden = read_golden("tokenizers.json.gz");
  for (const char* name : {"gpt2", "llama2", "llama3", "unigram"}) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = read_tokenizer_json(golden["tokenizers"][name]["json"].dump(), name);
    for (const auto& text : golden["texts"]) expect_stream(tokenizer, tokenizer.encode(text.get<std::string>()).ids);
  }
}

TEST(Tokenizer, TruncationAndPaddingEqualTheReference) {
  const json golden = read_golden("tokenizers.json.gz");
  const Tokenizer original = read_tokenizer_json(golden["tokenizers"]["bert"]["json"].dump(), "bert");
  for (const auto& shape : golden["shapes"]) {
    SCOPED_TRACE(shape.dump().substr(0, 120));
    using enum Truncation::Strategy;
    const std::string strategy = shape["strategy"];
    Tokenizer tokenizer = original;
    tokenizer.set_truncation(Truncation{.max_length = shape["length"],
                                        .stride = shape["stride"],
                                        .strategy = strategy == "longest_first" ? LongestFirst
                                                    : strategy == "only_first"  ? OnlyFirst
                                                                                : OnlySecond,
                                        .side = shape["side"] == "left" ? Side::Left : Side::Right});
    tokenizer.set_padding(
        Padding{.multiple_of = shape["multiple"], .side = shape["pad_side"] == "left" ? Side::Left : Side::Right});
    const Encoding e =
        shape["second"].is_null()
            ? tokenizer.encode(shape["first"].get<std::string>(), kCharacters)
            : tokenizer.encode_pair(shape["first"].get<std::string>(), shape["second"].get<std::string>(), kCharacters);
    std::vector<Encoding> parts{e};
    parts.insert(parts.end(), e.overflowing.begin(), e.overflowing.end());
    ASSERT_EQ(parts.size(), shape["parts"].size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      EXPECT_EQ(json(parts[i].ids), shape["parts"][i][0]);
      EXPECT_EQ(json(parts[i].type_ids), shape["parts"][i][1]);
      EXPECT_EQ(json(parts[i].attention_mask), shape["parts"][i][2]);
      EXPECT_EQ(flat(parts[i].offsets), shape["parts"][i][3]);
    }
  }
}

TEST(Tokenizer, BatchesArePaddedToTheLongest) {
  const json golden = read_golden("tokenizers.json.gz");
  Tokenizer tokenizer = read_tokenizer_json(golden["tokenizers"]["bert"]["json"].dump(), "bert");
  tokenizer.set_padding(Padding{});
  const std::vector<std::string> texts{"a", "the model and the tensor"};
  const auto batch = tokenizer.encode_batch(texts);
  ASSERT_EQ(batch[0].size(), batch[1].size());
  EXPECT_EQ(batch[0].attention_mask.back(), 0);
  EXPECT_EQ(batch[1].attention_mask.back(), 1);
}

TEST(Tokenizer, TiktokenRanksEqualTheReference) {
  const json golden = read_golden("tokenizers.json.gz");
  const json& entry = golden["tiktoken"];
  const Tokenizer tokenizer = read_tiktoken(entry["file"].get<std::string>(), entry["pattern"].get<std::string>(),
                                            {{"<|endoftext|>", 420}}, "ranks");
  for (std::size_t i = 0; i < golden["texts"].size(); ++i) {
    const std::string text = golden["texts"][i];
    const auto ids = tokenizer.encode(text).ids;
    EXPECT_EQ(json(ids), entry["ids"][i]) << text;
    EXPECT_EQ(tokenizer.decode(ids, false), text);
  }
}

TEST(Tokenizer, PublishedOnesEqualTheReference) {
  if (!std::filesystem::exists(TENON_SHARED_DATA)) GTEST_SKIP() << "the shared test data is not there";
  const json golden = read_golden("published.json.gz");
  for (const auto& [path, results] : golden["tokenizers"].items()) {
    SCOPED_TRACE(path);
    const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(TENON_SHARED_DATA) / path);
    for (std::size_t i = 0; i < results.size(); ++i)
      expect_result(tokenizer, golden["texts"][i].get<std::string>(), results[i]);
  }
}

// FNV-1a over the ids as little-endian 32-bit numbers, as tools/goldens/tokenizer_fuzz.py computes it.
std::uint32_t hash_of(const std::vector<std::int64_t>& ids) {
  std::uint32_t hash = 2166136261U;
  for (const auto id : ids)
    for (int i = 0; i < 4; ++i) hash = (hash ^ static_cast<std::uint32_t>(id >> (8 * i) & 0xff)) * 16777619U;
  return hash;
}

// A text on which tokenizer and package differ, among all of the fuzz corpus; at most three of them.
void expect_same_ids(const Tokenizer& tokenizer, const json& texts, const std::string& packed) {
  const auto hashes = decode_base64(packed, "golden");
  ASSERT_EQ(hashes.size(), 4 * texts.size());
  int wrong = 0;
  for (std::size_t i = 0; i < texts.size() && wrong < 3; ++i) {
    std::uint32_t expected = 0;
    for (std::size_t k = 4; k-- > 0;) expected = expected << 8 | static_cast<unsigned char>(hashes[4 * i + k]);
    const auto text = texts[i].get<std::string>();
    const Encoding e = tokenizer.encode(text);
    if (hash_of(e.ids) == expected) continue;
    ADD_FAILURE() << "text " << i << ": " << texts[i].dump(-1, ' ', true) << " gives " << json(e.ids);
    ++wrong;
  }
}

// 500 texts of many scripts, marks, emoji, controls, broken white space and long runs.
TEST(Tokenizer, TheFuzzCorpusEqualsTheReference) {
  const json golden = read_golden("fuzz.json.gz"), small = read_golden("tokenizers.json.gz");
  ASSERT_GE(golden["texts"].size(), 500U);
  for (const auto& [name, hashes] : golden["small"].items()) {
    SCOPED_TRACE(name);
    expect_same_ids(read_tokenizer_json(small["tokenizers"][name]["json"].dump(), name), golden["texts"],
                    hashes.get<std::string>());
  }
  if (!std::filesystem::exists(TENON_SHARED_DATA)) GTEST_SKIP() << "the shared test data is not there";
  for (const auto& [path, hashes] : golden["published"].items()) {
    SCOPED_TRACE(path);
    expect_same_ids(load_tokenizer(std::filesystem::path(TENON_SHARED_DATA) / path), golden["texts"],
                    hashes.get<std::string>());
  }
}

TEST(Tokenizer, SentencePieceModelsEqualTheReference) {
  if (!std::filesystem::exists(TENON_SHARED_DATA)) GTEST_SKIP() << "the shared test data is not there";
  const json golden = read_golden("published.json.gz");
  ASSERT_GE(golden["sentencepiece"].size(), 3U);
  for (const auto& [path, results] : golden["sentencepiece"].items()) {
    SCOPED_TRACE(path);
    const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(TENON_SHARED_DATA) / path);
    for (std::size_t i = 0; i < results.size(); ++i) {
      std::string text = golden["texts"][i];
      std::erase(text, '\0');
      const auto ids = tokenizer.encode(text, {.add_special_tokens = false, .find_special_tokens = false}).ids;
      EXPECT_EQ(json(ids), results[i][0]) << text;
      EXPECT_EQ(tokenizer.decode(ids), results[i][1].get<std::string>()) << text;
    }
  }
}

TEST(Tokenizer, OlderFilesEqualTheJson) {
  const std::filesystem::path folder =
      std::filesystem::path(TENON_SHARED_DATA) / "onnxruntime_extensions/test/data/tokenizer/roberta-base";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "the shared test data is not there";
  const Tokenizer json_form = load_tokenizer(folder);
  const Tokenizer files =
      read_bpe_files(read_text_file(folder / "vocab.json"), read_text_file(folder / "merges.txt"), "vocab.json",
                     {.special_tokens = {"<s>", "</s>", "<pad>", "<unk>", "<mask>"}, .roberta = true});
  const json golden = read_golden("published.json.gz");
  for (const auto& text : golden["texts"])
    EXPECT_EQ(files.encode(text.get<std::string>()), json_form.encode(text.get<std::string>())) << text;
}

TEST(Tokenizer, AVocabularyFileMakesABertTokenizer) {
  const Tokenizer tokenizer = read_wordpiece_file("[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\nworld\n##s\n!\n", "vocab.txt");
  EXPECT_EQ(tokenizer.encode("Hello WORLDS!").ids, (std::vector<std::int64_t>{2, 4, 5, 6, 7, 3}));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int64_t>{2, 4, 5, 6, 7, 3}), "hello worlds!");
  EXPECT_EQ(tokenizer.token_to_id("world"), 5);
  EXPECT_EQ(tokenizer.id_to_token(6), "##s");
  EXPECT_EQ(tokenizer.id_to_token(99), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(2));
  EXPECT_EQ(tokenizer.vocabulary_size(), 8);
}

TEST(Tokenizer, BadFilesAreTypedErrors) {
  const auto read = [](std::string_view text) { return [text] { (void)read_tokenizer_json(text, "t.json"); }; };
  using ::testing::HasSubstr;
  EXPECT_THAT(error_text<FormatError>(read("{")), HasSubstr("t.json: not JSON"));
  EXPECT_THAT(error_text<FormatError>(read("[]")), HasSubstr("an object"));
  EXPECT_THAT(error_text<FormatError>(read("{}")), HasSubstr("'model' is not as expected"));
  EXPECT_THAT(error_text<UnsupportedError>(read(R"({"model": {"type": "Magic"}})")),
              HasSubstr("there is no model of type 'Magic'"));
  EXPECT_THAT(error_text<FormatError>(read(R"({"model": {"type": "WordLevel", "vocab": {"a": -1}}})")),
              HasSubstr("a whole number"));
  EXPECT_THAT(error_text<FormatError>(read(R"({"model": {"type": "WordLevel", "vocab": {"a": 200000000}}})")),
              HasSubstr("far beyond the vocabulary"));
  EXPECT_THAT(error_text<FormatError>(read(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})")),
              HasSubstr("a merge uses 'b'"));
  EXPECT_THAT(error_text<FormatError>(read(R"({"model": {"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1}})")),
              HasSubstr("unknown token is not in the vocabulary"));
  const std::string model = R"("model": {"type": "WordLevel", "vocab": {"a": 0}})";
  EXPECT_THAT(error_text<FormatError>(
                  read("{" + model +
                       R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"}})")),
              HasSubstr("the pattern is wrong: missing closing parenthesis"));
  EXPECT_THAT(error_text<FormatError>(
                  read("{" + model + R"(, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}})")),
              HasSubstr("byte"));
  std::string nested;
  for (int i = 0; i < 40; ++i) nested += R"({"type": "Sequence", "normalizers": [)";
  for (int i = 0; i < 40; ++i) nested += "]}";
  EXPECT_THAT(error_text<FormatError>(read("{" + model + R"(, "normalizer": )" + nested + "}")),
              HasSubstr("nested too deeply"));
  EXPECT_THAT(error_text<FormatError>([] { (void)read_sentencepiece("nonsense", "m.model"); }), HasSubstr("m.model"));
  EXPECT_THAT(error_text<FormatError>([] { (void)read_tiktoken("!!! 0\n", "x", {}, "r"); }),
              HasSubstr("not base64 at byte 0"));
  EXPECT_THAT(error_text<FileError>([] { (void)load_tokenizer(testing_support::temp_folder()); }),
              HasSubstr("no tokenizer in the folder"));
}

TEST(Tokenizer, WrongTextIsATypedError) {
  const Tokenizer tokenizer = read_wordpiece_file("[UNK]\na\n", "vocab.txt");
  EXPECT_THAT(error_text<FormatError>([&] { (void)tokenizer.encode("a\xff"); }),
              ::testing::HasSubstr("not UTF-8 at byte 1"));
  const Tokenizer without = read_wordpiece_file("a\n", "vocab.txt");
  EXPECT_THAT(error_text<ValueError>([&] { (void)without.encode("b"); }),
              ::testing::HasSubstr("'[UNK]' is not in the vocabulary"));
}

// A pattern that explores every way to cut a long text is stopped.
TEST(Tokenizer, APatternThatNeverEndsIsStopped) {
  const Tokenizer tokenizer = read_tokenizer_json(
      R"({"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
          "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": false}})",
      "t.json");
  EXPECT_THAT(error_text<ValueError>([&] { (void)tokenizer.encode(std::string(64, 'a') + "cb"); }),
              ::testing::HasSubstr("matching gave up"));
}

TEST(Tokenizer, TruncatedFilesAreTypedErrors) {
  const json golden = read_golden("tokenizers.json.gz");
  for (const char* name : {"llama2", "unigram", "bert", "roberta"}) {
    const std::string whole = golden["tokenizers"][name]["json"].dump();
    for (int i = 0; i < 16; ++i)
      EXPECT_THROW((void)read_tokenizer_json(whole.substr(0, whole.size() * static_cast<std::size_t>(i) / 16), name),
                   FormatError);
  }
}

}  // namespace
}  // namespace tenon::text
