// What a folder of a published model is known by. A header of its own, because the program that trains asks too and
// does not carry the models.
#pragma once

#include <filesystem>

namespace tenon::models {

// True if the folder has a config.json that names a model type: the settings of a run (train/run_folder.h) are plain
// values and name none. What cannot be read is no model.
[[nodiscard]] bool is_pretrained_folder(const std::filesystem::path& folder);

}  // namespace tenon::models
