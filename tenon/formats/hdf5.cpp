#include "tenon/formats/hdf5.h"

#include <fmt/format.h>

#include <set>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/formats/hdf5/attributes.h"
#include "tenon/formats/hdf5/data_set.h"
#include "tenon/formats/hdf5/links.h"

namespace tenon::formats {
namespace {

constexpr int kDeepest = 128;

// Each object is visited once, so links that go round end.
class Walk {
 public:
  Walk(hdf5::File& file, Hdf5& out) : file_(file), heap_(file), out_(out) {}

  void visit(std::uint64_t address, const std::string& path, int depth) {
    if (!seen_.insert(address).second) return;
    if (depth > kDeepest) file_.fail(address, "groups are nested too deeply", fmt::format("at most {}", kDeepest));
    file_.work(path.size() + 64, address);
    const hdf5::ObjectHeader header = hdf5::read_object_header(file_, address);
    if (std::optional<Tensor> tensor = hdf5::read_data_set(file_, header, path))
      out_.tensors.set(path, std::move(*tensor));
    hdf5::read_text_attributes(file_, heap_, header, [&](std::string_view name, std::vector<std::string> texts) {
      out_.attributes[fmt::format("{}@{}", path, name)] = std::move(texts);
    });
    for (const hdf5::Link& link : hdf5::read_links(file_, header))
      visit(link.address, path.empty() ? link.name : fmt::format("{}/{}", path, link.name), depth + 1);
  }

 private:
  hdf5::File& file_;
  hdf5::GlobalHeap heap_;
  Hdf5& out_;
  std::set<std::uint64_t> seen_;
};

}  // namespace

Hdf5 read_hdf5(std::span<const std::byte> bytes, std::string_view where, const std::shared_ptr<const void>& owner,
               const Hdf5Options& options) {
  hdf5::File file(bytes, where, owner, options);
  Hdf5 out;
  const std::uint64_t root = file.open();
  Walk(file, out).visit(root, "", 0);
  return out;
}

Hdf5 load_hdf5(const std::filesystem::path& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  return read_hdf5(file->bytes(), file->path(), file, {.mapped = true});
}

}  // namespace tenon::formats
