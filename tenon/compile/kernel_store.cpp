#include "tenon/compile/kernel_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <system_error>

namespace tenon::compiler {
namespace {

namespace fs = std::filesystem;

// A file: this line, the key, the sum of the bytes, and the bytes.
constexpr std::string_view kMagic = "tenon kernel 1\n";
constexpr std::string_view kEnding = ".kernel";
constexpr size_t kHeader = kMagic.size() + 2 * sizeof(Hash128);

Hash128 sum_of(std::span<const std::byte> bytes) {
  Hasher h(1);
  h.bytes(bytes);
  return h.finish();
}

std::string default_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/')
    return std::string(cache) + "/tenon/kernels";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return std::string(home) + "/.cache/tenon/kernels";
  return {};
}

// A write beyond the limit of file sizes (ulimit -f) is an error like any other, not the end of the process.
class NoSizeSignal {
 public:
  NoSizeSignal() {
    sigemptyset(&one_);
    sigaddset(&one_, SIGXFSZ);
    ::pthread_sigmask(SIG_BLOCK, &one_, &before_);
  }
  ~NoSizeSignal() {
    if (sigismember(&before_, SIGXFSZ) == 1) return;
    const timespec now{};
    while (::sigtimedwait(&one_, nullptr, &now) < 0 && errno == EINTR) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSizeSignal(const NoSizeSignal&) = delete;
  NoSizeSignal& operator=(const NoSizeSignal&) = delete;

 private:
  sigset_t one_{}, before_{};
};

class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  // Also when signals interrupt. False: errno says why, or the file is shorter.
  bool read(std::span<std::byte> to) const {
    while (!to.empty()) {
      const ssize_t n = ::read(fd_, to.data(), to.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      to = to.subspan(static_cast<size_t>(n));
    }
    return true;
  }
  bool write(std::span<const std::byte> from) const {
    while (!from.empty()) {
      const ssize_t n = ::write(fd_, from.data(), from.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      from = from.subspan(static_cast<size_t>(n));
    }
    return true;
  }
  // Also the errors that a file system reports only now.
  bool close() {
    const int result = ::close(fd_);
    fd_ = -1;
    return result == 0;
  }
  [[nodiscard]] int64_t size() const {
    struct stat s{};
    return ::fstat(fd_, &s) == 0 && S_ISREG(s.st_mode) ? static_cast<int64_t>(s.st_size) : -1;
  }
  // Used now: for the order in which files go.
  void touch() const { ::futimens(fd_, nullptr); }

 private:
  int fd_;
};

// What a file takes on the disk.
int64_t in_blocks(int64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

std::mt19937_64& random_words() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return random;
}

std::string reason(int error) { return std::generic_category().message(error); }

}  // namespace

KernelStore::KernelStore(const DiskCache& options) : most_bytes_(options.most_bytes) {
  if (!options.on) return;
  folder_ = options.folder.empty() ? default_folder() : options.folder;
}

Hash128 KernelStore::key_of(const std::string& code) {
  Hasher h;
  h.text(kMagic);
  h.text(TENON_CODE_VERSION);
  h.text(code);
  return h.finish();
}

void KernelStore::warn(const std::string& what) {
  const std::lock_guard lock(mutex_);
  ++warnings_[what];
}

std::map<std::string, int64_t> KernelStore::warnings() const {
  const std::lock_guard lock(mutex_);
  return warnings_;
}

std::string KernelStore::path_of(const Hash128& key) const {
  return folder_ + "/" + to_string(key) + std::string(kEnding);
}

std::optional<std::vector<std::byte>> KernelStore::load(const Hash128& key) {
  if (!on()) return std::nullopt;
  const std::string path = path_of(key);
  const File file(path, O_RDONLY);
  if (!file.is_open()) {
    if (errno != ENOENT) warn(fmt::format("kernel cache: cannot read in {}: {}", folder_, reason(errno)));
    return std::nullopt;
  }
  const auto damaged = [&](const char* what) {
    ::unlink(path.c_str());
    warn(fmt::format("kernel cache: a file in {} {}", folder_, what));
    return std::nullopt;
  };
  const int64_t size = file.size();
  if (size < 0 || size > (int64_t{1} << 28)) return damaged("is no kernel");
  std::vector<std::byte> all(static_cast<size_t>(size));
  if (all.size() < kHeader || !file.read(all)) return damaged("is too short");
  if (std::memcmp(all.data(), kMagic.data(), kMagic.size()) != 0) return damaged("was written by another version");
  Hash128 stored_key, sum;
  std::memcpy(&stored_key, all.data() + kMagic.size(), sizeof stored_key);
  std::memcpy(&sum, all.data() + kMagic.size() + sizeof stored_key, sizeof sum);
  all.erase(all.begin(), all.begin() + kHeader);
  if (stored_key != key || sum != sum_of(all)) return damaged("is damaged");
  file.touch();
  return all;
}

void KernelStore::save(const Hash128& key, std::span<const std::byte> bytes) {
  if (!on()) return;
  std::error_code error;
  if (!fs::is_directory(folder_, error)) {
    fs::create_directories(folder_, error);
    if (!error) fs::permissions(folder_, fs::perms::owner_all, error);
    if (error) return warn(fmt::format("kernel cache: cannot make {}: {}", folder_, error.message()));
  }
  const std::string draft = fmt::format("{}/{}-{:016x}.draft", folder_, ::getpid(), random_words()());
  const auto failed = [&] {
    const int why = errno;
    ::unlink(draft.c_str());
    warn(fmt::format("kernel cache: cannot write in {}: {}", folder_, reason(why)));
  };
  File file(draft, O_WRONLY | O_CREAT | O_EXCL);
  if (!file.is_open()) return failed();
  const NoSizeSignal no_signal;
  const Hash128 sum = sum_of(bytes);
  const bool written = file.write(std::as_bytes(std::span(kMagic))) && file.write(std::as_bytes(std::span(&key, 1))) &&
                       file.write(std::as_bytes(std::span(&sum, 1))) && file.write(bytes) && file.close();
  if (!written || ::rename(draft.c_str(), path_of(key).c_str()) != 0) return failed();
  written_ += in_blocks(static_cast<int64_t>(kHeader + bytes.size()));
}

void KernelStore::trim_now_and_then() {
  const double often =
      16.0 * static_cast<double>(written_.exchange(0)) / static_cast<double>(std::max<int64_t>(most_bytes_, 1));
  if (std::uniform_real_distribution<double>()(random_words()) < often) trim();
}

void KernelStore::trim() {
  if (!on()) return;
  struct Entry {
    fs::file_time_type used;
    int64_t bytes;
    fs::path path;
  };
  std::vector<Entry> entries;
  int64_t sum = 0;
  std::error_code error;
  const auto now = fs::file_time_type::clock::now();
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    const auto used = it->last_write_time(gone);
    const auto bytes = in_blocks(static_cast<int64_t>(it->file_size(gone)));
    if (gone) continue;
    if (it->path().extension() == ".draft") {  // of a process that was killed
      if (now - used > std::chrono::hours(1)) fs::remove(it->path(), gone);
      continue;
    }
    if (it->path().extension() != kEnding) continue;
    sum += bytes;
    entries.push_back({used, bytes, it->path()});
  }
  if (sum <= most_bytes_) return;
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (sum <= most_bytes_ / 4 * 3) return;
    std::error_code gone;
    fs::remove(entry.path, gone);
    sum -= entry.bytes;
  }
}

}  // namespace tenon::compiler
