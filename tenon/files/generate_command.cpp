// tenon generate FOLDER: a published language model writes on.
#include "tenon/exec/session.h"
#include "tenon/files/commands.h"
#include "tenon/models/pretrained.h"

namespace tenon::files {

// Token by token as they come. The model's own settings count where the command line gives none.
int generate_command(const Arguments& arguments, const Console& console) {
  const std::string& folder = arguments.positionals.at(0);
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

}  // namespace tenon::files
