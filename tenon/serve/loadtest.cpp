#include "tenon/serve/loadtest.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tenon/base/error.h"
#include "tenon/serve/grpc_client.h"
#include "tenon/serve/http_connection.h"
#include "tenon/serve/load_target.h"
#include "tenon/serve/tensor_json.h"
#include "tenon/serve/tfs_wire.h"
#include "tenon/serve/v2_wire.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::serve {
namespace {

using Json = nlohmann::json;
using Kind = LoadTarget::Kind;

// The model's inputs, asked of the server.
std::vector<TensorSpec> inputs_of(const LoadTarget& t, const LoadOptions& o) {
  std::vector<TensorSpec> out;
  if (t.kind == Kind::V2Grpc || t.kind == Kind::TfsGrpc) {
    GrpcClient client = grpc_to(t, o.trust);
    WireWriter ask;
    ask.text(1, t.model);
    const std::string answer = client.call("/inference.GRPCInferenceService/ModelMetadata", ask.to_string(), o.timeout);
    const std::span<const std::byte> bytes = std::as_bytes(std::span(answer));
    WireReader in(bytes);
    while (in.next()) {
      if (in.field() != 4) {
        in.skip();
        continue;
      }
      TensorSpec spec;
      WireReader tensor = in.sub();
      while (tensor.next()) {
        if (tensor.field() == 1)
          spec.name = tensor.text();
        else if (tensor.field() == 2)
          spec.type = type_from_v2(tensor.text());
        else if (tensor.field() == 3)
          tensor.repeated([&](WireReader& r) { spec.dims.push_back(r.int64()); });
        else
          tensor.skip();
      }
      out.push_back(std::move(spec));
    }
    return out;
  }
  HttpConnection connection = http_to(t, o.trust);
  const std::string path = t.kind == Kind::V2Rest ? t.path : t.path + "/metadata";
  const auto answer = connection.exchange(fmt::format("GET {} HTTP/1.1\r\n", path), "", o.timeout);
  if (answer.status != 200)
    throw RequestError(Code::NotFound, fmt::format("{} answers {}: {}", path, answer.status, answer.body));
  const Json json = Json::parse(answer.body, nullptr, false);
  if (json.is_discarded()) throw RequestError(Code::Internal, fmt::format("{} answers no JSON", path));
  try {
    if (t.kind == Kind::V2Rest) {
      for (const auto& input : json.at("inputs"))
        out.push_back(
            {input.at("name"), type_from_v2(input.at("datatype").get<std::string>()), true, input.at("shape")});
      return out;
    }
    const Json signature = json.at("metadata").at("signature_def").at("signature_def").at("serving_default");
    for (const auto& [name, info] : signature.at("inputs").items()) {
      TensorSpec spec{.name = name, .type = {}, .has_rank = true, .dims = {}};
      for (int i = 1; i < 24; ++i) {
        try {
          if (tf_name(type_from_tf(i)) == info.at("dtype").get<std::string>()) spec.type = type_from_tf(i);
        } catch (const RequestError&) {
          continue;
        }
      }
      for (const auto& dim : info.at("tensor_shape").at("dim"))
        spec.dims.push_back(std::stoll(dim.at("size").get<std::string>()));
      out.push_back(std::move(spec));
    }
  } catch (const Json::exception&) {
    throw RequestError(Code::Internal, fmt::format("{} does not describe the model's inputs", path));
  }
  return out;
}

std::vector<NamedValue> random_values(const std::vector<TensorSpec>& specs, const LoadOptions& o) {
  std::mt19937_64 random(o.seed);
  std::vector<NamedValue> out;
  for (const auto& spec : specs) {
    Shape shape;
    for (size_t i = 0; i < spec.dims.size(); ++i)
      shape.push_back(spec.dims[i] >= 0 ? spec.dims[i] : i == 0 ? o.rows : o.extent);
    if (spec.type.strings()) {
      out.push_back({spec.name, Strings{shape, std::vector<std::string>(static_cast<size_t>(numel(shape)), "text")}});
      continue;
    }
    Tensor x = empty(shape, *spec.type.dtype);
    const View view = mutable_view(x);
    for (int64_t i = 0; i < x.size(); ++i) {
      if (is_float(*spec.type.dtype))
        store_real(view, i, std::uniform_real_distribution<double>(0, 1)(random));
      else
        store_integer(view, i, static_cast<int64_t>(random() % 2));
    }
    out.push_back({spec.name, std::move(x)});
  }
  return out;
}

using Time = std::chrono::steady_clock::time_point;

// The times at which requests leave.
std::vector<std::chrono::nanoseconds> arrivals(const LoadOptions& o) {
  std::mt19937_64 random(o.seed + 1);
  std::exponential_distribution<double> gap(o.rate);
  std::vector<std::chrono::nanoseconds> out;
  const double end = std::chrono::duration<double>(o.warm_up + o.duration).count();
  for (double t = gap(random); t < end; t += gap(random)) out.emplace_back(static_cast<int64_t>(t * 1e9));
  return out;
}

struct Sink {
  std::mutex mutex;
  LoadResult result;
  Time counted_from;
  int64_t rows = 1;

