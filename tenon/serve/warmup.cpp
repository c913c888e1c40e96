#include "tenon/serve/warmup.h"

#include <algorithm>
#include <cstring>

#include "tenon/base/file.h"
#include "tenon/base/tfrecord.h"
#include "tenon/serve/status.h"
#include "tenon/serve/tfs_wire.h"

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

// A PredictionLog: of its kinds of requests, predict_log (6) {request 1}, classify_log (2) and regress_log (3).
void replay(const Model& model, std::span<const std::byte> record) {
  WireReader in(record);
  while (in.next()) {
    const int kind = in.field();
    if (kind != 6 && kind != 2 && kind != 3) {
      in.skip();
      continue;
    }
    WireReader log = in.sub();
    while (log.next()) {
      if (log.field() != 1) {
        log.skip();
        continue;
      }
      WireReader request = log.sub();
      if (kind == 6) {
        (void)model.run(ordered_inputs(model, read_predict(request, nullptr).inputs));
        continue;
      }
      while (request.next()) {
        if (request.field() == 2)
          (void)model.run(ordered_inputs(model, inputs_of(model, read_examples(request.sub()))));
        else
          request.skip();
      }
    }
  }
}

void warm_with_zeros(const Lane& lane) {
  const Model& model = lane.model();
  const BatchingOptions& batching = lane.options().batching;
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

}  // namespace

int64_t warm_up(const LanePtr& lane, const std::filesystem::path& version, int iterations) {
  warm_with_zeros(*lane);
  const std::filesystem::path path = version / "assets.extra" / "tf_serving_warmup_requests";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return 0;
  // Read whole: tensors are left in place, and a mapped file's would have no owner.
  const std::vector<std::byte> file = read_file(path);
  const auto records = read_tfrecords(file, path.string(), 1000);
  for (const auto& record : records) {
    for (int i = 0; i < std::max(1, iterations); ++i) replay(lane->model(), record);
  }
  return static_cast<int64_t>(records.size());
}

}  // namespace tenon::serve
