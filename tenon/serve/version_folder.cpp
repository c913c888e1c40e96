#include "tenon/serve/version_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/hash.h"

namespace tenon::serve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kManifest = "manifest.json";

[[noreturn]] void refused(const fs::path& path, const std::error_code& error) {
  throw FileError({path.string(), error.message(), {}, {}, {}});
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->is_regular_file(error)) out.push_back(it->path());
  }
  if (error) refused(folder, error);
  std::sort(out.begin(), out.end());
  return out;
}

std::string hash_of(const fs::path& file) {
  const MappedFile mapped(file);
  Hasher hasher;
  hasher.bytes(mapped.bytes());
  return to_string(hasher.finish());
}

void sync(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  if (fd < 0) refused(path, {errno, std::system_category()});
  const int result = ::fsync(fd);
  const int why = errno;
  ::close(fd);
  if (result != 0) refused(path, {why, std::system_category()});
}

}  // namespace

std::map<int64_t, fs::path> find_versions(const fs::path& base) {
  std::error_code error;
  if (fs::is_regular_file(base, error)) return {{1, base}};
  std::map<int64_t, fs::path> out;
  bool holds_model = false;
  for (fs::directory_iterator it(base, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    int64_t number = 0;
    const auto [stop, bad] = std::from_chars(name.data(), name.data() + name.size(), number);
    std::error_code ignored;
    if (bad == std::errc() && stop == name.data() + name.size() && number >= 0 && it->is_directory(ignored))
      out[number] = it->path();
    for (const char* kind : {".onnx", ".tenon", ".safetensors"})
      holds_model = holds_model || it->path().extension() == kind;
    holds_model = holds_model || name == "saved_model.pb";  // so that loading says what to do with it
  }
  if (error) refused(base, error);
  if (out.empty() && holds_model) out[1] = base;
  return out;
}

void check_local(const fs::path& base) {
  if (base.string().find("://") == std::string::npos) return;
  throw FileError({base.string(),
                   "only local paths are read",
                   "a file or folder of this machine",
                   {},
                   "mount the bucket, or copy the model here first"});
}

Fingerprint fingerprint(const fs::path& path) {
  Hasher hasher;
  Fingerprint out;
  const auto add = [&](const fs::path& file) {
    struct stat s{};
    if (::stat(file.c_str(), &s) != 0) return;  // gone since: the next look differs anyway
    const auto ns = [](const timespec& t) { return t.tv_sec * 1000000000 + t.tv_nsec; };
    hasher.text(file.string());
    hasher.number(static_cast<int64_t>(s.st_size));
    hasher.number(static_cast<int64_t>(ns(s.st_mtim)));
    hasher.number(static_cast<int64_t>(ns(s.st_ctim)));
    hasher.number(static_cast<int64_t>(s.st_ino));
    out.newest_ns = std::max({out.newest_ns, static_cast<int64_t>(ns(s.st_mtim)), static_cast<int64_t>(ns(s.st_ctim))});
  };
  add(path);
  std::error_code error;
  if (fs::is_directory(path, error)) {
    std::vector<fs::path> all;
    for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error))
      all.push_back(it->path());
    std::sort(all.begin(), all.end());
    for (const auto& file : all) add(file);
  }
  out.hash = hasher.finish().low;
  return out;
}

Wholeness check_manifest(const fs::path& version, std::string& why) {
  std::error_code error;
  const fs::path path = version / kManifest;
  if (!fs::exists(path, error)) return Wholeness::NoManifest;
  try {
    const Json manifest = Json::parse(read_text_file(path));
    for (const auto& [name, entry] : manifest.at("files").items()) {
      const fs::path file = version / name;
      if (!fs::exists(file, error)) {
        why = fmt::format("{} is missing", name);
        return Wholeness::Broken;
      }
      const auto size = static_cast<int64_t>(fs::file_size(file, error));
      if (size != entry.at("bytes").get<int64_t>()) {
        why = fmt::format("{} has {} bytes, the manifest says {}", name, size, entry.at("bytes").get<int64_t>());
        return Wholeness::Broken;
      }
      if (hash_of(file) != entry.at("murmur3_128").get<std::string>()) {
        why = fmt::format("the checksum of {} differs from the manifest's", name);
        return Wholeness::Broken;
      }
    }
  } catch (const Json::exception&) {
    why = "manifest.json is no manifest";
    return Wholeness::Broken;
  } catch (const FileError& problem) {
    why = problem.what();
    return Wholeness::Broken;
  }
  return Wholeness::Whole;
}

void publish_version(const fs::path& model, const fs::path& base, int64_t version) {
  const fs::path target = base / std::to_string(version);
  std::error_code error;
  if (fs::exists(target, error))
    throw ValueError({target.string(), "this version exists already", {}, {}, "publish a higher version"});
  const fs::path hidden = base / fmt::format(".publishing-{}-{}", version, ::getpid());
  fs::create_directories(hidden, error);
  if (error) refused(hidden, error);
  try {
    if (fs::is_directory(model)) {
      fs::copy(model, hidden, fs::copy_options::recursive, error);
    } else {
      fs::copy_file(model, hidden / ("model" + model.extension().string()), error);
    }
    if (error) refused(model, error);
    Json manifest;
    for (const auto& file : files_below(hidden)) {
      const std::string name = fs::relative(file, hidden).string();
      if (name == kManifest) continue;
      manifest["files"][name] = {{"bytes", fs::file_size(file)}, {"murmur3_128", hash_of(file)}};
      sync(file);
    }
    write_file_atomic(hidden / kManifest, manifest.dump(1) + "\n");
    sync(hidden);
    fs::rename(hidden, target, error);
    if (error) refused(target, error);
    sync(base);
  } catch (...) {
    fs::remove_all(hidden, error);
    throw;
  }
}

}  // namespace tenon::serve
