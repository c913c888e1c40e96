#include "tenon/cli/run.h"

int main(int argc, char** argv) {
  using namespace tenon::cli;
  constexpr Subcommand bodies[] = {{"train", train_command},
                                   {"eval", eval_command},
                                   {"generate", generate_command, is_no_published_model},
                                   {"info", info_command, is_run}};
  return run({argv + 1, argv + argc}, standard_console(), bodies);
}
