#include "tenon/serve/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/tfrecord.h"
#include "tenon/serve/grpc_client.h"
#include "tenon/serve/http_connection.h"
#include "tenon/serve/json_reader.h"
#include "tenon/serve/load_target.h"
#include "tenon/serve/tfs_wire.h"
#include "tenon/serve/v2_json.h"

namespace tenon::serve {
namespace {

ReplayedRequest from_line(std::string_view line) {
  ReplayedRequest out;
  JsonReader json(line);
  json.begin_object();
  for (std::string key; json.next_key(key);) {
    if (key == "model") {
      json.string(out.model);
    } else if (key == "version") {
      out.version = json.integer<int64_t>();
    } else if (key == "request") {
      out.inputs = parse_v2_values(json.raw_value(), "inputs");
    } else if (key == "response") {
      out.outputs = parse_v2_values(json.raw_value(), "outputs");
      out.answered = true;
    } else {
      json.skip_value();
    }
  }
  if (out.model.empty()) throw RequestError(Code::InvalidArgument, "the line has no 'model'");
  return out;
}

// PredictionLog {log_metadata 1 {model_spec 1}, predict_log 6 {request 1, response 2}}; others have no inputs and are
// left out.
std::vector<ReplayedRequest> from_record(std::span<const std::byte> record, const std::shared_ptr<const void>& owner) {
  ReplayedRequest out;
  bool predict = false;
  WireReader in(record);
  while (in.next()) {
    if (in.field() != 6) {
      in.skip();
      continue;
    }
    predict = true;
    WireReader log = in.sub();
    while (log.next()) {
      if (log.field() == 1) {
        PredictMessage request = read_predict(log.sub(), owner);
        out.model = request.spec.ref.name;
        out.version = request.spec.ref.version.value_or(0);
        out.inputs = std::move(request.inputs);
      } else if (log.field() == 2) {
        out.outputs = read_predict_answer(log.sub(), owner);
        out.answered = true;
      } else {
        log.skip();
      }
    }
  }
  if (!predict) return {};
  return {std::move(out)};
}

struct Sender {
  const std::vector<ReplayedRequest>& requests;
  const ReplayOptions& options;
  const LoadTarget target;
  std::vector<size_t> mine{};  // those of the target's model
  std::atomic<size_t> next{0};
  std::mutex mutex{};
  ReplayResult result{};
  std::map<size_t, std::string> differences{};

  void note(size_t at, Clock::time_point intended, const std::string& error, const std::string& body) {
    const auto took = Clock::now() - intended;
    const ReplayedRequest& request = requests[at];
    std::string text;
    std::string failure = error;
    if (failure.empty() && request.answered) {
      try {
        text = difference(request.outputs, load_answer(target, body, request.outputs), options.tolerance);
      } catch (const RequestError& broken) {
        failure = fmt::format("no answer: {}", broken.what());
      }
    }
    const std::lock_guard lock(mutex);
    ++result.sent;
    if (!failure.empty()) {
      ++result.errors[failure];
      return;
    }
    result.latency.add(took);
    if (!request.answered) {
      ++result.uncompared;
    } else if (text.empty()) {
      ++result.same;
    } else {
      ++result.different;
      differences.emplace(at, fmt::format("request {}: {}", at + 1, text));
      if (differences.size() > 10) differences.erase(std::prev(differences.end()));
    }
  }

  void work(Clock::time_point start) {
    HttpConnection http = http_to(target, options.trust);
    GrpcClient rpc = grpc_to(target, options.trust);
    for (size_t i = next++; i < mine.size(); i = next++) {
      auto intended = Clock::now();
      if (options.rate > 0) {
        intended = start + std::chrono::nanoseconds(static_cast<int64_t>(static_cast<double>(i) * 1e9 / options.rate));
        std::this_thread::sleep_until(intended);
      }
      const LoadMessage message = load_message(target, requests[mine[i]].inputs, true);
      std::string error, body;
      try {
        if (target.grpc()) {
          body = rpc.call(std::string(target.rpc()), message.body, options.timeout);
        } else {
          auto answer = http.exchange(message.head, message.body, options.timeout);
          if (answer.status != 200) error = std::to_string(answer.status);
          body = std::move(answer.body);
        }
      } catch (const RequestError& failed) {
        error = name(failed.status_code);
      } catch (const FileError&) {
        error = "connection";
      }
      note(mine[i], intended, error, body);
    }
  }
};

}  // namespace

std::vector<ReplayedRequest> read_request_log(const std::filesystem::path& path) {
  std::vector<ReplayedRequest> out;
  const auto owner = std::make_shared<const std::vector<std::byte>>(read_file(path.string()));
  const std::span<const std::byte> bytes(*owner);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const bool lines = text.empty() || text.front() == '{';
  size_t number = 0;
  try {
    if (!lines) {
      for (const auto& record : read_tfrecords(bytes, path.string())) {
        ++number;
        for (auto& one : from_record(record, owner)) out.push_back(std::move(one));
      }
      return out;
    }
    for (size_t at = 0; at < text.size();) {
      ++number;
      const size_t end = std::min(text.find('\n', at), text.size());
      if (end > at) out.push_back(from_line(text.substr(at, end - at)));
      at = end + 1;
    }
  } catch (const RequestError& error) {
    throw FormatError(
        {path.string(), fmt::format("{} {}: {}", lines ? "line" : "record", number, error.what()), {}, {}, {}});
  }
  return out;
}

ReplayResult run_replay(const std::vector<ReplayedRequest>& requests, const ReplayOptions& options) {
  Sender sender{.requests = requests, .options = options, .target = parse_load_url(options.url)};
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].model == sender.target.model)
      sender.mine.push_back(i);
    else
      ++sender.result.skipped;
  }
  if (sender.target.tls) (void)ClientTls(options.trust);  // what is wrong with it is told here, not in a thread
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < std::max(1, options.connections); ++i) threads.emplace_back([&] { sender.work(start); });
  for (auto& thread : threads) thread.join();
  sender.result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  for (auto& [at, text] : sender.differences) sender.result.differences.push_back(std::move(text));
  return std::move(sender.result);
}

}  // namespace tenon::serve
