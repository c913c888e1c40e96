// Warm-up: what a version runs before it becomes available, so that no client meets a cold model.
#pragma once

#include <filesystem>

#include "tenon/serve/scheduler.h"

namespace tenon::serve {

// Runs zeros through the model once for every allowed batch size (1 without batching), where all other extents are
// known. Recorded requests (TensorFlow Serving's assets.extra/tf_serving_warmup_requests, a TFRecord file of
// PredictionLog) run too, at most 1000, each `iterations` times; their number is returned. Errors: those of a recorded
// request; a version that cannot answer what was recorded does not become available.
int64_t warm_up(const LanePtr& lane, const std::filesystem::path& version, int iterations = 1);

}  // namespace tenon::serve
