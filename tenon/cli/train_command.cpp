// tenon train: a new run, or an interrupted one.
#include <fmt/format.h>

#include <filesystem>

#include "tenon/base/error.h"
#include "tenon/cli/interrupt.h"
#include "tenon/cli/run.h"
#include "tenon/cli/task.h"
#include "tenon/exec/profile.h"
#include "tenon/exec/session.h"
#include "tenon/train/checkpoint.h"
#include "tenon/train/run_folder.h"

namespace tenon::cli {
namespace {

// Writes a sample after each evaluation, into the run folder and for the user to see.
class SampleCallback final : public train::Callback {
 public:
  SampleCallback(const Task& task, train::RunFolder& run, std::int64_t length)
      : task_(task), run_(run), length_(length) {}
  void on_row(train::FitControl&, const train::MetricsRow& row) override {
    run_.record_sample(
        {.step = row.step, .text = task_.write({.length = length_, .seed = static_cast<std::uint64_t>(row.step)})});
  }

 private:
  const Task& task_;
  train::RunFolder& run_;
  std::int64_t length_;
};

// The options that are about this session, not about the run.
bool is_about_the_session(std::string_view name) {
  return name == "out" || name == "resume" || name == "threads" || name == "profile";
}

train::Config settings(const Arguments& arguments) {
  train::Config config;
  for (const auto& [name, value] : arguments.values.entries())
    if (name != "out" && name != "resume" && name != "profile") config.set(name, value);
  return config;
}

void check_new_run(const Arguments& arguments) {
  for (const char* name : {"task", "data", "out"})
    if (!arguments.has(name))
      throw UsageError({.where = "tenon train",
                        .problem = fmt::format("--{} is missing", name),
                        .hint = "tenon train --task language-model --data FILE.txt --out RUN"});
}

// A resumed run keeps its settings, except how long it goes on and where its data lie.
void check_resumed_run(const Arguments& arguments, const train::Config& config) {
  const auto folder = arguments.get<std::string>("resume");
  if (arguments.has("out") &&
      std::filesystem::weakly_canonical(arguments.get<std::string>("out")) != std::filesystem::weakly_canonical(folder))
    throw UsageError({.where = "tenon train",
                      .problem = "--out and --resume name two folders",
                      .hint = "--resume " + folder + " alone"});
  for (const auto& name : arguments.given) {
    if (is_about_the_session(name) || name == "steps" || name == "epochs" || name == "data") continue;
    const auto* before = config.find(name);
    const auto* now = arguments.values.find(name);
    if (before == nullptr || *before != *now)
      throw UsageError({.where = "tenon train --" + name,
                        .problem = "not the setting that the run began with",
                        .expected = before == nullptr ? "no such setting" : train::to_text(*before),
                        .got = train::to_text(*now),
                        .hint = "leave it out, or begin a new run with --out"});
  }
}

train::RunFolder open_resumed(const Arguments& arguments, const train::Config& config, std::int64_t& step) {
  auto run = train::RunFolder::open(arguments.get<std::string>("resume"));
  check_resumed_run(arguments, run.config());
  if (!run.has_checkpoint())
    throw FileError({.where = run.checkpoint_path(),
                     .problem = "the run has no checkpoint to go on from",
                     .hint = fmt::format("begin it again: rm -r {0}, then tenon train … --out {0}", run.path())});
  const train::LoopState loop = train::load_checkpoint(run.checkpoint_path()).loop;
  step = loop.step;
  for (const auto& [name, done] : {std::pair("steps", loop.step), std::pair("epochs", loop.loader_epoch)}) {
    if (arguments.was_given(name) && arguments.get<std::int64_t>(name) < done)
      throw UsageError({.where = fmt::format("tenon train --{}", name),
                        .problem = "the run is further than that",
                        .expected = fmt::format("{} or more", done),
                        .got = fmt::format("{}", arguments.get<std::int64_t>(name))});
  }
  run.resume_at(step);
  train::Config merged = run.config();
  for (const auto& [name, value] : config.entries()) merged.set(name, value);
  if (!(merged == run.config())) run.set_config(merged);
  return run;
}

// What fit() advises is for programs; here the same is an option.
train::FitResult fitted(train::Trainer& trainer, const data::Dataset& dataset, const train::FitOptions& options) {
  try {
    return trainer.fit(dataset, options);
  } catch (const NumericError& error) {
    ErrorParts parts = error.parts();
    if (parts.where == "fit") parts.hint = "a smaller --lr, or a limit to the gradient: --grad-clip 1";
    throw NumericError(std::move(parts));
  }
}

void finish_text(const Console& console, const train::RunFolder& run, const train::FitResult& result,
                 bool interrupted) {
  if (interrupted) {
    console.err(
        fmt::format("interrupted at step {}; a checkpoint is saved in {}\n  go on with: tenon train --resume {}\n",
                    result.step, run.checkpoint_path(), run.path()));
    return;
  }
  if (!run.rows().empty()) console.out(row_text(run.rows().back()) + "\n");
  if (!run.samples().empty()) console.out("\n" + run.samples().back().text + "\n\n");
  console.out(fmt::format("report: {}\n", run.report_path()));
}

}  // namespace

int train_command(const Arguments& arguments, const Console& console) {
  Interrupt interrupt;  // before any thread
  const bool resumed = arguments.has("resume");
  if (!resumed) check_new_run(arguments);
  set_num_threads(static_cast<int>(arguments.get<std::int64_t>("threads")));

  const Task task = make_task(settings(arguments), {.use = TaskUse::train, .data = {}, .model_path = {}});
  std::int64_t step = 0;
  train::RunFolder run = resumed ? open_resumed(arguments, task.config, step)
                                 : train::RunFolder::create(arguments.get<std::string>("out"), task.config);
  run.set_fact("parameters", fmt::format("{}", task.parameters));
  run.set_fact("threads", fmt::format("{}", num_threads()));
  if (resumed) console.err(fmt::format("going on after step {}\n", step));

  ProgressBar bar(console.err, {.terminal = console.err_is_terminal, .columns = console.err_columns});
  bool interrupted = false;
  train::FitOptions fit = task.fit;
  if (resumed) fit.resume = run.checkpoint_path();
  const std::int64_t sample_length = arguments.has("sample-length") ? arguments.get<std::int64_t>("sample-length") : 0;
  if (task.write && sample_length > 0)
    fit.callbacks.push_back(std::make_shared<SampleCallback>(task, run, sample_length));
  fit.callbacks.push_back(std::make_shared<train::RunFolderCallback>(run));
  if (arguments.has("patience") && arguments.get<std::int64_t>("patience") > 0)
    fit.callbacks.push_back(std::make_shared<train::EarlyStopping>(
        static_cast<int>(arguments.get<std::int64_t>("patience")), 0, run.rows()));
  fit.callbacks.push_back(
      std::make_shared<train::RowCallback>([&](const train::MetricsRow& row) { bar.note(row_text(row)); }));
  fit.callbacks.push_back(
      std::make_shared<train::ProgressCallback>([&](const train::Progress& progress) { bar.update(progress); }));
  std::string profile_table;
  if (arguments.has("profile")) {
    const auto path = arguments.get<std::string>("profile");
    fit.callbacks.push_back(std::make_shared<train::ProfileCallback>(10, 10, [&profile_table, path](const Profile& p) {
      save_chrome_trace(p, path);
      profile_table = to_table(p);
    }));
  }
  fit.callbacks.push_back(std::make_shared<train::StopCallback>([&] { return interrupted = interrupt.requested(); },
                                                                run.checkpoint_path(), run.model_path()));

  train::Trainer trainer = task.trainer;
  const train::FitResult result = fitted(trainer, *task.training, fit);
  bar.finish();
  if (resumed && result.step == step && !interrupted)
    console.err(fmt::format("the run had done all its {0}; more: tenon train --resume {1} --{0} N\n",
                            fit.steps > 0 ? "steps" : "epochs", run.path()));
  run.write_report();
  if (!profile_table.empty()) console.out(profile_table + "\n");
  finish_text(console, run, result, interrupted);
  return interrupted ? exit_interrupted : exit_done;
}

}  // namespace tenon::cli
