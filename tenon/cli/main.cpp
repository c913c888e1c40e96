#include "tenon/cli/run.h"

int main(int argc, char** argv) {
  using namespace tenon::cli;
  constexpr Subcommand bodies[] = {{"train", train_command},       {"eval", eval_command},
                                   {"generate", generate_command}, {"info", info_command},
                                   {"convert", convert_command},   {"run", run_command},
                                   {"diff", diff_command},         {"conformance", conformance_command}};
  return run({argv + 1, argv + argc}, standard_console(), bodies);
}
