#include "tenon/train/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/train/chart.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::train {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing_support::error_text;

std::string fresh_folder(const std::string& name) {
  const std::string path = testing_support::temp_folder() + "/tenon_" + name;
  std::filesystem::remove_all(path);
  return path;
}

Config sample_config() {
  Config config;
  config.set("task", std::string("language-model"));
  config.set("steps", std::int64_t{2000});
  config.set("lr", 1e-3);
  config.set("shuffle", true);
  return config;
}

TEST(Config, JsonRoundTripKeepsOrderAndTypes) {
  const Config config = sample_config();
  EXPECT_EQ(Config::parse(config.to_json(), "c"), config);
  EXPECT_EQ(config.to_json(),
            "{\n  \"task\": \"language-model\",\n  \"steps\": 2000,\n  \"lr\": 0.001,\n  \"shuffle\": true\n}\n");
  EXPECT_EQ(config.get<double>("steps"), 2000.0);
}

TEST(Config, ErrorsNameTheEntry) {
  EXPECT_EQ(error_text<FormatError>([] { (void)Config::parse("{", "run/config.json"); }),
            "run/config.json: not JSON; expected an object such as {\"task\": \"language-model\"}");
  EXPECT_EQ(error_text<FormatError>([] { (void)Config::parse("[1]", "c"); }).substr(0, 21), "c: not a JSON object;");
  EXPECT_EQ(error_text<FormatError>([] { (void)Config::parse(R"({"a":[1]})", "c"); }),
            "c: entry \"a\" is not a plain value; expected true, false, a number or a text, got [1]");
  const Config config = Config::parse(R"({"lr":"high"})", "c");
  EXPECT_EQ(error_text<FormatError>([&] { (void)config.get<double>("lr"); }),
            "c: entry \"lr\" has the wrong type; expected a number, got high");
  EXPECT_EQ(error_text<FormatError>([&] { (void)config.get<bool>("x"); }), "c: no entry \"x\"");
}

TEST(Metrics, RowsRoundTrip) {
  const std::vector<MetricsRow> rows{{.step = 100, .epoch = 0.5, .train_loss = 1.0 / 3, .tokens_per_second = 1e5},
                                     {.step = 200, .epoch = 1, .val_loss = 2.5, .val_accuracy = 0.75}};
  std::string text;
  for (const auto& row : rows) text += to_json_line(row);
  EXPECT_EQ(parse_metrics(text, "m"), rows);
  EXPECT_EQ(to_json_line(rows[1]), "{\"step\":200,\"epoch\":1.0,\"val_loss\":2.5,\"val_accuracy\":0.75}\n");
}

TEST(Metrics, NotANumberIsNull) {
  const MetricsRow row{.step = 1, .epoch = 0, .train_loss = std::numeric_limits<double>::quiet_NaN()};
  EXPECT_THAT(to_json_line(row), HasSubstr("\"train_loss\":null"));
  EXPECT_TRUE(std::isnan(*parse_metrics(to_json_line(row), "m").at(0).train_loss));
}

TEST(Metrics, AnUnfinishedLastLineIsLeftOut) {
  EXPECT_EQ(parse_metrics("{\"step\":1,\"epoch\":1}\n{\"step\":2,\"ep", "m").size(), 1u);
}

TEST(Metrics, DamagedLinesAreNamed) {
  EXPECT_EQ(
      error_text<FormatError>([] { (void)parse_metrics("{\"step\":1,\"epoch\":1}\nxyz\n", "run/metrics.jsonl"); }),
      "run/metrics.jsonl:2: not a row of metrics; expected a JSON object such as "
      "{\"step\":100,\"epoch\":1.0,\"train_loss\":0.5}, got \"xyz\"");
  EXPECT_EQ(error_text<FormatError>([] { (void)parse_metrics("{\"epoch\":1}\n", "m"); }),
            "m:1: a row of metrics without \"step\"");
  EXPECT_EQ(error_text<FormatError>([] { (void)parse_metrics("{\"step\":1.5,\"epoch\":1}\n", "m"); }),
            "m:1: \"step\" is not an integer; expected an integer, got 1.5");
  EXPECT_EQ(
      error_text<FormatError>([] { (void)parse_metrics("{\"step\":1,\"epoch\":1,\"val_loss\":\"low\"}\n", "m"); }),
      "m:1: \"val_loss\" is not a number; expected a number, got \"low\"");
}

TEST(RunFolder, WritesAndReadsBack) {
  const auto path = fresh_folder("run");
  auto run = RunFolder::create(path, sample_config());
  const MetricsRow first{.step = 100, .epoch = 0.1, .train_loss = 2.0, .val_loss = 2.1};
  const MetricsRow second{.step = 200, .epoch = 0.2, .train_loss = 1.5, .val_loss = 1.7};
  run.record(first);
  run.record(second);
  run.record_sample({.step = 200, .text = "ROMEO: <&>\n"});
  run.write_report();

  const auto again = RunFolder::open(path);
  EXPECT_EQ(again.config(), sample_config());
  EXPECT_EQ(again.rows(), (std::vector{first, second}));
  EXPECT_EQ(again.samples(), (std::vector<Sample>{{200, "ROMEO: <&>\n"}}));
  EXPECT_FALSE(again.has_checkpoint());
  EXPECT_THAT(read_text_file(again.report_path()), HasSubstr("ROMEO: &lt;&amp;&gt;"));
  for (const auto& file : std::filesystem::directory_iterator(path))
    EXPECT_THAT(file.path().filename().string(), Not(HasSubstr("tmp")));
}

