// tenon-files: what `tenon info FILE`, `tenon convert` and their kin start. A program of its own, because all formats
// and the model zoo are a third of the library: who trains a first model need not wait for them.
#include "tenon/files/commands.h"

int main(int argc, char** argv) {
  using namespace tenon;
  constexpr cli::Subcommand bodies[] = {
      {"info", files::info_command},       {"generate", files::generate_command},
      {"convert", files::convert_command}, {"run", files::run_command},
      {"diff", files::diff_command},       {"conformance", files::conformance_command}};
  return cli::run({argv + 1, argv + argc}, cli::standard_console(), bodies);
}
