// NPZ: a ZIP archive of NPY files. zip_archive.h reads the container; libzip writes it.
#include <fmt/format.h>
#include <zip.h>

#include <memory>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/data/zip_archive.h"

namespace tenon::data {
namespace {

struct ArchiveClose {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct SourceClose {
  void operator()(zip_source_t* source) const { zip_source_free(source); }
};
using Archive = std::unique_ptr<zip_t, ArchiveClose>;
using Source = std::unique_ptr<zip_source_t, SourceClose>;

std::string error_text(zip_error_t* error) {
  std::string text = zip_error_strerror(error);
  zip_error_fini(error);
  return text;
}

[[noreturn]] void throw_write_error(zip_t* archive) {
  throw InternalError(fmt::format("libzip cannot write: {}", zip_error_strerror(zip_get_error(archive))));
}

constexpr std::string_view kExpected = "an NPZ file as np.savez writes it";

NamedArrays read_members(const ZipArchive& archive, std::string_view where, const ReadLimits& limits) {
  NamedArrays arrays;
  std::int64_t total = 0;
  for (std::uint64_t index = 0; index < archive.count(); ++index) {
    const ZipArchive::Member member = archive.inspect(index, limits);
    const std::string place = fmt::format("{}:{}", where, member.name);
    total += static_cast<std::int64_t>(member.size);
    if (total > limits.max_bytes) {
      throw FormatError({place, "the archive's arrays together are too large",
                         fmt::format("at most {} bytes", limits.max_bytes), fmt::format("{} bytes so far", total),
                         "raise ReadLimits::max_bytes"});
    }
    if (!member.name.ends_with(".npy")) {
      throw FormatError({std::string(where), "the archive holds something that is not an array",
                         "members named NAME.npy", member.name, "np.savez(path, NAME=array)"});
    }
    ZipArchive::Stream stream = archive.open(member);
    HostArray array = read_npy(member.size, [&](std::span<std::byte> into) { stream.read(into); }, place, limits);
    stream.finish();
    const std::string name = member.name.substr(0, member.name.size() - 4);
    if (!arrays.emplace(name, std::move(array)).second) {
      throw FormatError({std::string(where), "two members have the same name", "names that differ", name, ""});
    }
  }
  return arrays;
}

}  // namespace

NamedArrays read_npz(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits) {
  return read_members(ZipArchive(bytes, where, kExpected), where, limits);
}

NamedArrays read_npz(const std::filesystem::path& path, const ReadLimits& limits) {
  return read_members(ZipArchive(path, kExpected), path.string(), limits);
}

std::vector<std::byte> encode_npz(const NamedArrays& arrays, bool compress) {
  zip_error_t error;
  zip_error_init(&error);
  Source target(zip_source_buffer_create(nullptr, 0, 0, &error));
  Archive archive(target ? zip_open_from_source(target.get(), ZIP_TRUNCATE, &error) : nullptr);
  if (!archive) throw InternalError(fmt::format("libzip does not start: {}", error_text(&error)));
  zip_error_fini(&error);
  zip_source_keep(target.get());  // one reference for the archive, one for reading the result back

  std::vector<std::vector<std::byte>> members;  // libzip reads them when it closes
  for (const auto& [name, array] : arrays) {
    members.push_back(encode_npy(array));
    Source source(zip_source_buffer(archive.get(), members.back().data(), members.back().size(), 0));
    if (!source) throw_write_error(archive.get());
    const zip_int64_t index = zip_file_add(archive.get(), (name + ".npy").c_str(), source.get(), ZIP_FL_ENC_UTF_8);
    if (index < 0) throw_write_error(archive.get());
    (void)source.release();
    const auto member = static_cast<zip_uint64_t>(index);
    // A fixed date (1980-01-01, as np.savez writes): the same arrays give the same bytes.
    if (zip_file_set_dostime(archive.get(), member, 0, 0x21, 0) != 0 ||
        zip_set_file_compression(archive.get(), member, compress ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0) != 0) {
      throw_write_error(archive.get());
    }
  }
  if (arrays.empty()) {  // libzip writes nothing for an archive without members; this is the empty archive
    constexpr std::string_view kEnd("PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
    const auto bytes = std::as_bytes(std::span(kEnd.data(), kEnd.size()));
    return {bytes.begin(), bytes.end()};
  }
  if (zip_close(archive.get()) != 0) throw_write_error(archive.get());
  (void)archive.release();
  zip_stat_t status;
  if (zip_source_stat(target.get(), &status) != 0 || zip_source_open(target.get()) != 0) {
    throw InternalError("libzip cannot read back what it wrote");
  }
  std::vector<std::byte> out(static_cast<std::size_t>(status.size));
  const zip_int64_t got = zip_source_read(target.get(), out.data(), out.size());
  zip_source_close(target.get());
  if (got != static_cast<zip_int64_t>(out.size())) throw InternalError("libzip reads back less than it wrote");
  return out;
}

void write_npz(const std::filesystem::path& path, const NamedArrays& arrays, bool compress) {
  write_file_atomic(path, encode_npz(arrays, compress));
}

}  // namespace tenon::data
