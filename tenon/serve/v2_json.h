// The bodies of the Open Inference Protocol's REST API (v2), with the binary tensor extension.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/serve/core.h"
#include "tenon/serve/http.h"

namespace tenon::serve {

struct V2Output {
  std::string name;
  bool binary = false;
};
struct V2Request {
  std::string id;
  std::vector<NamedValue> inputs;
  std::vector<V2Output> outputs;  // empty: all
  bool binary_output = false;     // of outputs that say nothing
  int priority = 0;
  std::chrono::nanoseconds timeout{0};
  std::map<std::string, std::string, std::less<>> texts{};  // parameters that are texts or whole numbers
};

// `header_length`: how much of the body is JSON, none for all; 0: the body is the only input's raw tensor. Tensors of
// binary data point into the body, which `owner` keeps. `model` is asked only for a raw body. Errors: RequestError
// INVALID_ARGUMENT.
V2Request parse_v2(std::string_view body, std::optional<size_t> header_length, std::shared_ptr<const void> owner,
                   const std::function<const Model&()>& model);

// RequestError INVALID_ARGUMENT for a parameter whose meaning changes the answer and which is not had here: Triton's
// sequence_id and, of an output, classification (its clients' class_count). `value`: "" and "0" ask for nothing.
void refuse_unsupported(std::string_view parameter, std::string_view value);

// What Triton's parameter priority means here (InferRequest::priority): 1 goes first, then 2, and so on; 0 and requests
// without one are the last.
int priority_of(int64_t parameter);

// The answers to those who share memory with Triton. RequestError UNIMPLEMENTED; INVALID_ARGUMENT.
[[noreturn]] void no_shared_memory();
[[noreturn]] void no_region(std::string_view name);

// The tensors of a body's "inputs" or "outputs", all as JSON. RequestError INVALID_ARGUMENT.
std::vector<NamedValue> parse_v2_values(std::string_view body, std::string_view list);

// The answer, its headers included; tensors are not copied.
HttpResponse v2_answer(const V2Request& request, const InferResponse& response);

// Raw bytes of the protocol: little-endian elements; texts each with a 4-byte length. RequestError if they do not fit.
Value from_raw(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, ElementType type,
               std::span<const int64_t> dims, std::string_view input);
// The texts of a tensor with their lengths.
std::string raw_strings(const Strings& strings);
// A value's raw bytes; a tensor's are not copied.
Chunk raw_chunk(const Value& value);

std::string v2_model_metadata(const Model& model, const std::string& name, const std::vector<int64_t>& versions);
// What a configuration tells of a version beside its tensors, by REST and gRPC: the model's own texts, its labels, how
// it runs, why it is not batched, its traffic (which may be null).
std::map<std::string, std::string> config_parameters(const Lane& lane, const std::vector<LabelStatus>& labels,
                                                     const TrafficPtr& traffic);
// Its max_batch_size: as Triton means it, 0 if dims have all axes. Else they leave out the first, which is the batch's.
int64_t config_batch_size(const Lane& lane);
std::string v2_model_config(const Lane& lane, const std::vector<LabelStatus>& labels, const TrafficPtr& traffic);
std::string v2_statistics(const std::vector<LanePtr>& lanes);
// "READY", "LOADING", …: the repository index's word.
std::string_view v2_state(VersionState state);
std::string v2_index(const std::vector<IndexEntry>& entries, bool only_ready);
std::string v2_error(std::string_view message);

}  // namespace tenon::serve
