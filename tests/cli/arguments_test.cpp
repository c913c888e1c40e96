#include "tenon/cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tenon/cli/commands.h"
#include "tenon/cli/progress_bar.h"

namespace tenon::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using Words = std::vector<std::string>;

Arguments parse(const std::string& command, const Words& words, const train::Config& earlier = {}) {
  return parse_arguments(find_command(commands(), command), words, earlier);
}

std::string error_of(const std::string& command, const Words& words) {
  try {
    (void)parse(command, words);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Arguments, DefaultsAreNanoGptsSmallConfiguration) {
  const auto a = parse("train", {"--task", "language-model", "--data", "x.txt"});
  EXPECT_EQ(a.get<std::string>("model"), "gpt");
  EXPECT_EQ(a.get<std::int64_t>("layers"), 4);
  EXPECT_EQ(a.get<std::int64_t>("heads"), 4);
  EXPECT_EQ(a.get<std::int64_t>("width"), 128);
  EXPECT_EQ(a.get<std::int64_t>("context"), 64);
  EXPECT_EQ(a.get<std::int64_t>("batch-size"), 12);
  EXPECT_EQ(a.get<std::int64_t>("steps"), 2000);
  EXPECT_EQ(a.get<std::int64_t>("warmup"), 100);
  EXPECT_EQ(a.get<double>("lr"), 1e-3);
  EXPECT_EQ(a.get<double>("min-lr"), 1e-4);
  EXPECT_EQ(a.get<double>("beta2"), 0.99);
  EXPECT_EQ(a.get<double>("weight-decay"), 0.1);
  EXPECT_EQ(a.get<double>("grad-clip"), 1.0);
  EXPECT_EQ(a.get<double>("dropout"), 0.0);
  EXPECT_FALSE(a.has("epochs"));
  EXPECT_FALSE(a.has("out"));
}

TEST(Arguments, BothSpellingsAndAnyOrder) {
  const auto a = parse("train", {"--lr=0.5", "--epochs", "3", "--task=image-classification", "--model", "mlp"});
  EXPECT_EQ(a.get<double>("lr"), 0.5);
  EXPECT_EQ(a.get<std::int64_t>("epochs"), 3);
  EXPECT_EQ(a.get<std::string>("model"), "mlp");
  EXPECT_THAT(a.given, ElementsAre("lr", "epochs", "task", "model"));
  EXPECT_TRUE(a.was_given("lr"));
  EXPECT_FALSE(a.was_given("seed"));
}

TEST(Arguments, EarlierSettingsReplaceDefaultsAndChooseTheTask) {
  train::Config earlier;
  earlier.set("task", std::string("language-model"));
  earlier.set("width", std::int64_t{32});
  const auto a = parse("train", {"--resume", "r", "--steps", "9"}, earlier);
  EXPECT_EQ(a.get<std::int64_t>("width"), 32);
  EXPECT_EQ(a.get<std::int64_t>("steps"), 9);
  EXPECT_EQ(a.get<std::string>("task"), "language-model");
}

TEST(Arguments, PromptsMayLookLikeAnything) {
  const auto a = parse("generate", {"run", "--prompt", "--help me", "--seed", "3"});
  EXPECT_EQ(a.get<std::string>("prompt"), "--help me");
  EXPECT_THAT(a.positionals, ElementsAre("run"));
}

struct Wrong {
  std::string command;
  Words words;
  std::string text;
};

TEST(Arguments, MistakesAreNamed) {
  const std::vector<Wrong> wrong{
      {"train", {"--task", "language-model", "--layrs", "4"}, "tenon train: unknown option --layrs\n  try: --layers"},
      {"train",
       {"--task", "language-model", "--zzz", "4"},
       "tenon train: unknown option --zzz\n  try: tenon train --help"},
      {"train",
       {"--task", "image-classification", "--layers", "4"},
       "tenon train: --layers is not an option of --task image-classification\n  try: --task language-model"},
      {"train", {"--layers", "4"}, "tenon train: --layers needs --task first\n  try: --task language-model"},
      {"train",
       {"--task", "image"},
       "tenon train --task: unknown value; expected image-classification, language-model, got \"image\"\n  try: --task "
       "image-classification"},
      {"train",
       {"--task", "image-classification", "--model", "lenett"},
       "tenon train --model: unknown value; expected lenet, mlp, resnet18, got \"lenett\"\n  try: --model lenet"},
      {"train",
       {"--task", "image-classification", "--epochs", "five"},
       "tenon train --epochs: not an integer; expected an integer from 1 to 1000000000, got \"five\""},
      {"train",
       {"--task", "image-classification", "--epochs", "2.5"},
       "tenon train --epochs: not an integer; expected an integer from 1 to 1000000000, got \"2.5\""},
      {"train",
       {"--task", "image-classification", "--epochs", "0"},
       "tenon train --epochs: out of range; expected an integer from 1 to 1000000000, got 0"},
      {"train",
       {"--task", "language-model", "--dropout", "1.5"},
       "tenon train --dropout: out of range; expected a number from 0 to 0.999, got 1.5"},
      {"train",
       {"--task", "language-model", "--lr", "fast"},
       "tenon train --lr: not a number; expected a number from 0 to 1000000000, got \"fast\""},
      {"train",
       {"--task", "language-model", "--lr", "nan"},
       "tenon train --lr: not a number; expected a number from 0 to 1000000000, got \"nan\""},
      {"train", {"--task", "language-model", "--lr"}, "tenon train: --lr needs a value\n  try: --lr X"},
      {"train", {"--seed", "1", "--seed", "2"}, "tenon train: --seed is given twice"},
      {"train", {"-x"}, "tenon train: unknown option -x\n  try: tenon train --help"},
      {"info",
       {},
       "tenon info: PATH is missing (a run folder, a model's folder, or a file of any format that can be read)\n"
       "  try: tenon info PATH"},
      {"info", {"a", "b"}, "tenon info: a word too many; got \"b\""},
      {"generate",
       {"r", "--temperature", "-1"},
       "tenon generate --temperature: out of range; expected a number from 0 to 100, got -1"},
  };
  for (const auto& w : wrong) EXPECT_EQ(error_of(w.command, w.words), w.text);
}

TEST(Arguments, UnknownCommandSuggests) {
  try {
    (void)find_command(commands(), "trian");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(),
                 "tenon: unknown command \"trian\"; expected train, eval, generate, info, convert, run, diff, "
                 "conformance, serve, publish, loadtest\n"
                 "  try: tenon train");
  }
}

