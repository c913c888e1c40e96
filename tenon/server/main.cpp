// tenon-server: what `tenon serve`, `tenon publish` and `tenon loadtest` start. A program of its own, so that the
// others neither link nor load HTTP, TLS and gRPC, and the server does not carry the compiler.
#include "tenon/server/commands.h"

int main(int argc, char** argv) {
  using namespace tenon;
  constexpr cli::Subcommand bodies[] = {
      {"serve", server::serve_command}, {"publish", server::publish_command}, {"loadtest", server::loadtest_command}};
  return cli::run({argv + 1, argv + argc}, cli::standard_console(), bodies);
}
