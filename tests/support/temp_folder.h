// A scratch folder of this test process: tests run side by side, so a fixed name under /tmp would be shared.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace tenon::testing_support {

// The same folder for the whole process, without a trailing slash; removed when the process ends.
inline const std::string& temp_folder() {
  struct Folder {
    std::string path = (std::filesystem::temp_directory_path() / "tenon-test-XXXXXX").string();
    Folder() {
      if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot make " + path);
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
  };
  static const Folder folder;
  return folder.path;
}

}  // namespace tenon::testing_support