TEST(RunFolder, ResumeForgetsWhatCameLater) {
  const auto path = fresh_folder("resume");
  {
    auto run = RunFolder::create(path, sample_config());
    for (int step : {100, 200, 300}) run.record({.step = step, .epoch = 0});
    run.record_sample({.step = 300, .text = "late"});
    std::ofstream(path + "/metrics.jsonl", std::ios::app) << "{\"step\":400,";  // the machine crashed here
  }
  auto run = RunFolder::open(path);
  EXPECT_EQ(run.rows().size(), 3u);
  run.resume_at(200);
  EXPECT_EQ(run.rows().back().step, 200);
  EXPECT_TRUE(run.samples().empty());
  run.record({.step = 250, .epoch = 0});
  EXPECT_EQ(read_text_file(path + "/metrics.jsonl"),
            "{\"step\":100,\"epoch\":0.0}\n{\"step\":200,\"epoch\":0.0}\n{\"step\":250,\"epoch\":0.0}\n");
}

TEST(RunFolder, RefusesToOverwriteARun) {
  const auto path = fresh_folder("twice");
  (void)RunFolder::create(path, sample_config());
  EXPECT_EQ(error_text<ValueError>([&] { (void)RunFolder::create(path, sample_config()); }),
            path + ": a run that ended before its first checkpoint is in this folder\n  try: rm -r " + path +
                ", or another folder, such as --out " + path + "-2");
  std::ofstream(path + "/checkpoint/state.safetensors") << "x";
  EXPECT_EQ(error_text<ValueError>([&] { (void)RunFolder::create(path, sample_config()); }),
            path + ": a run is already in this folder\n  try: --resume " + path +
                " to go on with it, or another folder, such as --out " + path + "-2");
}

// Its files would lie in the root of the file system.
TEST(RunFolder, NeedsAName) {
  EXPECT_THAT(error_text<ValueError>([] { (void)RunFolder::create("", sample_config()); }),
              HasSubstr("run folder: the path is empty"));
  EXPECT_THAT(error_text<ValueError>([] { (void)RunFolder::open(""); }), HasSubstr("the path is empty"));
}

TEST(RunFolder, MissingRun) {
  EXPECT_EQ(error_text<FileError>([] { (void)RunFolder::open("/no/run"); }),
            "/no/run: no such run; expected a folder that `tenon train --out` made");
  EXPECT_THAT(error_text<FileError>([] { (void)RunFolder::open(testing_support::temp_folder()); }),
              HasSubstr("config.json is missing"));
  const auto file = testing_support::temp_folder() + "/tenon_plain_file";
  std::ofstream(file) << "x";
  EXPECT_THAT(error_text<FileError>([&] { (void)RunFolder::create(file + "/run", sample_config()); }),
              HasSubstr("cannot make the folder"));
}

TEST(Report, ShowsChartsAndFinalNumbers) {
  Report report{.title = "run <1>",
                .subtitle = "s",
                .config = sample_config(),
                .rows = {},
                .samples = {},
                .facts = {{"parameters", "44 k"}}};
  EXPECT_THAT(render_report(report), HasSubstr("No evaluation yet."));
  report.rows = {{.step = 10, .epoch = 1, .train_loss = 0.5, .val_loss = 0.6, .val_accuracy = 0.5},
                 {.step = 20, .epoch = 2, .train_loss = 0.3, .val_loss = 0.4, .val_accuracy = 0.875}};
  const auto page = render_report(report);
  EXPECT_THAT(page, HasSubstr("run &lt;1&gt;"));
  EXPECT_THAT(page, HasSubstr("87.50 %"));
  EXPECT_THAT(page, HasSubstr("<th>parameters</th><td>44 k</td>"));
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(page, Not(HasSubstr("http")));  // nothing is loaded from elsewhere
}

TEST(Report, SurvivesValuesThatAreNotFinite) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Report report{.title = "t",
                .subtitle = "",
                .config = {},
                .rows = {{.step = 1, .epoch = 1, .train_loss = nan, .val_loss = nan}},
                .samples = {},
                .facts = {}};
  EXPECT_THAT(render_report(report), HasSubstr("no finite values yet"));
  report.rows.push_back(
      {.step = 2, .epoch = 2, .train_loss = 1.0, .val_loss = std::numeric_limits<double>::infinity()});
  EXPECT_THAT(render_report(report), HasSubstr("<svg"));
}

TEST(Chart, TicksAreRound) {
  EXPECT_THAT(round_ticks(0.13, 0.97, 5).labels, testing::ElementsAre("0", "0.2", "0.4", "0.6", "0.8", "1.0"));
  EXPECT_THAT(round_ticks(0, 25000, 5).labels, testing::ElementsAre("0", "5k", "10k", "15k", "20k", "25k"));
  EXPECT_THAT(round_ticks(1.475, 1.525, 5).labels,
              testing::ElementsAre("1.47", "1.48", "1.49", "1.50", "1.51", "1.52", "1.53"));
}

TEST(Chart, SmallTicksArePowersOfTen) {
  EXPECT_THAT(round_ticks(0, 1e-3, 5).labels, testing::ElementsAre("0", "2e-4", "4e-4", "6e-4", "8e-4", "1e-3"));
}

TEST(Chart, EscapesText) {
  EXPECT_EQ(escape_html("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
  EXPECT_EQ(escape_html("a\xff"), "a\xef\xbf\xbd");
}

}  // namespace
}  // namespace tenon::train
