#include "tenon/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "tenon/base/error.h"

namespace tenon {
namespace {

[[noreturn]] void throw_errno(const std::string& path, std::string_view action, int code) {
  std::string hint;
  if (code == ENOENT) hint = "check the path; it is taken relative to the working directory";
  throw FileError({path, fmt::format("cannot {}: {}", action, std::generic_category().message(code)), "", "", hint});
}

// An open descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : value_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (value_ < 0) throw_errno(path, "open the file", errno);
  }
  ~Descriptor() { ::close(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return value_; }

 private:
  int value_;
};

struct stat status_of(int descriptor, const std::string& path) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) throw_errno(path, "read the file's status", errno);
  if (S_ISDIR(status.st_mode)) throw FileError({path, "cannot read", "a file", "a folder", ""});
  return status;
}

// Fills any contiguous container: the size on disk is a first guess only, since files may grow and pipes have none.
template <class Container>
Container read_all(const std::filesystem::path& path) {
  const std::string name = path.string();
  const Descriptor file(name, O_RDONLY);
  constexpr std::size_t kStep = std::size_t{1} << 16;
  Container content;
  content.resize(static_cast<std::size_t>(status_of(file.get(), name).st_size) + 1);
  std::size_t used = 0;
  while (true) {
    if (used == content.size()) content.resize(content.size() + content.size() / 2 + kStep);
    const ssize_t count = ::read(file.get(), content.data() + used, content.size() - used);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno(name, fmt::format("read at byte {}", used), errno);
    if (count == 0) break;
    used += static_cast<std::size_t>(count);
  }
  content.resize(used);
  return content;
}

// A rename is only durable once the folder's own entry is on the disk. Some file systems refuse to sync a
// folder; the rename itself has succeeded then, so that is not an error.
void sync_folder(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  (void)::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path.string()) {
  const Descriptor file(path_, O_RDONLY);
  const struct stat status = status_of(file.get(), path_);
  if (!S_ISREG(status.st_mode)) throw FileError({path_, "cannot map", "a regular file", "a pipe or device", ""});
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return;
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) throw_errno(path_, "map the file", errno);
  bytes_ = {static_cast<const std::byte*>(address), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

std::vector<std::byte> read_file(const std::filesystem::path& path) { return read_all<std::vector<std::byte>>(path); }

std::string read_text_file(const std::filesystem::path& path) { return read_all<std::string>(path); }

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path.string()) {
  if (std::error_code ignored; std::filesystem::is_directory(path, ignored)) {
    throw FileError({path_, "cannot write", "a file's name", "a folder", ""});
  }
  if (std::error_code ignored; std::filesystem::is_other(path, ignored)) {
    // A device or a pipe (/dev/null, /dev/stdout) takes the bytes as they come; a rename would put a file in its place.
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) throw_errno(path_, "open", errno);
    return;
  }
  // Beside the target, because rename does not cross file systems; O_EXCL keeps two writers apart.
  for (int attempt = 0; descriptor_ < 0; ++attempt) {
    temporary_ = fmt::format("{}.tmp-{}-{}", path_, ::getpid(), attempt);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno != EEXIST) throw_errno(path_, "create the file", errno);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (descriptor_ < 0) throw InternalError("AtomicFile::write after commit: " + path_);
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno(path_, "write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::commit() {
  if (descriptor_ < 0) throw InternalError("AtomicFile::commit twice: " + path_);
  if (temporary_.empty()) {
    ::close(std::exchange(descriptor_, -1));
    return;
  }
  if (::fsync(descriptor_) != 0 && errno != EINVAL) throw_errno(path_, "flush", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) throw_errno(path_, "rename the finished file", errno);
  // From here on the file is there under its name: only a failing close is left, and it has nothing to lose.
  ::close(std::exchange(descriptor_, -1));
  sync_folder(path_);
}

void write_file_atomic(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void write_file_atomic(const std::filesystem::path& path, std::string_view text) {
  write_file_atomic(path, std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace tenon
