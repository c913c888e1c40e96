#include "tenon/cli/run.h"

int main(int argc, char** argv) { return tenon::cli::run({argv + 1, argv + argc}, tenon::cli::standard_console()); }
