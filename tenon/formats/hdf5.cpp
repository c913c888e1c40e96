#include "tenon/formats/hdf5.h"

#include <fmt/format.h>
#include <hdf5.h>

#include <cstring>
#include <mutex>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/tensor/buffer.h"

namespace tenon::formats {
namespace {

constexpr std::size_t kLargestText = std::size_t{1} << 28;

// An HDF5 handle and how it is closed.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }  // NOLINT(google-explicit-constructor): what the C functions take
  [[nodiscard]] bool valid() const { return id_ >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// libhdf5 prints its errors unless it is told not to; here they become exceptions.
class Silence {
 public:
  Silence() {
    H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  ~Silence() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  H5E_auto2_t function_ = nullptr;
  void* data_ = nullptr;
};

struct Walk {
  Hdf5 file;
  std::string where;
  std::size_t file_size = 0;
  std::string problem;  // what went wrong; exceptions must not pass through C
};

[[noreturn]] void fail(const Walk& walk, std::string problem) {
  throw FormatError({.where = walk.where, .problem = std::move(problem), .expected = "an HDF5 file"});
}

void read_data_set(Walk& walk, hid_t object, const std::string& path) {
  const Handle set(H5Dopen2(object, ".", H5P_DEFAULT), H5Dclose);
  const Handle type(set.valid() ? H5Dget_type(set) : -1, H5Tclose);
  const Handle space(set.valid() ? H5Dget_space(set) : -1, H5Sclose);
  if (!type.valid() || !space.valid()) fail(walk, fmt::format("the data set '{}' cannot be read", path));
  const H5T_class_t kind = H5Tget_class(type);
  if (kind != H5T_FLOAT && kind != H5T_INTEGER) return;  // texts and compounds are not weights
  const DType dtype = kind == H5T_INTEGER ? DType::I64 : H5Tget_size(type) > 4 ? DType::F64 : DType::F32;
  const hid_t memory = dtype == DType::I64   ? H5T_NATIVE_INT64
                       : dtype == DType::F64 ? H5T_NATIVE_DOUBLE
                                             : H5T_NATIVE_FLOAT;
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank < 0 || rank > 32) fail(walk, fmt::format("the data set '{}' has no plain shape", path));
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  Shape shape;
  double count = 1;
  for (const hsize_t extent : extents) {
    count *= static_cast<double>(extent);
    shape.push_back(static_cast<std::int64_t>(extent));
  }
  // Compressed data may grow, but not without bound.
  if (count > 1100.0 * static_cast<double>(walk.file_size) + 64)
    fail(walk, fmt::format("the data set '{}' claims more elements than the file can hold", path));
  Ref<Buffer> buffer = Buffer::allocate(static_cast<std::size_t>(byte_size(dtype, static_cast<std::int64_t>(count))));
  if (H5Dread(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer->data()) < 0)
    fail(walk, fmt::format("the data set '{}' is damaged", path));
  walk.file.tensors.set(path, from_buffer(std::move(buffer), TensorType{dtype, shape}));
}

// Texts of fixed or variable length, one or a list of them.
void read_attribute(Walk& walk, hid_t object, const std::string& path, const char* name) {
  const Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose);
  const Handle type(attribute.valid() ? H5Aget_type(attribute) : -1, H5Tclose);
  const Handle space(attribute.valid() ? H5Aget_space(attribute) : -1, H5Sclose);
  if (!type.valid() || !space.valid()) fail(walk, fmt::format("the attribute '{}@{}' cannot be read", path, name));
  if (H5Tget_class(type) != H5T_STRING) return;
  const hssize_t count = H5Sget_simple_extent_npoints(space);
  if (count < 0 || static_cast<std::size_t>(count) > walk.file_size)
    fail(walk, fmt::format("the attribute '{}@{}' is too long", path, name));
  std::vector<std::string> texts;
  if (H5Tis_variable_str(type) > 0) {
    const Handle memory(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(memory, H5T_VARIABLE);
    H5Tset_cset(memory, H5Tget_cset(type));
    std::vector<char*> pointers(static_cast<std::size_t>(count), nullptr);
    if (count > 0 && H5Aread(attribute, memory, pointers.data()) < 0)
      fail(walk, fmt::format("the attribute '{}@{}' is damaged", path, name));
    for (const char* text : pointers) texts.emplace_back(text == nullptr ? "" : text);
    if (count > 0) H5Dvlen_reclaim(memory, space, H5P_DEFAULT, pointers.data());
  } else {
    const std::size_t size = H5Tget_size(type);
    if (size > kLargestText || size * static_cast<std::size_t>(count) > kLargestText)
      fail(walk, fmt::format("the attribute '{}@{}' is too long", path, name));
    std::string all(size * static_cast<std::size_t>(count), '\0');
    if (!all.empty() && H5Aread(attribute, type, all.data()) < 0)
      fail(walk, fmt::format("the attribute '{}@{}' is damaged", path, name));
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
      texts.emplace_back(all.c_str() + i * size, strnlen(all.c_str() + i * size, size));
  }
  walk.file.attributes[fmt::format("{}@{}", path, name)] = std::move(texts);
}

struct AttributeWalk {
  Walk* walk;
  std::string path;
};

herr_t visit_attribute(hid_t object, const char* name, const H5A_info_t*, void* data) {
  auto* at = static_cast<AttributeWalk*>(data);
  try {
    read_attribute(*at->walk, object, at->path, name);
    return 0;
  } catch (const std::exception& error) {
    at->walk->problem = error.what();
    return -1;
  }
}

herr_t visit_object(hid_t root, const char* name, const H5O_info_t* info, void* data) {
  auto* walk = static_cast<Walk*>(data);
  try {
    const std::string path = std::strcmp(name, ".") == 0 ? "" : name;
    const Handle object(H5Oopen(root, name, H5P_DEFAULT), H5Oclose);
    if (!object.valid()) fail(*walk, fmt::format("'{}' cannot be opened", name));
    if (info->type == H5O_TYPE_DATASET) read_data_set(*walk, object, path);
    AttributeWalk attributes{walk, path};
    hsize_t index = 0;
    if (H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &index, visit_attribute, &attributes) < 0) return -1;
    return 0;
  } catch (const std::exception& error) {
    walk->problem = error.what();
    return -1;
  }
}

}  // namespace

Hdf5 read_hdf5(std::span<const std::byte> bytes, std::string_view where) {
  // The common builds of libhdf5 have state of their own and no lock: one thread at a time.
  static std::mutex one_at_a_time;
  const std::scoped_lock lock(one_at_a_time);
  const Silence silence;
  Walk walk;
  walk.where = where;
  walk.file_size = bytes.size();
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (H5Pset_fapl_core(access, 1 << 16, 0) < 0 || bytes.empty() ||
      H5Pset_file_image(access, const_cast<std::byte*>(bytes.data()), bytes.size()) < 0)
    fail(walk, "the file cannot be read");
  const Handle file(H5Fopen("memory", H5F_ACC_RDONLY, access), H5Fclose);
  if (!file.valid()) fail(walk, "not an HDF5 file, or a damaged one");
  if (H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, visit_object, &walk, H5O_INFO_BASIC) < 0)
    fail(walk, walk.problem.empty() ? "the file is damaged" : walk.problem);
  return std::move(walk.file);
}

Hdf5 load_hdf5(const std::filesystem::path& path) {
  const MappedFile file(path);
  return read_hdf5(file.bytes(), file.path());
}

}  // namespace tenon::formats
