#include "tenon/data/idx_images.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/data/array_source.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/idx.h"
#include "tenon/data/to_tensor.h"

namespace tenon::data {
namespace {

namespace fs = std::filesystem;

// The file of `folder` that is named STEM-idxN-ubyte or STEM.idxN-ubyte, with or without .gz.
fs::path find_file(const fs::path& folder, std::initializer_list<std::string_view> stems, int usual_rank) {
  std::error_code code;
  if (!fs::is_directory(folder, code)) {
    throw FileError({folder.string(), "not a folder", "a folder of IDX files",
                     fs::exists(folder, code) ? "a file" : "nothing of this name",
                     "check the path; it is taken relative to the working directory"});
  }
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder, code)) {
    const std::string name = entry.path().filename().string();
    for (const std::string_view stem : stems) {
      const std::string_view rest = std::string_view(name).substr(std::min(stem.size(), name.size()));
      const bool fits = name.starts_with(stem) && rest.size() > 1 && rest.substr(1).starts_with("idx") &&
                        (rest.ends_with("-ubyte") || rest.ends_with("-ubyte.gz"));
      if (fits) found.push_back(entry.path());
    }
  }
  if (found.empty()) {
    throw FileError({folder.string(), "the folder lacks a file",
                     fmt::format("{}-idx{}-ubyte or the same with .gz", *stems.begin(), usual_rank), "no such file",
                     ""});
  }
  return *std::ranges::min_element(found);  // the plain file sorts before its .gz
}

void check_normalization(const ImageSetOptions& options, std::int64_t channels) {
  const auto fits = [&](const std::vector<float>& values) {
    return values.size() == 1 || values.size() == static_cast<std::size_t>(channels);
  };
  if (!fits(options.mean) || !fits(options.stddev)) {
    throw ValueError(
        {"ImageSetOptions", "another number of values than channels", fmt::format("1 or {} of each", channels),
         fmt::format("{} means and {} standard deviations", options.mean.size(), options.stddev.size()), ""});
  }
  for (const float value : options.stddev) {
    if (!(value > 0)) {
      throw ValueError(
          {"ImageSetOptions", "a standard deviation is not accepted", "more than 0", fmt::format("{}", value), ""});
    }
  }
}

std::vector<std::array<float, 256>> tables(const ImageSetOptions& options, std::int64_t channels) {
  check_normalization(options, channels);
  const auto at = [](const std::vector<float>& values, std::size_t c) { return values[values.size() == 1 ? 0 : c]; };
  std::vector<std::array<float, 256>> result(std::max(options.mean.size(), options.stddev.size()));
  for (std::size_t c = 0; c < result.size(); ++c) {
    for (std::size_t v = 0; v < 256; ++v) {
      result[c][v] = (static_cast<float>(v) / 255.0F - at(options.mean, c)) / at(options.stddev, c);
    }
  }
  return result;
}

template <class T>
void widen(const HostArray& labels, std::int64_t* out) {
  for (const T value : labels.values<T>()) *out++ = value;
}

Tensor labels_of(const HostArray& labels, const std::string& where) {
  if (labels.shape.size() != 1) {
    throw_format_error(where, 3, "wrong rank for labels", "1 axis", fmt::format("shape {}", shape_text(labels.shape)));
  }
  Tensor out = empty({labels.shape[0]}, DType::I64);
  auto* to = reinterpret_cast<std::int64_t*>(mutable_data(out));
  switch (labels.dtype) {
    case DType::U8:
      widen<std::uint8_t>(labels, to);
      break;
    case DType::I8:
      widen<std::int8_t>(labels, to);
      break;
    case DType::I16:
      widen<std::int16_t>(labels, to);
      break;
    case DType::I32:
      widen<std::int32_t>(labels, to);
      break;
    default:
      throw_format_error(where, 2, "wrong element type for labels", "integers", std::string(name(labels.dtype)));
  }
  return out;
}

// [n, h, w] gets an axis for its one channel.
void check_images(HostArray& images, const std::string& where) {
  if (images.dtype != DType::U8) {
    throw_format_error(where, 2, "wrong element type for images", "u8", std::string(name(images.dtype)));
  }
  if (images.shape.size() != 3 && images.shape.size() != 4) {
    throw_format_error(where, 3, "wrong rank for images", "[n, height, width] or [n, channels, height, width]",
                       fmt::format("shape {}", shape_text(images.shape)),
                       images.shape.size() == 1 ? "are these the labels?" : "");
  }
  if (images.shape.size() == 3) images.shape.insert(images.shape.begin() + 1, 1);
}

}  // namespace

Dataset idx_images(const fs::path& images_path, const fs::path& labels_path, const ImageSetOptions& options) {
  HostArray images = read_idx(images_path);
  check_images(images, images_path.string());
  const HostArray labels = read_idx(labels_path);
  Tensor label = labels_of(labels, labels_path.string());
  if (labels.shape[0] != images.shape[0]) {
    throw FormatError({labels_path.string(), "another number of labels than images",
                       fmt::format("{} labels for {}", images.shape[0], images_path.string()),
                       fmt::format("{} labels", labels.shape[0]), "take both files from the same set"});
  }
  auto lookup = tables(options, images.shape[1]);
  if (options.flatten) {
    images.shape = {images.shape[0], images.shape[1] * images.shape[2] * images.shape[3]};
  }
  std::vector<ArraySource::Column> columns;
  columns.push_back({"input", to_tensor(std::move(images)), std::move(lookup)});
  columns.push_back({"label", std::move(label), {}});
  return Dataset(std::make_shared<ArraySource>(std::move(columns)));
}

Dataset idx_images(const fs::path& folder, Split split, const ImageSetOptions& options) {
  const bool train = split == Split::Train;
  const auto images =
      train ? find_file(folder, {"train-images"}, 3) : find_file(folder, {"t10k-images", "test-images"}, 3);
  const auto labels =
      train ? find_file(folder, {"train-labels"}, 1) : find_file(folder, {"t10k-labels", "test-labels"}, 1);
  return idx_images(images, labels, options);
}

std::int64_t class_count(const Dataset& dataset, std::string_view label) {
  std::int64_t largest = -1;
  for (const std::int64_t value : dataset.column(label).to_vector<std::int64_t>()) {
    if (value < 0) {
      throw ValueError({"class_count", "a label is negative", "classes numbered from 0", std::to_string(value), ""});
    }
    largest = std::max(largest, value);
  }
  return largest + 1;
}

}  // namespace tenon::data
