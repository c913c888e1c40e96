// Files: read whole, mapped, or written so that a reader sees the old bytes or the new ones.
//
//   std::vector<std::byte> all = read_file("a.bin");
//   MappedFile weights("model.safetensors");          // weights.bytes() is valid as long as the object
//   write_file_atomic("config.json", text);           // temporary file beside it, fsync, rename
//   AtomicFile out("big.bin"); out.write(part); out.commit();   // the same, piece by piece
//
// Every refusal of the system is a FileError that names the path and the system's reason. A path that
// is a folder is refused too. Without commit() an AtomicFile removes its temporary file and leaves no trace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

// The bytes of a file, mapped read-only. An empty file has an empty span.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

// The whole file. Also reads pipes and devices, which cannot be mapped.
[[nodiscard]] std::vector<std::byte> read_file(const std::filesystem::path& path);
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path);

// A file that appears under its name only with commit(). A device or a pipe gets its bytes at once.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  // Flushes to the disk and renames. Nothing may be written afterwards.
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
};

void write_file_atomic(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_file_atomic(const std::filesystem::path& path, std::string_view text);

}  // namespace tenon
