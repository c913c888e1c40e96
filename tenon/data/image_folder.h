// Labelled images from a folder of folders: FOLDER/CLASS/*.png, *.jpg, *.jpeg.
//
// Classes are the sub-folders' names in order; files are read and decoded when an example is asked for.
// Examples: "input" u8 [channels, height, width], "label" i64 []. Images of different sizes can be told one
// by one; to make batches, bring them to one size in a map function.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tenon/data/dataset.h"
#include "tenon/data/image.h"

namespace tenon::data {

struct ImageFolder {
  Dataset dataset;
  std::vector<std::string> classes;
};

// Errors: FileError if there is no such folder or no image in it. Damaged files are FormatErrors when read.
ImageFolder image_folder(const std::filesystem::path& folder,
                         const ImageOptions& options = {.channels = 3, .limits = {}});

// [height, width, channels] to [channels, height, width].
HostArray channels_first(const HostArray& image);

}  // namespace tenon::data
