// AppendFile: a file that only grows, one whole record at a time.
//
// Every append is one write to a file opened with O_APPEND, so a reader (TensorBoard, tail -f) or a
// crash never sees half a record, except when the disk is full, which throws FileError.
#pragma once

#include <string>
#include <string_view>

namespace tenon::train {

class AppendFile {
 public:
  // Opens or creates the file. Throws FileError.
  explicit AppendFile(std::string path);
  ~AppendFile();
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&& other) noexcept;
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  void append(std::string_view record);
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace tenon::train
