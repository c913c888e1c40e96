// tenon eval RUN and tenon generate RUN: a trained model at work.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/cli/commands.h"
#include "tenon/cli/run.h"
#include "tenon/cli/task.h"
#include "tenon/exec/session.h"
#include "tenon/train/run_folder.h"

namespace tenon::cli {
namespace {

Task trained(const Arguments& arguments, TaskUse use) {
  set_num_threads(static_cast<int>(arguments.get<std::int64_t>("threads")));
  const auto run = open_run(arguments.positionals.at(0));
  if (!std::filesystem::exists(run.model_path()))
    throw FileError({.where = run.model_path(),
                     .problem = "the run has no weights yet",
                     .hint = "tenon train --resume " + run.path()});
  TaskRequest request{.use = use, .data = {}, .model_path = run.model_path()};
  if (arguments.has("data")) request.data = arguments.get<std::string>("data");
  return make_task(run.config(), request);
}

}  // namespace

int eval_command(const Arguments& arguments, const Console& console) {
  const Task task = trained(arguments, TaskUse::evaluate);
  const auto result = task.trainer.evaluate(*task.validation, arguments.get<std::int64_t>("batch-size"));
  std::string out = fmt::format("loss      {:.4f}\n", result.loss);
  if (result.accuracy) out += fmt::format("accuracy  {:.2f} %\n", 100 * *result.accuracy);
  if (task.write) out += fmt::format("perplexity {:.3f}\n", std::exp(result.loss));
  out += fmt::format("examples  {}\nseconds   {:.2f}\n", result.examples, result.seconds);
  console.out(out);
  return exit_done;
}

int generate_command(const Arguments& arguments, const Console& console) {
  const Task task = trained(arguments, TaskUse::write);
  if (!task.write)
    throw ValueError({.where = arguments.positionals.at(0),
                      .problem = "not a language model",
                      .expected = "a run of --task language-model",
                      .got = task.config.get<std::string>("task")});
  console.out(task.write({.prompt = arguments.get<std::string>("prompt"),
                          .length = arguments.get<std::int64_t>("length"),
                          .temperature = arguments.get<double>("temperature"),
                          .top_k = arguments.get<std::int64_t>("top-k"),
                          .seed = static_cast<std::uint64_t>(arguments.get<std::int64_t>("seed"))}) +
              "\n");
  return exit_done;
}

}  // namespace tenon::cli
