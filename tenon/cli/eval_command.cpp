// tenon eval RUN and tenon generate RUN: a trained model at work. RUN may also be a published language model's folder.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/cli/run.h"
#include "tenon/cli/task.h"
#include "tenon/exec/session.h"
#include "tenon/models/pretrained.h"
#include "tenon/train/run_folder.h"

namespace tenon::cli {
namespace {

Task trained(const Arguments& arguments, TaskUse use) {
  set_num_threads(static_cast<int>(arguments.get<std::int64_t>("threads")));
  const auto run = train::RunFolder::open(arguments.positionals.at(0));
  if (!std::filesystem::exists(run.model_path()))
    throw FileError({.where = run.model_path(),
                     .problem = "the run has no weights yet",
                     .hint = "tenon train --resume " + run.path()});
  TaskRequest request{.use = use, .data = {}, .model_path = run.model_path()};
  if (arguments.has("data")) request.data = arguments.get<std::string>("data");
  return make_task(run.config(), request);
}

// A folder of a published language model writes on, token by token as they come. Its own settings count where the
// command line gives none.
int write_pretrained(const std::string& folder, const Arguments& arguments, const Console& console) {
  set_num_threads(static_cast<int>(arguments.get<std::int64_t>("threads")));
  const auto published = models::load_causal(folder);
  if (!published.tokenizer)
    throw FileError({.where = folder,
                     .problem = "no tokenizer in the folder",
                     .expected = "tokenizer.json, tokenizer.model, or vocab.json with merges.txt"});
  models::GenerateOptions options = published.generation;
  options.max_new_tokens = arguments.get<std::int64_t>("length");
  options.temperature = arguments.get<double>("temperature");
  if (arguments.get<std::int64_t>("top-k") > 0) options.top_k = arguments.get<std::int64_t>("top-k");
  options.seed = static_cast<std::uint64_t>(arguments.get<std::int64_t>("seed"));
  const std::string prompt = arguments.get<std::string>("prompt");
  std::vector<std::int64_t> tokens = published.tokenizer->encode(prompt).ids;
  if (tokens.empty() && published.begin_token) tokens.push_back(*published.begin_token);
  console.out(prompt);
  // The prompt's last tokens belong to the text that goes on: they decide about spaces.
  text::StreamDecoder stream(*published.tokenizer);
  for (const auto token : tokens) (void)stream.add(token);
  models::generate(published.model, tokens, options, [&](std::int64_t token) {
    console.out(stream.add(token));
    return true;
  });
  console.out("\n");
  return exit_done;
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
  const std::string& path = arguments.positionals.at(0);
  if (models::is_pretrained_folder(path)) return write_pretrained(path, arguments, console);
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
