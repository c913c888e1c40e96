#include "tenon/package.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const Package package = read_package(bytes, nullptr, "input");
    for (const std::string& function : package.functions()) {
      const ir::Graph& graph = package.graph(function);
      fuzz::require(package.signature(function).inputs.size() == graph.inputs.size());
    }
    package.verify();
  });
}
