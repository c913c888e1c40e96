// Every template is compared with what Jinja makes of it, as `transformers` sets it up (goldens/chat.json).
#include "tenon/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::text {
namespace {

using testing_support::error_text;

void expect_cases(const std::string& path) {
  const Value cases = parse_json(read_text_file(path), path);
  ASSERT_GT(cases.list().size(), 10U);
  for (const auto& one : cases.list()) {
    const std::string& source = one.find("template")->string();
    SCOPED_TRACE(source.substr(0, 300));
    const Value* expected = one.find("text");
    if (expected == nullptr) {
      EXPECT_THROW((void)ChatTemplate(source).render(*one.find("context")), Error);
      continue;
    }
    try {
      EXPECT_EQ(ChatTemplate(source).render(*one.find("context")), expected->string());
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }
}

TEST(ChatTemplate, GivesWhatJinjaGives) { expect_cases(TENON_SOURCE_DIR "/tests/text/goldens/chat.json"); }

// TENON_CHAT_CASES=FILE: more cases, made by tools/goldens/chat_templates.py TEMPLATE….jinja > FILE.
TEST(ChatTemplate, MoreCasesByHand) {
  const char* path = std::getenv("TENON_CHAT_CASES");
  if (path == nullptr) GTEST_SKIP() << "TENON_CHAT_CASES is not set";
  expect_cases(path);
}

TEST(ChatTemplate, MistakesNameTheLine) {
  using ::testing::HasSubstr;
  const auto render = [](const char* source) {
    return [source] { (void)ChatTemplate(source, "t.jinja").render(Value(Object{})); };
  };
  EXPECT_THAT(error_text<ValueError>(render("a\n{{ raise_exception('Roles must alternate') }}")),
              HasSubstr("t.jinja: Roles must alternate (line 2)"));
  EXPECT_THAT(error_text<FormatError>(render("a\nb {% if x %}")), HasSubstr("'endif' is missing in line 2"));
  EXPECT_THAT(error_text<FormatError>(render("{{ 'a }}")), HasSubstr("a text never ends in line 1"));
  EXPECT_THAT(error_text<ValueError>(render("{{ 'a' | shout }}")), HasSubstr("there is no filter 'shout'"));
  EXPECT_THAT(error_text<ValueError>(render("{{ messages.x.y }}")), HasSubstr("undefined"));
}

TEST(ChatTemplate, HostileTemplatesStop) {
  const auto render = [](const std::string& source) {
    return [source] { (void)ChatTemplate(source).render(Value(Object{})); };
  };
  EXPECT_THROW(render("{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% "
                      "endfor %}{% endfor %}")(),
               ValueError);
  EXPECT_THROW(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")(), ValueError);
  EXPECT_THROW(render("{{ 'a' * 1000000000 }}")(), ValueError);
  EXPECT_THROW(render("{{ range(1000000000) }}")(), ValueError);
  EXPECT_THROW(render("{{ " + std::string(100000, '(') + "1")(), FormatError);
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += "{% if true %}";
  EXPECT_THROW(render(nested)(), FormatError);
}

TEST(Chat, AFolderBringsItsTemplateAndTokens) {
  const std::filesystem::path folder = testing_support::temp_folder() + "/chat";
  std::filesystem::create_directories(folder);
  EXPECT_THROW((void)Chat::load(folder), FileError);
  write_file_atomic(
      folder / "tokenizer_config.json",
      R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"})");
  EXPECT_EQ(Chat::load(folder).render(std::vector<Message>{{"user", "Hi"}}), "<s>[user]Hi</s>[assistant]");
  EXPECT_EQ(Chat::load(folder).render(std::vector<Message>{{"user", "Hi"}}, false), "<s>[user]Hi</s>");
  write_file_atomic(folder / "chat_template.jinja", "{{ messages[0]['content'] }}{{ bos_token }}");
  EXPECT_EQ(Chat::load(folder).render(std::vector<Message>{{"user", "Hi"}}), "Hi<s>");
}

}  // namespace
}  // namespace tenon::text
