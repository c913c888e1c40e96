// NPZ: a ZIP archive of NPY files. libzip does the container; the checks against bombs are here.
#include <fmt/format.h>
#include <zip.h>

#include <cstring>
#include <memory>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/gzip.h"
#include "tenon/data/npy.h"

namespace tenon::data {
namespace {

struct ArchiveClose {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct MemberClose {
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};
struct SourceClose {
  void operator()(zip_source_t* source) const { zip_source_free(source); }
};
using Archive = std::unique_ptr<zip_t, ArchiveClose>;
using Member = std::unique_ptr<zip_file_t, MemberClose>;
using Source = std::unique_ptr<zip_source_t, SourceClose>;

std::string error_text(zip_error_t* error) {
  std::string text = zip_error_strerror(error);
  zip_error_fini(error);
  return text;
}

[[noreturn]] void throw_write_error(zip_t* archive) {
  throw InternalError(fmt::format("libzip cannot write: {}", zip_error_strerror(zip_get_error(archive))));
}

Archive open_archive(std::span<const std::byte> bytes, std::string_view where) {
  if (bytes.empty()) {  // libzip takes this for an archive without members
    throw_format_error(where, 0, "not a ZIP archive", "an NPZ file as np.savez writes it", "an empty file");
  }
  zip_error_t error;
  zip_error_init(&error);
  Source source(zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error));
  Archive archive(source ? zip_open_from_source(source.get(), ZIP_RDONLY | ZIP_CHECKCONS, &error) : nullptr);
  if (!archive) {
    throw_format_error(where, 0, "not a readable ZIP archive", "an NPZ file as np.savez writes it", error_text(&error),
                       "copy or download the file again");
  }
  (void)source.release();  // the archive owns it now
  zip_error_fini(&error);
  return archive;
}

// What libzip says of a member, checked before a byte of it is unpacked.
struct MemberInfo {
  std::string name;
  std::size_t size;
};

MemberInfo inspect(zip_t* archive, zip_uint64_t index, std::string_view where, const ReadLimits& limits) {
  zip_stat_t status;
  zip_stat_init(&status);
  constexpr zip_uint64_t kNeeded = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
  if (zip_stat_index(archive, index, 0, &status) != 0 || (status.valid & kNeeded) != kNeeded) {
    throw FormatError(
        {std::string(where), fmt::format("member {} of the archive has no readable entry", index), "", "", ""});
  }
  MemberInfo member{status.name, static_cast<std::size_t>(status.size)};
  const std::string place = fmt::format("{}:{}", where, member.name);
  if ((status.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && status.encryption_method != ZIP_EM_NONE) {
    throw UnsupportedError({place, "the member is encrypted", "a member without a password", "", "unpack it first"});
  }
  if (status.comp_method != ZIP_CM_STORE && status.comp_method != ZIP_CM_DEFLATE) {
    throw UnsupportedError({place, "unknown compression", "stored or deflated",
                            fmt::format("method {}", status.comp_method),
                            "np.savez_compressed(path, …) writes deflated members"});
  }
  // The archive's numbers are only claims. Deflate has a largest ratio, and that bounds what can be true.
  const auto ratio = status.comp_method == ZIP_CM_STORE ? 1 : static_cast<zip_uint64_t>(kMaxDeflateRatio);
  if (status.size / ratio > status.comp_size + 1) {
    throw FormatError({place, "the member claims more bytes than its compressed data can hold",
                       fmt::format("at most {} bytes", (status.comp_size + 1) * ratio),
                       fmt::format("{} bytes", status.size), ""});
  }
  constexpr std::int64_t kHeaderRoom = 1 << 17;  // on top of the elements
  if (status.size > static_cast<zip_uint64_t>(limits.max_bytes + kHeaderRoom)) {
    throw FormatError({place, "the member is too large", fmt::format("at most {} bytes", limits.max_bytes),
                       fmt::format("{} bytes", status.size), "raise ReadLimits::max_bytes"});
  }
  return member;
}

std::vector<std::byte> unpack(zip_t* archive, zip_uint64_t index, const MemberInfo& info, const std::string& place) {
  const Member member(zip_fopen_index(archive, index, 0));
  if (!member) {
    throw FormatError({place, "the member cannot be opened", "", zip_error_strerror(zip_get_error(archive)), ""});
  }
  std::vector<std::byte> content(info.size);
  std::size_t used = 0;
  // One byte more than promised is asked for: so the end, and with it the checksum, is reached.
  while (true) {
    std::byte extra{};
    std::byte* to = used < content.size() ? content.data() + used : &extra;
    const std::size_t room = used < content.size() ? content.size() - used : 1;
    const zip_int64_t count = zip_fread(member.get(), to, room);
    if (count < 0) {
      throw FormatError({place, fmt::format("the member is damaged after byte {}", used),
                         fmt::format("{} bytes", info.size), zip_error_strerror(zip_file_get_error(member.get())),
                         "copy or download the file again"});
    }
    if (count == 0) break;
    used += static_cast<std::size_t>(count);
    if (used > content.size()) break;
  }
  if (used != content.size()) {
    throw FormatError({place, "the member's length is not what the archive says", fmt::format("{} bytes", info.size),
                       used > content.size() ? std::string("more") : fmt::format("{} bytes", used), ""});
  }
  return content;
}

}  // namespace

NamedArrays read_npz(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits) {
  const Archive archive = open_archive(bytes, where);
  NamedArrays arrays;
  std::int64_t total = 0;
  const auto count = static_cast<zip_uint64_t>(zip_get_num_entries(archive.get(), 0));
  for (zip_uint64_t index = 0; index < count; ++index) {
    MemberInfo member = inspect(archive.get(), index, where, limits);
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
    HostArray array = read_npy(unpack(archive.get(), index, member, place), place, limits);
    const std::string name = member.name.substr(0, member.name.size() - 4);
    if (!arrays.emplace(name, std::move(array)).second) {
      throw FormatError({std::string(where), "two members have the same name", "names that differ", name, ""});
    }
  }
  return arrays;
}

NamedArrays read_npz(const std::filesystem::path& path, const ReadLimits& limits) {
  const MappedFile file(path);
  return read_npz(file.bytes(), file.path(), limits);
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
