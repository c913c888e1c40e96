// What the tests of this folder share.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/host_array.h"
#include "tests/support/error_text.h"

namespace tenon::data::testing {

using testing_support::error_text;

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(TENON_SOURCE_DIR) / "tests" / "data" / "goldens" / name;
}
inline std::filesystem::path shared(const std::string& name) { return std::filesystem::path(TENON_SHARED_DATA) / name; }

inline std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {bytes.begin(), bytes.end()};
}

template <class T>
HostArray array_of(std::vector<T> values, std::vector<std::int64_t> shape) {
  HostArray array{dtype_of<T>, std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))};
  if (!values.empty()) std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}

template <class T>
std::vector<T> values_of(const HostArray& array) {
  const auto values = array.values<T>();
  return {values.begin(), values.end()};
}

// A folder that is gone after the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tenon-data-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace tenon::data::testing
