#include "tenon/data/csv.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto table = data::parse_csv(text, "input");
    for (const auto& column : table.columns) {
      const auto rows = static_cast<size_t>(table.rows);
      fuzz::require(column.missing.size() == rows);
      fuzz::require((column.kind == data::CsvKind::Numeric ? column.numbers.size() : column.texts.size()) == rows);
    }
  });
}
