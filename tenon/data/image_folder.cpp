#include "tenon/data/image_folder.h"

#include <algorithm>
#include <cctype>

#include "tenon/base/error.h"
#include "tenon/data/to_tensor.h"

namespace tenon::data {
namespace {

namespace fs = std::filesystem;

struct File {
  std::string path;
  std::int64_t label;
};

class FolderSource final : public Source {
 public:
  FolderSource(std::vector<File> files, const ImageOptions& options) : files_(std::move(files)), options_(options) {}
  [[nodiscard]] std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
  [[nodiscard]] Example get(std::int64_t index, const Draw& /*draw*/) const override {
    const File& file = files_[static_cast<std::size_t>(index)];
    return {{"input", to_tensor(channels_first(read_image(file.path, options_)))},
            {"label", from_vector(std::vector<std::int64_t>{file.label}, {})}};
  }

 private:
  std::vector<File> files_;
  ImageOptions options_;
};

bool is_image(const fs::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg";
}

// Sorted, so that numbers do not depend on the file system.
template <class Keep>
std::vector<fs::path> entries(const fs::path& folder, Keep&& keep) {
  std::vector<fs::path> result;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(folder, code)) {
    if (keep(entry)) result.push_back(entry.path());
  }
  if (code) throw FileError({folder.string(), "cannot list the folder: " + code.message(), "", "", ""});
  std::ranges::sort(result);
  return result;
}

}  // namespace

HostArray channels_first(const HostArray& image) {
  const auto pixels = static_cast<std::size_t>(image.shape[0] * image.shape[1]);
  const auto channels = static_cast<std::size_t>(image.shape[2]);
  HostArray result{
      image.dtype, {image.shape[2], image.shape[0], image.shape[1]}, std::vector<std::byte>(image.bytes.size())};
  for (std::size_t i = 0; i < pixels; ++i) {
    for (std::size_t c = 0; c < channels; ++c) result.bytes[c * pixels + i] = image.bytes[i * channels + c];
  }
  return result;
}

ImageFolder image_folder(const fs::path& folder, const ImageOptions& options) {
  std::vector<File> files;
  std::vector<std::string> classes;
  for (const fs::path& sub : entries(folder, [](const fs::directory_entry& e) { return e.is_directory(); })) {
    for (const fs::path& path : entries(sub, [](const fs::directory_entry& e) { return is_image(e.path()); })) {
      files.push_back({path.string(), static_cast<std::int64_t>(classes.size())});
    }
    classes.push_back(sub.filename().string());
  }
  if (files.empty()) {
    throw FileError({folder.string(), "the folder has no images",
                     "sub-folders with .png, .jpg or .jpeg files, one for each class", "none", ""});
  }
  return {Dataset(std::make_shared<FolderSource>(std::move(files), options)), std::move(classes)};
}

}  // namespace tenon::data