TEST(Arguments, HelpComesFromTheTable) {
  for (const auto& command : commands()) {
    const auto help = help_for(command);
    for (const auto& option : command.options) EXPECT_THAT(help, HasSubstr("--" + option.name));
    for (const auto& variant : command.variants)
      for (const auto& option : variant.options) EXPECT_THAT(help, HasSubstr("--" + option.name));
    std::size_t longest = 0;
    for (std::size_t at = 0; at < help.size();) {
      const auto end = help.find('\n', at);
      longest = std::max(longest, end - at);
      at = end + 1;
    }
    EXPECT_LE(longest, 110u) << help;
  }
  EXPECT_TRUE(parse("train", {"--task", "--help"}).help);
  EXPECT_THAT(help_for(commands()), HasSubstr("generate"));
}

// Every default lies within its option's own range and choices, and no command has a name twice.
TEST(Arguments, TablesAreSound) {
  for (const auto& command : commands()) {
    std::vector<std::pair<std::string, Option>> all;
    for (const auto& option : command.options) all.emplace_back("", option);
    for (const auto& variant : command.variants)
      for (const auto& option : variant.options) all.emplace_back(variant.value, option);
    std::set<std::string> seen;
    for (const auto& [variant, option] : all) {
      EXPECT_TRUE(seen.insert(variant + "/" + option.name).second) << option.name;
      EXPECT_FALSE(option.help.empty()) << option.name;
      if (option.fallback.empty()) continue;
      Words words{"--" + option.name, train::to_text(option.fallback.front())};
      if (!variant.empty()) words.insert(words.begin(), {"--" + command.selector, variant});
      for (std::size_t i = 0; i < command.positionals.size(); ++i) words.emplace_back("x");
      EXPECT_NO_THROW((void)parse(command.name, words)) << command.name << " " << option.name;
    }
  }
}

TEST(ProgressBar, RedrawsOneLineOnATerminal) {
  std::string out;
  ProgressBar bar([&](std::string_view text) { out += text; }, {.terminal = true, .columns = 100});
  train::Progress progress{.step = 500,
                           .steps = 2000,
                           .loss = 2.5,
                           .seconds = 10,
                           .per_second = 51234,
                           .unit = "tokens",
                           .remaining_seconds = 31};
  bar.update(progress);
  EXPECT_THAT(out, HasSubstr("25 % 500/2000  loss 2.5000  51.2k tokens/s  ETA 0:31"));
  EXPECT_THAT(out, HasSubstr("[==="));
  EXPECT_THAT(out, Not(HasSubstr("\n")));
  const auto size = out.size();
  progress.seconds += 0.01;
  bar.update(progress);
  EXPECT_EQ(out.size(), size) << "drawn again too soon";
  bar.note("step 500  val loss 2.6");
  EXPECT_THAT(out.substr(size), HasSubstr("step 500  val loss 2.6\n"));
  bar.finish();
  EXPECT_EQ(out.back(), '\n');
}

TEST(ProgressBar, NeverWiderThanTheTerminal) {
  for (const int columns : {20, 40, 60, 80, 200}) {
    std::string out;
    ProgressBar bar([&](std::string_view text) { out = text; }, {.terminal = true, .columns = columns});
    bar.update({.step = 1,
                .steps = 3,
                .loss = 1,
                .seconds = 1,
                .per_second = 1e9,
                .unit = "examples",
                .remaining_seconds = 1e6});
    EXPECT_LT(out.size() - 4, static_cast<std::size_t>(columns));  // four bytes rewind and clear the line
  }
}

TEST(ProgressBar, LinesWithoutATerminal) {
  std::string out;
  ProgressBar bar([&](std::string_view text) { out += text; }, {.terminal = false});
  for (int step = 1; step <= 100; ++step)
    bar.update({.step = step,
                .steps = 100,
                .loss = 1,
                .seconds = step * 0.1,
                .per_second = 10,
                .unit = "examples",
                .remaining_seconds = 3});
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 3);  // at 0.1 s, 5.1 s and the end
  EXPECT_THAT(out, Not(HasSubstr("\x1b")));
}

TEST(ProgressBar, Texts) {
  EXPECT_EQ(clock_text(7), "0:07");
  EXPECT_EQ(clock_text(3723), "1:02:03");
  EXPECT_EQ(count_text(843), "843");
  EXPECT_EQ(count_text(1.3e6), "1.30M");
  EXPECT_EQ(row_text({.step = 250, .epoch = 0.19, .train_loss = 2.25, .val_loss = 2.5, .tokens_per_second = 51200}),
            "step 250  epoch 0.19  train loss 2.2500  val loss 2.5000  51.2k tokens/s");
}

}  // namespace
}  // namespace tenon::cli
