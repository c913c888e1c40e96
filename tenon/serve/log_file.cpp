#include "tenon/serve/log_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "tenon/base/error.h"

namespace tenon::serve {
namespace fs = std::filesystem;
namespace {

Counter& counted(Metrics& metrics, const std::string& log, const char* result) {
  return metrics.counter("tenon_log_records_total",
                         "Records of a log on disk: written, dropped because too many waited, failed to be written.",
                         {{"log", log}, {"result", result}});
}

fs::path folder_of(const fs::path& prefix) { return prefix.has_parent_path() ? prefix.parent_path() : fs::path("."); }

// The number in PREFIX.NUMBER.EXTENSION; 0 for another name.
int number_of(const fs::path& file, const LogFileOptions& o) {
  const std::string name = file.filename().string(), head = o.prefix.filename().string() + ".";
  if (!name.starts_with(head) || !name.ends_with(o.extension) || name.size() <= head.size() + o.extension.size())
    return 0;
  const char* begin = name.data() + head.size();
  const char* end = name.data() + name.size() - o.extension.size();
  int number = 0;
  const auto [stop, error] = std::from_chars(begin, end, number);
  return error == std::errc() && stop == end ? number : 0;
}

fs::path numbered(const LogFileOptions& o, int number) {
  return fmt::format("{}.{:06}{}", o.prefix.string(), number, o.extension);
}

}  // namespace

LogFile::LogFile(LogFileOptions options, const std::string& name, Metrics& metrics, LogSink log)
    : options_(std::move(options)),
      name_(name),
      log_(std::move(log)),
      held_(metrics.hold({{"log", name}}, "log " + name)),
      written_(counted(metrics, name, "written")),
      dropped_(counted(metrics, name, "dropped")),
      failed_(counted(metrics, name, "failed")),
      switched_off_(metrics.gauge("tenon_log_off", "1 if a log on disk is off because it could not be written.",
                                  {{"log", name}})) {
  std::error_code error;
  const fs::path folder = folder_of(options_.prefix);
  fs::create_directories(folder, error);
  if (!fs::is_directory(folder, error))
    throw FileError({folder.string(), "the folder of the log cannot be made", {}, error.message(), {}});
  for (const auto& entry : fs::directory_iterator(folder))
    number_ = std::max(number_, number_of(entry.path(), options_));
  thread_ = std::thread([this] { work(); });
}

LogFile::~LogFile() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  close();
}

bool LogFile::push(std::function<std::string()> make, int64_t bytes) {
  if (off()) {
    failed_.add();
    return false;
  }
  {
    const std::lock_guard lock(mutex_);
    // One record alone may be larger than the queue.
    if (!queue_.empty() && queued_bytes_ + bytes > options_.max_queued_bytes) {
      dropped_.add();
      return false;
    }
    queue_.push_back({std::move(make), bytes});
    queued_bytes_ += bytes;
    ++pushed_;
  }
  changed_.notify_one();
  return true;
}

void LogFile::flush() {
  std::unique_lock lock(mutex_);
  const uint64_t until = pushed_;
  done_.wait(lock, [&] { return finished_ >= until; });
}

fs::path LogFile::path() const {
  const std::lock_guard lock(mutex_);
  return path_;
}

void LogFile::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Record record = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    if (off()) {
      failed_.add();
    } else {
      try {
        write(record.make());
      } catch (const std::exception& error) {  // a record that cannot be said
        failed_.add();
        if (log_) log_("warning", "log_record_failed", {{"log", name_}, {"error", error.what()}});
      }
    }
    record.make = nullptr;  // frees the tensors before the place in the queue
    lock.lock();
    queued_bytes_ -= record.bytes;
    ++finished_;
    done_.notify_all();
  }
}

void LogFile::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

bool LogFile::open_next() {
  close();
  fs::path path;
  for (int tries = 0; tries < 100 && fd_ < 0; ++tries) {
    path = numbered(options_, ++number_);
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd_ < 0 && errno != EEXIST) break;
  }
  if (fd_ < 0) {
    switch_off(fmt::format("{} cannot be opened: {}", path.string(), std::strerror(errno)));
    return false;
  }
  size_ = 0;
  std::error_code ignored;
  if (options_.max_files > 0 && number_ > options_.max_files)
    fs::remove(numbered(options_, number_ - options_.max_files), ignored);
  const std::lock_guard lock(mutex_);
  path_ = path;
  return true;
}

void LogFile::write(const std::string& record) {
  const auto n = static_cast<int64_t>(record.size());
  if ((fd_ < 0 || (size_ > 0 && size_ + n > options_.max_file_bytes)) && !open_next()) return failed_.add();
  size_t at = 0;
  while (at < record.size()) {
    const auto did = ::write(fd_, record.data() + at, record.size() - at);
    if (did < 0 && errno == EINTR) continue;
    if (did <= 0) {
      const std::string why = std::strerror(errno);
      failed_.add();
      // What is there of the record goes again: a reader finds whole records only.
      const bool mended = at == 0 || ::ftruncate(fd_, size_) == 0;
      switch_off(why + (mended ? "" : "; the last record is cut off"));
      return close();
    }
    at += static_cast<size_t>(did);
  }
  size_ += n;
  written_.add();
}

void LogFile::switch_off(const std::string& why) {
  off_.store(true, std::memory_order_release);
  switched_off_.set(1);
  if (log_) log_("warning", "log_switched_off", {{"log", name_}, {"error", why}});
}

}  // namespace tenon::serve
