// The words of `tenon serve` in the spellings of TensorFlow Serving.
#include <algorithm>
#include <optional>

#include "tenon/cli/commands.h"
#include "tenon/cli/run.h"

namespace tenon::cli {

// TensorFlow Serving writes its flags --rest_api_port=8501 and --enable_batching; --model may come several times.
std::vector<std::string> serve_words(const std::vector<std::string>& words) {
  std::vector<std::string> out;
  std::string models;
  const std::span<const Option> options = find_command(commands(), "serve").options;
  const auto is_switch = [&](const std::string& name) {
    return std::any_of(options.begin(), options.end(), [&](const Option& option) {
      return "--" + option.name == name && option.choices == std::vector<std::string>{"true", "false"};
    });
  };
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!word.starts_with("--")) {
      out.push_back(word);
      continue;
    }
    const size_t equals = word.find('=');
    std::string name = word.substr(0, equals);
    std::replace(name.begin(), name.end(), '_', '-');
    if (name == "--config") name = "--model-config-file";
    std::optional<std::string> value;
    if (equals != std::string::npos) value = word.substr(equals + 1);
    if (name == "--model") {
      if (!value && i + 1 < words.size()) value = words[++i];
      models += (models.empty() ? "" : "\n") + value.value_or("");
      continue;
    }
    if (is_switch(name)) {
      const bool follows = !value && i + 1 < words.size() && (words[i + 1] == "true" || words[i + 1] == "false");
      if (follows) value = words[++i];
      if (value == "1") value = "true";
      if (value == "0") value = "false";
      out.push_back(name + "=" + value.value_or("true"));
      continue;
    }
    out.push_back(value ? name + "=" + *value : name);
  }
  if (!models.empty()) out.push_back("--model=" + models);
  return out;
}

}  // namespace tenon::cli
