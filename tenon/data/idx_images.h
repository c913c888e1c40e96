// Labelled images from IDX files: MNIST, Fashion-MNIST, EMNIST, and anything stored the same way.
//
// A folder holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-… and t10k-labels-…, each
// plain or with .gz. Images are u8 of rank 3 [n, height, width] or, with colour, rank 4 [n, channels, height,
// width] (then named …-idx4-ubyte); labels are integers of rank 1.
// Examples: "input" f32 [channels, height, width], "label" i64 [].
#pragma once

#include <filesystem>
#include <vector>

#include "tenon/data/dataset.h"

namespace tenon::data {

enum class Split : std::uint8_t { Train, Test };

struct ImageSetOptions {
  // pixel / 255, then (x - mean) / stddev. One value for all channels or one for each.
  std::vector<float> mean = {0.0F};
  std::vector<float> stddev = {1.0F};
  bool flatten = false;  // "input" is [channels * height * width]
};

// Errors: FileError naming the files that were looked for; FormatError for damaged files, wrong ranks and
// types, and labels that do not fit the images; ValueError for the options.
Dataset idx_images(const std::filesystem::path& folder, Split split, const ImageSetOptions& options = {});
Dataset idx_images(const std::filesystem::path& images, const std::filesystem::path& labels,
                   const ImageSetOptions& options = {});

// The folder of MNIST's four files; idx_images under its usual name.
inline Dataset mnist(const std::filesystem::path& folder, Split split = Split::Train,
                     const ImageSetOptions& options = {}) {
  return idx_images(folder, split, options);
}

// One more than the largest label of a dataset. Errors: ValueError if a label is negative.
std::int64_t class_count(const Dataset& dataset, std::string_view label = "label");

}  // namespace tenon::data
