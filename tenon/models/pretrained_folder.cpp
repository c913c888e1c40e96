#include "tenon/models/pretrained_folder.h"

#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"

namespace tenon::models {

bool is_pretrained_folder(const std::filesystem::path& folder) {
  const std::filesystem::path settings = folder / "config.json";
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(settings, ignored)) return false;
  try {
    const auto json = nlohmann::json::parse(read_text_file(settings), nullptr, /*allow_exceptions=*/false);
    return json.is_object() && json.contains("model_type");
  } catch (const Error&) {
    return false;
  }
}

}  // namespace tenon::models
