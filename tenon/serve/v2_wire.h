// The Open Inference Protocol's messages on the wire (package inference), with Triton's additions.
//
// Field numbers are those of proto/inference.proto.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tenon/serve/core.h"
#include "tenon/serve/wire.h"

namespace tenon::serve {

struct V2Message {
  ModelRef ref;
  std::string id;
  std::vector<NamedValue> inputs;
  std::vector<std::string> outputs;
  int priority = 0;
  std::chrono::nanoseconds timeout{0};
  std::map<std::string, std::string, std::less<>> texts{};  // parameters that are texts or whole numbers
};
// Tensors of raw_input_contents stay in place where they lie in one piece and are aligned. RequestError.
V2Message read_infer(WireReader in, const std::shared_ptr<const void>& owner);
WireWriter write_infer(const V2Message& message);  // what a client sends
WireWriter write_infer_answer(const InferResponse& response, const std::string& id);
// A client's view of an answer.
std::vector<NamedValue> read_infer_answer(WireReader in, const std::shared_ptr<const void>& owner);

WireWriter write_v2_metadata(const Model& model, const std::string& name, const std::vector<int64_t>& versions);
WireWriter write_v2_config(const Lane& lane, const std::vector<LabelStatus>& labels, const TrafficPtr& traffic);
WireWriter write_v2_statistics(const std::vector<LanePtr>& lanes);
WireWriter write_v2_index(const std::vector<IndexEntry>& entries, bool only_ready);

}  // namespace tenon::serve
