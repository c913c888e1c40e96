#include "tenon/data/zip_archive.h"

#include <fmt/format.h>
#include <zip.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/gzip.h"

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
using OpenMember = std::unique_ptr<zip_file_t, MemberClose>;
using Source = std::unique_ptr<zip_source_t, SourceClose>;

std::string error_text(zip_error_t* error) {
  std::string text = zip_error_strerror(error);
  zip_error_fini(error);
  return text;
}

Archive open_archive(std::span<const std::byte> bytes, std::string_view where, const std::string& expected) {
  if (bytes.empty()) {  // libzip takes this for an archive without members
    throw_format_error(where, 0, "not a ZIP archive", expected, "an empty file");
  }
  zip_error_t error;
  zip_error_init(&error);
  Source source(zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error));
  Archive archive(source ? zip_open_from_source(source.get(), ZIP_RDONLY | ZIP_CHECKCONS, &error) : nullptr);
  if (!archive) {
    throw_format_error(where, 0, "not a readable ZIP archive", expected, error_text(&error),
                       "copy or download the file again");
  }
  (void)source.release();  // the archive owns it now
  zip_error_fini(&error);
  return archive;
}

}  // namespace

struct ZipArchive::Impl {
  Archive archive;
};

// What libzip says of a member, checked before a byte of it is unpacked.
ZipArchive::Member ZipArchive::inspect(std::uint64_t index, const ReadLimits& limits) const {
  zip_t* archive = impl_->archive.get();
  const std::string& where = where_;
  zip_stat_t status;
  zip_stat_init(&status);
  constexpr zip_uint64_t kNeeded = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
  if (zip_stat_index(archive, index, 0, &status) != 0 || (status.valid & kNeeded) != kNeeded) {
    throw FormatError(
        {std::string(where), fmt::format("member {} of the archive has no readable entry", index), "", "", ""});
  }
  Member member{index, status.name, static_cast<std::size_t>(status.size)};
  const std::string place = fmt::format("{}:{}", where, member.name);
  if ((status.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && status.encryption_method != ZIP_EM_NONE) {
    throw UnsupportedError({place, "the member is encrypted", "a member without a password", "", "unpack it first"});
  }
  if (status.comp_method != ZIP_CM_STORE && status.comp_method != ZIP_CM_DEFLATE) {
    throw UnsupportedError({place, "unknown compression", "stored or deflated",
                            fmt::format("method {}", status.comp_method), "pack it again with a common tool"});
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

void ZipArchive::read(const Member& info, std::span<std::byte> content) const {
  zip_t* archive = impl_->archive.get();
  const std::string place = fmt::format("{}:{}", where_, info.name);
  if (content.size() != info.size) throw InternalError("a ZIP member is read into memory of another size");
  const OpenMember member(zip_fopen_index(archive, info.index, 0));
  if (!member) {
    throw FormatError({place, "the member cannot be opened", "", zip_error_strerror(zip_get_error(archive)), ""});
  }
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
}

bool is_zip(std::span<const std::byte> bytes) {
  constexpr std::byte kMagic[] = {std::byte{'P'}, std::byte{'K'}, std::byte{3}, std::byte{4}};
  return bytes.size() >= 4 && std::equal(std::begin(kMagic), std::end(kMagic), bytes.begin());
}

ZipArchive::ZipArchive(std::span<const std::byte> bytes, std::string_view where, std::string_view expected)
    : impl_(new Impl{open_archive(bytes, where, std::string(expected))}), where_(where) {}
ZipArchive::~ZipArchive() = default;

std::uint64_t ZipArchive::count() const {
  return static_cast<std::uint64_t>(zip_get_num_entries(impl_->archive.get(), 0));
}

std::optional<ZipArchive::Member> ZipArchive::find(const std::string& name, const ReadLimits& limits) const {
  const zip_int64_t index = zip_name_locate(impl_->archive.get(), name.c_str(), 0);
  if (index < 0) return std::nullopt;
  return inspect(static_cast<std::uint64_t>(index), limits);
}

std::vector<std::byte> ZipArchive::read(const Member& member) const {
  std::vector<std::byte> content(member.size);
  read(member, content);
  return content;
}

}  // namespace tenon::data
