// Between what readers return and what everything else uses.
#pragma once

#include "tenon/data/host_array.h"
#include "tenon/tensor/tensor.h"

namespace tenon::data {

// Takes the bytes over: nothing is copied.
Tensor to_tensor(HostArray&& array);
// Copies the elements, row-major. Errors: ValueError for a tensor without elements (undefined or traced).
HostArray to_host(const Tensor& tensor);

// The tensor itself if it is concrete, row-major and starts at a whole byte, otherwise a copy that is.
// A weak number becomes an ordinary 0-d tensor. `where` names the caller in a ValueError.
Tensor materialized(std::string_view where, const Tensor& tensor);

}  // namespace tenon::data
