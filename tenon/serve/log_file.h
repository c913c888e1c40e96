// A log on disk that never holds up whoever writes to it: records wait in a bounded queue for a thread that writes
// them.
//
// Files are PREFIX.000001EXTENSION and so on; a new one is begun when a record would make it too large, and at each
// start, so nothing is ever written behind a record that was cut off. A record is written whole or taken back. When the
// disk is full (any error of writing) the log is off from then on: one warning, and what comes is counted as failed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "tenon/serve/log_sink.h"

namespace tenon::serve {

struct LogFileOptions {
  std::filesystem::path prefix{};
  std::string extension = ".jsonl";
  int64_t max_file_bytes = int64_t{64} << 20;
  int max_files = 16;  // the oldest go; 0: all stay
  int64_t max_queued_bytes = int64_t{16} << 20;
  bool operator==(const LogFileOptions&) const = default;
};

class LogFile {
 public:
  // `name` is what the metrics call it: tenon_log_records_total{log, result="written" | "dropped" | "failed"}
  // and tenon_log_off{log}.
  // FileError if the prefix's folder cannot be made.
  LogFile(LogFileOptions options, const std::string& name, Metrics& metrics, LogSink log);
  ~LogFile();  // writes what waits
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // `make` gives the record's bytes, on the writer's thread; it holds about so many until then. False if it was
  // dropped.
  bool push(std::function<std::string()> make, int64_t bytes);
  // Waits until what was pushed before is written (or has failed).
  void flush();
  [[nodiscard]] bool off() const { return off_.load(std::memory_order_acquire); }
  // Where the last record went.
  [[nodiscard]] std::filesystem::path path() const;

 private:
  struct Record {
    std::function<std::string()> make;
    int64_t bytes;
  };
  void work();
  void write(const std::string& record);
  bool open_next();
  void close();
  void switch_off(const std::string& why);

  LogFileOptions options_;
  std::string name_;
  LogSink log_;
  std::shared_ptr<void> held_;  // the cells below
  Counter& written_;
  Counter& dropped_;
  Counter& failed_;
  Gauge& switched_off_;
  std::atomic<bool> off_{false};
  int fd_ = -1;       // the writer's
  int64_t size_ = 0;  // likewise
  int number_ = 0;    // likewise
  mutable std::mutex mutex_;
  std::condition_variable changed_, done_;
  std::deque<Record> queue_;
  int64_t queued_bytes_ = 0;
  uint64_t pushed_ = 0, finished_ = 0;
  std::filesystem::path path_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tenon::serve
