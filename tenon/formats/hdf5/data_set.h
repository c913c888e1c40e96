// A data set's elements: where they lie (in the header, in one piece, in chunks), how they are packed, and the tensor.
#pragma once

#include <optional>
#include <string>

#include "tenon/formats/hdf5/object_header.h"
#include "tenon/tensor/tensor.h"

namespace tenon::formats::hdf5 {

// Nothing for what is not a data set of numbers. `path` names it in errors. Elements that lie in one piece, in this
// machine's byte order and aligned, stay in the file's memory if the file has an owner.
std::optional<Tensor> read_data_set(File& file, const ObjectHeader& header, const std::string& path);

}  // namespace tenon::formats::hdf5
