// Machine code on disk, so that a later process need not make it again. One file for each code, named by its key.
//
// Nothing here throws and nothing here can change a result: a folder that cannot be written, a full disk, a file that
// is damaged, was written by another version or has gone is a miss, counted with its reason. Any number of processes
// may share a folder: a file appears whole, by renaming, and is checked by its sum when it is read. What was used least
// recently goes when there is too much.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tenon/base/hash.h"

namespace tenon {

struct DiskCache {
  bool on = true;
  std::string folder = {};                          // empty: $XDG_CACHE_HOME/tenon/kernels, else ~/.cache/tenon/kernels
  int64_t most_bytes = int64_t{256} * 1024 * 1024;  // about; each file takes whole blocks of 4096
};

namespace compiler {

class KernelStore {
 public:
  explicit KernelStore(const DiskCache& options);
  // `code`: everything that the bytes depend on, as text.
  static Hash128 key_of(const std::string& code);

  std::optional<std::vector<std::byte>> load(const Hash128& key);
  void save(const Hash128& key, std::span<const std::byte> bytes);
  // Removes what was used least recently until the folder is well below its bound.
  void trim();
  // After saving. To trim is to look at every file of the folder, which others write too and nobody counts; so it is
  // left to chance: once for each sixteenth of the bound that is written, by whichever processes.
  void trim_now_and_then();

  [[nodiscard]] bool on() const { return !folder_.empty(); }
  // What went wrong, and how often.
  [[nodiscard]] std::map<std::string, int64_t> warnings() const;

 private:
  void warn(const std::string& what);
  std::string path_of(const Hash128& key) const;

  std::string folder_;
  int64_t most_bytes_;
  mutable std::mutex mutex_;
  std::map<std::string, int64_t> warnings_;
  std::atomic<int64_t> written_ = 0;  // bytes on the disk since the last trim_now_and_then
};

}  // namespace compiler
}  // namespace tenon
