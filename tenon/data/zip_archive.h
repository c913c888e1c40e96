// ZipArchive: the members of a ZIP file in memory, read with the checks that foreign archives need.
//
// Stored and deflated members, ZIP64 too. A member that claims more than deflate can expand to, or more than
// limits.max_bytes, is refused before it is unpacked; each member's checksum is verified.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/data/host_array.h"

namespace tenon::data {

// True for bytes that open as a ZIP file does.
bool is_zip(std::span<const std::byte> bytes);

class ZipArchive {
 public:
  // The bytes must outlive the archive. `expected` says in errors what should have come ("an NPZ file").
  // Errors: FormatError.
  ZipArchive(std::span<const std::byte> bytes, std::string_view where, std::string_view expected = "a ZIP file");
  // Reads from the disk as it goes: no more than the members that are asked for is ever in memory. Also FileError.
  explicit ZipArchive(const std::filesystem::path& path, std::string_view expected = "a ZIP file");
  ~ZipArchive();
  ZipArchive(const ZipArchive&) = delete;
  ZipArchive& operator=(const ZipArchive&) = delete;

  struct Member {
    std::uint64_t index = 0;
    std::string name;
    std::size_t size = 0;
  };
  [[nodiscard]] std::uint64_t count() const;
  // Errors: FormatError, UnsupportedError (encrypted, another compression).
  [[nodiscard]] Member inspect(std::uint64_t index, const ReadLimits& limits = {}) const;
  // The member of this name, if there is one.
  [[nodiscard]] std::optional<Member> find(const std::string& name, const ReadLimits& limits = {}) const;
  // Its content. Errors: FormatError for a damaged member.
  [[nodiscard]] std::vector<std::byte> read(const Member& member) const;
  // The same into memory of exactly its size.
  void read(const Member& member, std::span<std::byte> into) const;

  // The same piece by piece, in order. finish() checks that the member ends there, and its checksum.
  class Stream {
   public:
    ~Stream();
    Stream(Stream&&) noexcept;
    void read(std::span<std::byte> into);
    void finish();

   private:
    friend class ZipArchive;
    struct State;
    explicit Stream(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };
  [[nodiscard]] Stream open(const Member& member) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string where_;
};

}  // namespace tenon::data