  void note(Time intended, const std::string& error) {
    const auto now = std::chrono::steady_clock::now();
    if (intended < counted_from) return;
    const std::lock_guard lock(mutex);
    ++result.sent;
    if (!error.empty()) {
      ++result.errors[error];
      return;
    }
    ++result.answered;
    result.rows += static_cast<uint64_t>(rows);
    result.latency.add(now - intended);
  }
};

void run_http(const LoadTarget& t, const LoadMessage& m, const LoadOptions& o, Time start, Sink& sink) {
  const auto times = arrivals(o);
  std::atomic<size_t> next{0};
  const auto work = [&] {
    HttpConnection connection = http_to(t, o.trust);
    for (size_t i = next++; i < times.size(); i = next++) {
      const Time intended = start + times[i];
      std::this_thread::sleep_until(intended);
      std::string error;
      try {
        const auto answer = connection.exchange(m.head, m.body, o.timeout);
        if (answer.status != 200) error = std::to_string(answer.status);
      } catch (const FileError&) {
        error = "connection";
      }
      sink.note(intended, error);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < std::max(1, o.connections); ++i) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
}

void run_grpc(const LoadTarget& t, const LoadMessage& m, const LoadOptions& o, Time start, Sink& sink) {
  GrpcClient client = grpc_to(t, o.trust, o.connections);
  const std::string method(t.rpc());
  for (const auto at : arrivals(o)) {
    const Time intended = start + at;
    std::this_thread::sleep_until(intended);
    client.call(method, m.body, o.timeout, [intended, &sink](const Status& status, const std::string&) {
      sink.note(intended, status.ok() ? std::string() : std::string(name(status.code)));
    });
  }
}

}  // namespace

// Below 128 µs each microsecond; above, 64 steps in each doubling.
size_t LatencyHistogram::bucket(uint64_t us) {
  if (us < 2 * kSteps) return static_cast<size_t>(us);
  const int shift = 63 - __builtin_clzll(us) - kStepBits;
  return std::min<size_t>(static_cast<size_t>(shift) * kSteps + (us >> shift), kBuckets - 1);
}

std::chrono::nanoseconds LatencyHistogram::quantile(double q) const {
  if (count_ == 0) return {};
  const auto rank = static_cast<uint64_t>(std::ceil(q * static_cast<double>(count_)));
  uint64_t below = 0;
  size_t at = 0;
  for (; at + 1 < kBuckets; ++at) {
    below += counts_[at];
    if (below >= std::max<uint64_t>(rank, 1)) break;
  }
  if (at < 2 * kSteps) return std::chrono::microseconds(at);
  const size_t shift = at / kSteps - 1;
  return std::chrono::microseconds(((at % kSteps + kSteps) << shift) + ((uint64_t{1} << shift) / 2));
}

void LatencyHistogram::add(std::chrono::nanoseconds d) {
  ++counts_[bucket(static_cast<uint64_t>(std::max<int64_t>(0, d.count() / 1000)))];
  ++count_;
  sum_ns_ += static_cast<double>(d.count());
}
void LatencyHistogram::add(const LatencyHistogram& other) {
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ns_ += other.sum_ns_;
}
std::chrono::nanoseconds LatencyHistogram::mean() const {
  return std::chrono::nanoseconds(count_ == 0 ? 0 : static_cast<int64_t>(sum_ns_ / static_cast<double>(count_)));
}

LoadResult run_load(const LoadOptions& options) {
  if (!(options.rate > 0)) throw ValueError({"loadtest", "the rate must be above 0", {}, {}, {}});
  const LoadTarget target = parse_load_url(options.url);
  const LoadMessage message = load_message(target, random_values(inputs_of(target, options), options), options.json);
  Sink sink;
  sink.rows = options.rows;
  const Time start = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  sink.counted_from = start + options.warm_up;
  if (target.kind == Kind::V2Grpc || target.kind == Kind::TfsGrpc)
    run_grpc(target, message, options, start, sink);
  else
    run_http(target, message, options, start, sink);
  sink.result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - sink.counted_from).count();
  return sink.result;
}

}  // namespace tenon::serve
