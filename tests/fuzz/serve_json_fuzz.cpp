// Bodies of both REST interfaces, as clients may send them. The first byte chooses the reader.
#include <string>
#include <string_view>

#include "tenon/serve/base64.h"
#include "tenon/serve/http.h"
#include "tenon/serve/json_reader.h"
#include "tenon/serve/text_proto.h"
#include "tenon/serve/tfs_json.h"
#include "tenon/serve/v2_json.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace tenon;
using namespace tenon::serve;

class FuzzModel final : public Model {
 public:
  explicit FuzzModel(std::vector<TensorSpec> inputs) { inputs_ = std::move(inputs); }
  std::vector<Value> run(std::vector<Value> inputs) const override { return inputs; }
};

const FuzzModel& one() {
  static const FuzzModel model({{"x", {DType::F32}, true, {-1, 2}}});
  return model;
}
const FuzzModel& many() {
  static const FuzzModel model(
      {{"x", {DType::I64}, false, {}}, {"s", kStrings, false, {}}, {"b", {DType::Bool}, false, {}}});
  return model;
}

void read(char kind, std::string_view body) {
  switch (kind) {
    case 'p':
    case 'q': {
      const auto parsed = parse_predict(body, kind == 'p' ? static_cast<const Model&>(one()) : many());
      for (const auto& v : parsed.inputs) {
        const auto* tensor = std::get_if<Tensor>(&v.value);
        if (tensor) fuzz::require(tensor->size() == numel(tensor->shape()));
      }
      if (!parsed.inputs.empty()) (void)predict_answer(parsed.inputs, false);
      return;
    }
    case 'e':
      (void)inputs_of(one(), parse_examples(body).examples);
      return;
    case 'v':
      (void)parse_v2(body, {}, nullptr, one);
      return;
    case 'b':  // the first 40 bytes are JSON, the rest is binary
      (void)parse_v2(body, std::min<size_t>(body.size(), 40), nullptr, one);
      return;
    case 'r':
      (void)parse_v2(body, 0, nullptr, one);
      return;
    case 't':
      (void)parse_model_config(body, "input");
      return;
    case 'c':
      (void)traffic_from_json(body);
      return;
    case 'h':
      fuzz::require(TraceIds(1).begin(body).traceparent().size() == 55);
      return;
    case 'z':
      (void)decoded_body(std::string(body), "gzip", 1 << 20);
      return;
    default: {
      JsonReader json(body);
      json.skip_value();
      fuzz::require(json.offset() <= body.size());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return tenon::fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    read(static_cast<char>(bytes[0]), {reinterpret_cast<const char*>(bytes.data()) + 1, bytes.size() - 1});
  });
}
