// What batching does to values: which requests may share a batch, putting them together, taking the answer apart.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tenon/serve/value.h"

namespace tenon::serve {

// The extent of the first axis, the same for every input. RequestError if they differ or an input has none.
int64_t batch_rows(std::span<const Value> inputs, std::span<const TensorSpec> specs);
// The smallest allowed size that holds `rows`; `rows` itself if none is asked for.
int64_t padded_rows(int64_t rows, std::span<const int64_t> allowed);
// Same types, and same shapes behind the first axis (`any_length`: same ranks).
bool same_batch(std::span<const Value> a, std::span<const Value> b, bool any_length);
// All inputs of the requests, each with `total` rows: the first row fills up what is missing. `any_length` pads with
// zeros (empty texts) to the largest extents.
std::vector<Value> joined_inputs(const std::vector<const std::vector<Value>*>& requests, int64_t total,
                                 bool any_length);
// The outputs of a batch of `total` rows, by request. RequestError (INTERNAL) if an output has other rows.
std::vector<std::vector<Value>> split_outputs(const std::vector<Value>& outputs, const std::vector<int64_t>& counts,
                                              int64_t total, std::span<const TensorSpec> specs);
// `value` in a larger shape of the same rank.
Value padded_to(const Value& value, const Shape& shape);

}  // namespace tenon::serve
