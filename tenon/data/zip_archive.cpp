#include "tenon/data/zip_archive.h"

#include <fmt/format.h>
#include <zip.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
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

[[noreturn]] void fail_to_open(std::string_view where, const std::string& expected, zip_error_t& error) {
  throw_format_error(where, 0, "not a readable ZIP archive", expected, error_text(&error),
                     "copy or download the file again");
}

Archive open_source(Source source, std::string_view where, const std::string& expected, zip_error_t& error) {
  Archive archive(source ? zip_open_from_source(source.get(), ZIP_RDONLY | ZIP_CHECKCONS, &error) : nullptr);
  if (!archive) fail_to_open(where, expected, error);
  (void)source.release();  // the archive owns it now
  zip_error_fini(&error);
  return archive;
}

Archive open_archive(std::span<const std::byte> bytes, std::string_view where, const std::string& expected) {
  if (bytes.empty()) {  // libzip takes this for an archive without members
    throw_format_error(where, 0, "not a ZIP archive", expected, "an empty file");
  }
  zip_error_t error;
  zip_error_init(&error);
  return open_source(Source(zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error)), where, expected, error);
}

Archive open_archive(const std::filesystem::path& path, const std::string& expected) {
  const MappedFile file(path);  // says what is wrong with the file; maps, but reads nothing
  if (file.bytes().empty()) throw_format_error(file.path(), 0, "not a ZIP archive", expected, "an empty file");
  zip_error_t error;
  zip_error_init(&error);
  return open_source(Source(zip_source_file_create(file.path().c_str(), 0, -1, &error)), file.path(), expected, error);
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

struct ZipArchive::Stream::State {
  zip_t* archive;
  OpenMember member;
  std::string place;
  std::size_t size = 0, used = 0;

  // Up to `into.size()` bytes; 0 at the end.
  std::size_t some(std::span<std::byte> into) {
    const zip_int64_t count = zip_fread(member.get(), into.data(), into.size());
    if (count >= 0) return static_cast<std::size_t>(count);
    throw FormatError({place, fmt::format("the member is damaged after byte {}", used), fmt::format("{} bytes", size),
                       zip_error_strerror(zip_file_get_error(member.get())), "copy or download the file again"});
  }
  [[noreturn]] void wrong_length(std::string got) const {
    throw FormatError({place, fmt::format("the member's length is not what the archive says at byte {} of it", used),
                       fmt::format("{} bytes", size), std::move(got), ""});
  }
};

ZipArchive::Stream::Stream(std::unique_ptr<State> state) : state_(std::move(state)) {}
ZipArchive::Stream::~Stream() = default;
ZipArchive::Stream::Stream(Stream&&) noexcept = default;

void ZipArchive::Stream::read(std::span<std::byte> into) {
  while (!into.empty()) {
    const std::size_t count = state_->some(into);
    if (count == 0) state_->wrong_length(fmt::format("{} bytes", state_->used));
    state_->used += count;
    into = into.subspan(count);
  }
}

void ZipArchive::Stream::finish() {
  std::byte extra{};
  // One byte more than promised is asked for: so the end, and with it the checksum, is reached.
  if (state_->some({&extra, 1}) != 0) state_->wrong_length("more");
  if (state_->used != state_->size) state_->wrong_length(fmt::format("{} bytes", state_->used));
}

ZipArchive::Stream ZipArchive::open(const Member& info) const {
  auto state = std::make_unique<Stream::State>(
      Stream::State{impl_->archive.get(), nullptr, fmt::format("{}:{}", where_, info.name), info.size});
  state->member.reset(zip_fopen_index(state->archive, info.index, 0));
  if (!state->member) {
    throw FormatError(
        {state->place, "the member cannot be opened", "", zip_error_strerror(zip_get_error(state->archive)), ""});
  }
  return Stream(std::move(state));
}

void ZipArchive::read(const Member& info, std::span<std::byte> content) const {
  if (content.size() != info.size) throw InternalError("a ZIP member is read into memory of another size");
  Stream stream = open(info);
  stream.read(content);
  stream.finish();
}

bool is_zip(std::span<const std::byte> bytes) {
  constexpr std::byte kMagic[] = {std::byte{'P'}, std::byte{'K'}, std::byte{3}, std::byte{4}};
  return bytes.size() >= 4 && std::equal(std::begin(kMagic), std::end(kMagic), bytes.begin());
}

ZipArchive::ZipArchive(std::span<const std::byte> bytes, std::string_view where, std::string_view expected)
    : impl_(new Impl{open_archive(bytes, where, std::string(expected))}), where_(where) {}
ZipArchive::ZipArchive(const std::filesystem::path& path, std::string_view expected)
    : impl_(new Impl{open_archive(path, std::string(expected))}), where_(path.string()) {}
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
