// Tokenizers in GGUF files against the ids that llama.cpp publishes beside its vocabularies.
#include "tenon/models/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tests/support/error_text.h"

namespace tenon::models {
namespace {

using formats::Gguf;
using testing::HasSubstr;
using testing_support::error_text;

const std::filesystem::path kFolder = TENON_SHARED_DATA "/gguf_vocab/models";

class GgufVocabulary : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Published, GgufVocabulary, testing::Values("bert-bge", "gpt-2", "llama-spm"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(GgufVocabulary, GivesThePublishedIds) {
  if (!std::filesystem::exists(kFolder)) GTEST_SKIP() << "the shared test data is not there";
  const std::string path = (kFolder / "ggml-vocab-").string() + GetParam() + ".gguf";
  const text::Tokenizer tokenizer = gguf_tokenizer(formats::load_gguf(path), path);
  const std::string inputs = read_text_file(path + ".inp"), separator = "\n__ggml_vocab_test__\n";
  std::istringstream outputs(read_text_file(path + ".out"));
  std::size_t cases = 0;
  for (std::size_t at = 0; at < inputs.size(); ++cases) {
    const std::size_t end = std::min(inputs.find(separator, at), inputs.size());
    const std::string text = inputs.substr(at, end - at);
    at = end + separator.size();
    std::string line;
    ASSERT_TRUE(std::getline(outputs, line)) << cases;
    std::vector<std::int64_t> expected;
    std::istringstream numbers(line);
    for (std::int64_t id = 0; numbers >> id;) expected.push_back(id);
    // llama.cpp's lists are without what is put around a text, and take "<s>" in it for text.
    const auto ids = tokenizer.encode(text, {.add_special_tokens = false, .find_special_tokens = false}).ids;
    EXPECT_EQ(ids, expected) << "case " << cases << ": " << text;
  }
  EXPECT_GT(cases, 40U);
}

TEST(GgufTokenizer, WhatTheFilePutsAroundTextIsHeeded) {
  const auto list = [](const std::vector<std::string>& texts) {
    formats::GgufList out;
    for (const auto& text : texts) out.push_back({text});
    return formats::GgufValue{std::move(out)};
  };
  Gguf file;
  EXPECT_THAT(error_text([&] { (void)gguf_tokenizer(file, "x.gguf"); }),
              HasSubstr("x.gguf: the file has no tokenizer"));
  file.metadata = {{"tokenizer.ggml.model", {std::string("gpt2")}},
                   {"tokenizer.ggml.pre", {std::string("qwen2")}},
                   {"tokenizer.ggml.tokens", list({"a", "b", "ab", "<s>"})},
                   {"tokenizer.ggml.token_type",
                    {formats::GgufList{{std::int64_t{1}}, {std::int64_t{1}}, {std::int64_t{1}}, {std::int64_t{3}}}}},
                   {"tokenizer.ggml.merges", list({"a b"})},
                   {"tokenizer.ggml.add_bos_token", {true}},
                   {"tokenizer.ggml.bos_token_id", {std::int64_t{3}}}};
  const text::Tokenizer tokenizer = gguf_tokenizer(file, "x.gguf");
  EXPECT_THAT(tokenizer.encode("abb").ids, testing::ElementsAre(3, 2, 1));
  EXPECT_THAT(tokenizer.encode("a<s>b", {.add_special_tokens = false}).ids, testing::ElementsAre(0, 3, 1));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int64_t>{3, 2, 1}), "abb");
  file.metadata[1].second.data = std::string("strange");
  EXPECT_THAT(error_text([&] { (void)gguf_tokenizer(file, "x.gguf"); }), HasSubstr("the way 'strange'"));
  file.metadata[1].second.data = std::string("gpt-2");
  file.metadata[3].second.data = formats::GgufList{};
  EXPECT_THAT(error_text([&] { (void)gguf_tokenizer(file, "x.gguf"); }), HasSubstr("another length than the tokens"));
}

}  // namespace
}  // namespace tenon::models
