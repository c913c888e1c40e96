#include "tenon/ir/text.h"
#include "tenon/ir/verify.h"
#include "tenon/ops/catalog.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    const ir::Graph graph = ir::parse(text, ops::catalog());
    const std::string printed = ir::to_text(graph, ops::catalog());
    fuzz::require(ir::to_text(ir::parse(printed, ops::catalog()), ops::catalog()) == printed);
    (void)ir::find_defect(graph, ops::catalog(), {});
  });
}
