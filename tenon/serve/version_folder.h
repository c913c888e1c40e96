// Versions on the disk: which there are, whether one is whole, and how to publish one.
//
// A version is whole if its manifest.json agrees with its files (publish_version writes one), or, without a manifest,
// if nothing in it has changed for a while. So a version that is still being copied is never loaded.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace tenon::serve {

// BASE/N for every N that is a number; BASE itself as version 1 if it is a file or holds a model.
// Errors: FileError if the folder cannot be read.
std::map<int64_t, std::filesystem::path> find_versions(const std::filesystem::path& base);

// FileError for what is no path of this machine's: "s3://bucket/model".
void check_local(const std::filesystem::path& base);

// Changes whenever a file below `path` is added, removed, replaced or written.
struct Fingerprint {
  uint64_t hash = 0;
  int64_t newest_ns = 0;  // the latest change of a file or folder, since the Unix epoch
  bool operator==(const Fingerprint&) const = default;
};
Fingerprint fingerprint(const std::filesystem::path& path);

enum class Wholeness : uint8_t { NoManifest, Whole, Broken };
// Compares the files with manifest.json; `why` says what does not agree.
Wholeness check_manifest(const std::filesystem::path& version, std::string& why);

// Copies a model (a file, or a folder) to BASE/VERSION with a manifest, in a hidden folder that is renamed at the end:
// a server sees all of it or nothing. Errors: FileError; ValueError if the version exists already.
void publish_version(const std::filesystem::path& model, const std::filesystem::path& base, int64_t version);

}  // namespace tenon::serve
