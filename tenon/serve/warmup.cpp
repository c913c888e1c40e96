#include "tenon/serve/warmup.h"

#include <algorithm>
#include <cstring>

#include "tenon/serve/status.h"

namespace tenon::serve {
namespace {

std::vector<Value> zeros(const Model& model, int64_t rows, bool& known) {
  std::vector<Value> out;
  for (const auto& spec : model.inputs()) {
    Shape shape;
    for (size_t i = 0; i < spec.dims.size(); ++i) {
      known = known && (spec.dims[i] >= 0 || i == 0);
      shape.push_back(spec.dims[i] >= 0 ? spec.dims[i] : rows);
    }
    known = known && spec.has_rank;
    if (!known) return {};
    if (spec.type.strings()) {
      out.emplace_back(Strings{shape, std::vector<std::string>(static_cast<size_t>(numel(shape)))});
      continue;
    }
    Tensor x = empty(shape, *spec.type.dtype);
    if (x.size() > 0) std::memset(mutable_data(x), 0, static_cast<size_t>(byte_size(x.dtype(), x.size())));
    out.emplace_back(std::move(x));
  }
  return out;
}

}  // namespace

void warm_up(const LanePtr& lane, const std::filesystem::path&) {
  const Model& model = lane->model();
  const BatchingOptions& batching = lane->options().batching;
  std::vector<int64_t> sizes{1};
  if (batching.enabled) {
    sizes = batching.allowed_sizes;
    if (sizes.empty()) sizes = {1, batching.max_batch_size};
  }
  for (int64_t rows : sizes) {
    bool known = true;
    auto inputs = zeros(model, rows, known);
    if (!known) return;
    try {
      (void)model.run(std::move(inputs));
    } catch (const Error&) {
      return;  // a model may refuse zeros (an index, a shape); that says nothing about real requests
    }
  }
}

}  // namespace tenon::serve
