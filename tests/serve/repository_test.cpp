// Versions: which are chosen, loading, retiring, labels, half-copied folders.
#include "tenon/serve/repository.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "tenon/base/error.h"
#include "tenon/base/tfrecord.h"
#include "tenon/serve/warmup.h"
#include "tests/serve/support.h"
#include "tests/support/error_text.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using tenon::testing_support::error_text;
using testing::HasSubstr;

RepositoryOptions quick() {
  RepositoryOptions options;
  options.poll = milliseconds(20);
  options.settle = milliseconds(60);
  options.retry_interval = milliseconds(40);
  return options;
}

std::vector<int64_t> ready_numbers(const Repository& repository, const std::string& model) {
  std::vector<int64_t> out;
  for (const auto& lane : repository.ready_versions(model)) out.push_back(lane->version());
  return out;
}
void put(const fs::path& base, int64_t version, float add = 2) {
  write_file(base / std::to_string(version) / "model.onnx", affine_onnx(0.5F, add));
}

class RepositoryTest : public testing::Test {
 protected:
  Metrics metrics_;
};

TEST_F(RepositoryTest, PoliciesChooseVersions) {
  const fs::path base = fresh_folder("models");
  for (int64_t v : {1, 2, 9, 10}) put(base, v);
  write_file(base / "notes" / "model.onnx", "not a number");
  Repository repository(quick(), metrics_);
  struct Case {
    VersionPolicy policy;
    std::vector<int64_t> ready;
  };
  using Kind = VersionPolicy::Kind;
  for (const auto& [policy, ready] : std::vector<Case>{{{Kind::Latest, 1, {}}, {10}},
                                                       {{Kind::Latest, 2, {}}, {9, 10}},
                                                       {{Kind::All, 1, {}}, {1, 2, 9, 10}},
                                                       {{Kind::Specific, 1, {2, 9}}, {2, 9}},
                                                       {{Kind::Latest, 1, {}}, {10}}}) {
    repository.configure({{.name = "m", .base_path = base, .policy = policy}});
    EXPECT_TRUE(eventually([&] { return ready_numbers(repository, "m") == ready; }))
        << testing::PrintToString(ready_numbers(repository, "m"));
  }
  EXPECT_EQ(repository.resolve({"m"})->version(), 10);
  EXPECT_EQ(repository.resolve({"m", 0})->version(), 10);  // what some clients send for "any"
  EXPECT_THAT(error_text([&] { (void)repository.resolve({"m", 3}); }),
              HasSubstr("Servable not found for request: Specific(m, 3)"));
  EXPECT_THAT(error_text([&] { (void)repository.resolve({"half"}); }),
              HasSubstr("Servable not found for request: Latest(half)"));
}

TEST_F(RepositoryTest, ANewVersionReplacesTheOldOneWithoutAGap) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  Repository repository(quick(), metrics_);
  repository.configure({{.name = "m", .base_path = base}});
  ASSERT_TRUE(repository.settle(seconds(10)));
  std::atomic<bool> stop{false};
  std::atomic<int> gaps{0};
  std::thread client([&] {
    while (!stop) {
      try {
        (void)repository.resolve({"m"});
      } catch (const RequestError&) {
        ++gaps;
      }
    }
  });
  for (int64_t v = 2; v <= 5; ++v) {
    publish_version(base / "1" / "model.onnx", base, v);
    EXPECT_TRUE(eventually([&] { return ready_numbers(repository, "m") == std::vector<int64_t>{v}; })) << v;
  }
  stop = true;
  client.join();
  EXPECT_EQ(gaps, 0);
  const auto statuses = repository.status({"m"});
  ASSERT_EQ(statuses.size(), 5U);
  EXPECT_EQ(statuses[4].state, VersionState::Available);
  EXPECT_TRUE(eventually([&] { return repository.status({"m", 1})[0].state == VersionState::End; }));
}

// Complaint 9: a version that is still being copied.
// A model written just before the server starts was never loaded: the one look came before it stood still.
TEST_F(RepositoryTest, TheOnlyLookWaitsForWhatIsBeingWritten) {
  const fs::path base = fresh_folder("models");
  RepositoryOptions options = quick();
  options.poll = milliseconds(0);
  options.settle = milliseconds(300);
  put(base, 1);
  Repository repository(options, metrics_);
  repository.configure({{.name = "m", .base_path = base}});
  EXPECT_TRUE(eventually([&] { return ready_numbers(repository, "m") == std::vector<int64_t>{1}; }));
  put(base, 2);  // and there is no other look
  std::this_thread::sleep_for(2 * options.settle);
  EXPECT_EQ(ready_numbers(repository, "m"), std::vector<int64_t>{1});
}

TEST_F(RepositoryTest, Complaint09HalfCopiedVersionsAreNeverLoaded) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  RepositoryOptions options = quick();
  options.settle = milliseconds(3000);  // longer than a busy machine lets the copy below rest
  std::atomic<int> loads{0};
  options.loader = [&](const fs::path& path, Precision) {
    ++loads;
    return load_model(path);
  };
  Repository repository(options, metrics_);
  repository.configure({{.name = "m", .base_path = base}});
  ASSERT_TRUE(repository.settle(seconds(10)));
  const std::string whole = affine_onnx(0.5F, 3);
  fs::create_directories(base / "2");
  for (size_t at = 0; at < whole.size(); at += whole.size() / 8 + 1) {  // a slow copy
    std::ofstream(base / "2" / "model.onnx", std::ios::binary | std::ios::app)
        << whole.substr(at, whole.size() / 8 + 1);
    std::this_thread::sleep_for(milliseconds(30));
    EXPECT_EQ(repository.resolve({"m"})->version(), 1);
  }
  EXPECT_EQ(loads, 1);
  EXPECT_TRUE(eventually([&] { return repository.resolve({"m"})->version() == 2; }));
  EXPECT_EQ(loads, 2);
  // With a manifest that does not agree it is not touched, however long it lies there.
  publish_version(base / "2", base, 3);
  EXPECT_TRUE(eventually([&] { return repository.resolve({"m"})->version() == 3; }));
  fs::create_directories(base / "4");
  fs::copy_file(base / "3" / "manifest.json", base / "4" / "manifest.json");
  write_file(base / "4" / "model.onnx", whole.substr(0, whole.size() - 1));
  std::this_thread::sleep_for(milliseconds(800));
  EXPECT_EQ(repository.resolve({"m"})->version(), 3);
  EXPECT_EQ(loads, 3);
  EXPECT_THAT(repository.status({"m", 4})[0].status.message, HasSubstr("not complete: model.onnx has"));
  write_file(base / "4" / "model.onnx", whole);
  EXPECT_TRUE(eventually([&] { return repository.resolve({"m"})->version() == 4; }));
}

// Complaint 10: labels before their version.
TEST_F(RepositoryTest, Complaint10LabelsMayComeBeforeTheirVersion) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  Repository repository(quick(), metrics_);
  repository.configure({{.name = "m",
                         .base_path = base,
                         .policy = {VersionPolicy::Kind::All, 1, {}},
                         .labels = {{"stable", 1}, {"canary", 2}}}});
  ASSERT_TRUE(repository.settle(seconds(10)));
  EXPECT_EQ(repository.resolve({"m", {}, "stable"})->version(), 1);
  EXPECT_THAT(error_text([&] { (void)repository.resolve({"m", {}, "canary"}); }), HasSubstr("waits for version 2"));
  EXPECT_THAT(error_text([&] { (void)repository.resolve({"m", {}, "beta"}); }),
              HasSubstr("Unrecognized servable version label: beta"));
  EXPECT_FALSE(repository.labels("m")[0].ready);
  put(base, 2);
  EXPECT_TRUE(eventually([&] { return repository.labels("m")[0].ready; }));
  EXPECT_EQ(repository.resolve({"m", {}, "canary"})->version(), 2);
}

// Complaint 13: storage that fails.
TEST_F(RepositoryTest, Complaint13EmptyOrFailingStorageUnloadsNothing) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  Repository repository(quick(), metrics_);
  repository.configure({{.name = "m", .base_path = base}});
  ASSERT_TRUE(repository.settle(seconds(10)));
  fs::rename(base / "1", fs::path(base.string() + "-away"));
  std::this_thread::sleep_for(milliseconds(150));
  EXPECT_EQ(repository.resolve({"m"})->version(), 1);
  fs::remove_all(base);
  std::this_thread::sleep_for(milliseconds(150));
  EXPECT_EQ(repository.resolve({"m"})->version(), 1);
  EXPECT_TRUE(repository.ready());
  repository.configure({});  // explicit removal is another matter
  EXPECT_TRUE(eventually([&] { return ready_numbers(repository, "m").empty(); }));
}

// Before the first configuration, and until every one of its models has been there, nobody is sent here.
TEST_F(RepositoryTest, ReadyIsLatchedOnceEveryModelWasThere) {
  const fs::path good = fresh_folder("models"), other = fresh_folder("models");
  put(good, 1);
  Repository repository(quick(), metrics_);
  EXPECT_FALSE(repository.ready());
  repository.configure({{.name = "good", .base_path = good}, {.name = "other", .base_path = other}});
  EXPECT_TRUE(eventually([&] { return ready_numbers(repository, "good") == std::vector<int64_t>{1}; }));
  EXPECT_FALSE(repository.ready());
  EXPECT_EQ(repository.not_ready(), std::vector<std::string>{"other"});
  put(other, 1);
  EXPECT_TRUE(eventually([&] { return repository.ready(); }));
  repository.configure({{.name = "good", .base_path = good}, {.name = "third", .base_path = "/nowhere/at/all"}});
  EXPECT_EQ(repository.not_ready(), std::vector<std::string>{"third"});
  EXPECT_TRUE(repository.ready());
}

TEST_F(RepositoryTest, AVersionThatCannotBeLoadedLeavesTheLastGoodOne) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  RepositoryOptions options = quick();
  options.load_retries = 1;
  Repository repository(options, metrics_);
  repository.configure({{.name = "m", .base_path = base}});
  ASSERT_TRUE(repository.settle(seconds(10)));
  write_file(base / "2" / "model.onnx", "this is no model");
  EXPECT_TRUE(eventually([&] {
    try {
      return repository.status({"m", 2})[0].state == VersionState::End;
    } catch (const RequestError&) {
      return false;
    }
  }));
  EXPECT_THAT(repository.status({"m", 2})[0].status.message, HasSubstr("not an ONNX model"));
  EXPECT_EQ(repository.resolve({"m"})->version(), 1);
  put(base, 2);  // mended on the disk: tried again by itself
  EXPECT_TRUE(eventually([&] { return repository.resolve({"m"})->version() == 2; }));
}

// Only other files can help a SavedModel, so nothing is tried again for an hour; the error says what to run.
TEST_F(RepositoryTest, ASavedModelIsAFaultThatSaysWhatToDo) {
  const fs::path base = fresh_folder("models"), bare = fresh_folder("models");
  write_file(base / "1" / "saved_model.pb", "graph");
  write_file(base / "1" / "variables" / "variables.index", "weights");
  write_file(bare / "saved_model.pb", "graph");
  RepositoryOptions options = quick();
  options.load_retries = 5;
  options.retry_interval = std::chrono::hours(1);
  Repository repository(options, metrics_);
  repository.configure({{.name = "m", .base_path = base}, {.name = "bare", .base_path = bare}});
  const auto state = [&](const std::string& name) {
    return error_text([&] { (void)repository.status({name}); }) == "no error" ? repository.status({name, 1})[0]
                                                                              : VersionStatus();
  };
  for (const std::string name : {"m", "bare"}) {
    EXPECT_TRUE(eventually([&] { return state(name).state == VersionState::End; })) << name;
    EXPECT_THAT(state(name).status.message, HasSubstr("a SavedModel (saved_model.pb)"));
    EXPECT_THAT(state(name).status.message, HasSubstr("python -m tf2onnx.convert --saved-model " +
                                                      (name == "m" ? base / "1" : bare).string() + " --output"));
    EXPECT_THAT(state(name).status.message, HasSubstr("SafeTensors"));
    EXPECT_THAT(error_text([&] { (void)repository.resolve({name}); }),
                HasSubstr("Latest(" + name + "); version 1 was not loaded: "));
  }
  write_file(base / "1" / "model.onnx", affine_onnx(0.5F, 2));  // what the error says to do
  EXPECT_TRUE(eventually([&] { return ready_numbers(repository, "m") == std::vector<int64_t>{1}; }));
}

// TensorFlow Serving's batching_params.pbtxt, which it reads from the version's folder.
TEST_F(RepositoryTest, AVersionsFolderSaysHowItIsBatched) {
  const fs::path base = fresh_folder("models");
  for (const int v : {1, 2}) put(base, v);
  write_file(base / "2" / "batching_params.pbtxt",
             "max_batch_size { value: 10 }\nbatch_timeout_micros { value: 700 }\nnum_batch_threads { value: 3 }\n");
  LaneOptions common;
  common.batching = {.enabled = true, .max_batch_size = 4, .timeout = std::chrono::microseconds(1)};
  const VersionPolicy all{VersionPolicy::Kind::All, 1, {}};
  for (const bool asked : {false, true}) {
    std::mutex mutex;
    std::string told;
    RepositoryOptions options = quick();
    options.version_batching = asked;
    options.log = [&](std::string_view, std::string_view event, const Labels& fields) {
      const std::lock_guard lock(mutex);
      if (event != "version_batching") return;
      for (const auto& [key, value] : fields) told += key + "=" + value + ";";
    };
    Repository repository(options, metrics_);
    repository.configure({{.name = "m", .base_path = base, .policy = all, .lane = common}});
    ASSERT_TRUE(repository.settle(seconds(20)));
    EXPECT_EQ(repository.resolve({"m", 1})->options().batching.max_batch_size, 4);
    const BatchingOptions& own = repository.resolve({"m", 2})->options().batching;
    EXPECT_EQ(own.max_batch_size, asked ? 10 : 4);
    EXPECT_EQ(own.timeout, std::chrono::microseconds(asked ? 700 : 1));
    const std::lock_guard lock(mutex);
    EXPECT_EQ(told.empty(), !asked);
    if (!asked) continue;
    EXPECT_THAT(told, testing::AllOf(HasSubstr("version=2;"), HasSubstr("2/batching_params.pbtxt;"),
                                     HasSubstr("max_batch_size=10;")));
  }
  // A file that says nothing sensible keeps its version out, and names itself.
  put(base, 3);
  write_file(base / "3" / "batching_params.pbtxt", "max_batch { value: 10 }");
  RepositoryOptions options = quick();
  options.version_batching = true;
  Repository repository(options, metrics_);
  repository.configure({{.name = "m", .base_path = base, .policy = all}});
  EXPECT_TRUE(eventually([&] {
    try {
      return repository.status({"m", 3})[0].state == VersionState::End;
    } catch (const RequestError&) {
      return false;
    }
  }));
  EXPECT_THAT(repository.status({"m", 3})[0].status.message, HasSubstr("3/batching_params.pbtxt"));
}

// As TensorFlow Serving: versions that the policy does not choose are not there at all.
TEST_F(RepositoryTest, VersionsThatNobodyAskedForHaveNoStatus) {
  const fs::path base = fresh_folder("models");
  for (int v : {1, 2, 3}) put(base, v);
  Repository repository(quick(), metrics_);
  repository.configure({{.name = "m", .base_path = base, .policy = {VersionPolicy::Kind::Specific, 1, {2}}}});
  ASSERT_TRUE(repository.settle(seconds(60)));
  EXPECT_TRUE(eventually([&] { return repository.status({"m"}).size() == 1; }));
  EXPECT_EQ(repository.status({"m"})[0].version, 2);
  EXPECT_THAT(error_text([&] { (void)repository.status({"m", 3}); }), HasSubstr("Could not find version 3"));
  EXPECT_EQ(repository.index().size(), 1U);
  // Chosen later, one of them comes.
  repository.configure({{.name = "m", .base_path = base, .policy = {VersionPolicy::Kind::Latest, 1, {}}}});
  EXPECT_TRUE(eventually([&] { return ready_numbers(repository, "m") == std::vector<int64_t>{3}; }));
}

TEST_F(RepositoryTest, LoadsAndUnloadsByHand) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  RepositoryOptions options = quick();
  options.explicit_control = true;
  options.settle = seconds(100);  // an explicit load says that the version is whole
  options.load_retries = 0;
  Repository repository(options, metrics_);
  repository.configure({{.name = "m", .base_path = base}, {.name = "none", .base_path = base / "nowhere"}});
  std::this_thread::sleep_for(milliseconds(80));
  EXPECT_TRUE(ready_numbers(repository, "m").empty());
  repository.load("m");
  EXPECT_EQ(ready_numbers(repository, "m"), std::vector<int64_t>{1});
  std::weak_ptr<Lane> watch = repository.resolve({"m"});
  repository.unload("m");
  EXPECT_TRUE(watch.expired());
  EXPECT_THAT(error_text([&] { (void)repository.resolve({"m"}); }), HasSubstr("Servable not found"));
  repository.load("m");
  EXPECT_EQ(ready_numbers(repository, "m"), std::vector<int64_t>{1});
  EXPECT_THAT(error_text([&] { repository.load("none"); }), HasSubstr("failed to load 'none'"));
  EXPECT_THAT(error_text([&] { repository.load("what"); }), HasSubstr("no such model"));
}

// A look that has passed the model's folder already is not the one that the load waits for.
TEST_F(RepositoryTest, ALoadDuringALookFindsWhatCameAfterIt) {
  const fs::path early = fresh_folder("early"), late = fresh_folder("late");
  put(late, 1);
  const fs::path manifest = late / "1" / "manifest.json";  // a pipe: who reads it waits
  ASSERT_EQ(::mkfifo(manifest.c_str(), 0600), 0);
  RepositoryOptions options = quick();
  options.explicit_control = true;
  options.settle = seconds(100);
  Repository repository(options, metrics_);
  repository.configure({{.name = "a", .base_path = early}, {.name = "b", .base_path = late}});
  int pipe = -1;
  ASSERT_TRUE(eventually([&] { return (pipe = ::open(manifest.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)) >= 0; }));
  put(early, 1);
  std::string error;
  std::thread client([&] { error = error_text([&] { repository.load("a"); }); });
  std::this_thread::sleep_for(milliseconds(50));  // it has asked
  ::unlink(manifest.c_str());
  ::close(pipe);
  client.join();
  EXPECT_EQ(error, "no error");
  EXPECT_EQ(ready_numbers(repository, "a"), std::vector<int64_t>{1});
}

TEST_F(RepositoryTest, AModelThatIsStillLoadingIsUnavailableNotUnknown) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  Gate gate;
  RepositoryOptions options = quick();
  options.loader = [&](const fs::path& path, Precision) {
    gate.wait();
    return load_model(path);
  };
  Repository repository(options, metrics_);
  repository.configure({{.name = "m", .base_path = base}});
  gate.wait_for_waiting(1);
  try {
    (void)repository.resolve({"m"});
    ADD_FAILURE() << "is ready";
  } catch (const RequestError& error) {
    EXPECT_EQ(error.status_code, Code::Unavailable);
  }
  EXPECT_FALSE(repository.ready());
  EXPECT_EQ(repository.status({"m"})[0].state, VersionState::Loading);
  gate.open();
  EXPECT_TRUE(eventually([&] { return repository.ready(); }));
}

// The configuration may change while what it said before is being loaded: that is not served.
TEST_F(RepositoryTest, WhatTheConfigurationNoLongerSaysComesTooLate) {
  const fs::path before = fresh_folder("models"), after = fresh_folder("models");
  put(before, 1);
  put(after, 1);
  Gate gate;
  RepositoryOptions options = quick();
  options.load_threads = 2;
  options.loader = [&](const fs::path& path, Precision) -> ModelPtr {
    const bool first = path.parent_path() == before;
    if (first) gate.wait();
    return std::make_shared<FakeModel>(first ? 1 : 2);
  };
  Repository repository(options, metrics_);
  repository.configure({{.name = "m", .base_path = before}});
  gate.wait_for_waiting(1);
  repository.configure({{.name = "m", .base_path = after}});
  ASSERT_TRUE(repository.settle(seconds(10)));
  gate.open();
  const auto answer = [&] {
    return std::get<Tensor>(repository.resolve({"m"})->model().run({rows_of(1)})[0]).to_vector<float>()[0];
  };
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(answer(), 2);
    std::this_thread::sleep_for(milliseconds(5));
  }
}

// A version that goes before it was whole leaves nobody waiting for it.
TEST_F(RepositoryTest, AHalfCopiedVersionThatGoesIsForgotten) {
  const fs::path base = fresh_folder("models");
  write_file(base / "1" / "manifest.json", "{}");
  Repository repository(quick(), metrics_);
  repository.configure({{.name = "m", .base_path = base}});
  ASSERT_TRUE(eventually([&] {
    return error_text([&] { (void)repository.resolve({"m"}); }).find("not ready yet") != std::string::npos &&
           repository.index()[0].state == VersionState::Start;
  }));
  fs::remove_all(base / "1");
  EXPECT_TRUE(eventually([&] {
    return error_text([&] { (void)repository.resolve({"m"}); }).find("Servable not found") != std::string::npos;
  }));
}

TEST_F(RepositoryTest, AModelIsLoadedAnewWhenItsPrecisionChanges) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  std::atomic<int> strict{0}, fast{0};
  RepositoryOptions options = quick();
  options.loader = [&](const fs::path& path, Precision precision) {
    ++(precision == Precision::Fast ? fast : strict);
    return load_model(path, precision);
  };
  Repository repository(options, metrics_);
  const auto execution = [&] { return repository.resolve({"m"})->model().execution(); };
  const auto configure = [&](const std::string& more) {
    repository.configure(parse_model_config(
        "model_config_list { config { name: 'm' base_path: '" + base.string() + "' " + more + " } }", "config"));
  };
  configure("");
  ASSERT_TRUE(repository.settle(seconds(10)));
  EXPECT_EQ(execution(), "");
  configure("fast: true");
  // The strict one serves until the other is there: there is an answer at every moment.
  EXPECT_TRUE(eventually([&] { return execution().find("fast") != std::string::npos; }));
  configure("fast: true max_queued: 7");
  configure("fast: false");
  EXPECT_TRUE(eventually([&] { return execution().empty(); }));
  EXPECT_EQ(strict, 2);
  EXPECT_EQ(fast, 1);
}

// TensorFlow Serving's recorded requests: a TFRecord file of PredictionLog.
TEST_F(RepositoryTest, RecordedRequestsWarmAVersionAndKeepOutOneThatCannotAnswerThem) {
  const auto record = [](const std::string& input) {
    const float x = 4;
    const std::string tensor = int_field(1, 1) + bytes_field(2, bytes_field(2, int_field(1, 1))) +
                               bytes_field(4, std::string(reinterpret_cast<const char*>(&x), 4));
    const std::string log =
        bytes_field(6, bytes_field(1, bytes_field(2, bytes_field(1, input) + bytes_field(2, tensor))));
    return tfrecord(log);
  };
  for (const bool fits : {true, false}) {
    const fs::path base = fresh_folder("models");
    put(base, 1);
    write_file(base / "1" / "assets.extra" / "tf_serving_warmup_requests", record(fits ? "x" : "other"));
    RepositoryOptions options = quick();
    options.load_retries = 0;
    options.warm = [](const LanePtr& lane, const fs::path& version) { warm_up(lane, version); };
    Repository repository(options, metrics_);
    repository.configure({{.name = "m", .base_path = base}});
    EXPECT_TRUE(eventually([&] {
      try {
        const auto state = repository.status({"m"})[0].state;
        return state == VersionState::Available || state == VersionState::End;
      } catch (const RequestError&) {
        return false;
      }
    }));
    EXPECT_EQ(repository.ready_versions("m").size(), fits ? 1U : 0U);
    if (fits) continue;
    EXPECT_THAT(repository.status({"m"})[0].status.message, HasSubstr("unexpected input 'other'"));
  }
}

// num_request_iterations_for_warmup: each recorded request so often, the zeros once.
TEST_F(RepositoryTest, RecordedRequestsRunAsOftenAsTheyAreToldTo) {
  const fs::path version = fresh_folder("models");
  const float x = 4;
  const std::string tensor = int_field(1, 1) + bytes_field(2, bytes_field(2, int_field(1, 1))) +
                             bytes_field(4, std::string(reinterpret_cast<const char*>(&x), 4));
  const std::string log = bytes_field(6, bytes_field(1, bytes_field(2, bytes_field(1, "x") + bytes_field(2, tensor))));
  write_file(version / "assets.extra" / "tf_serving_warmup_requests", tfrecord(log) + tfrecord(log));
  for (const int iterations : {0, 1, 3}) {
    int fours = 0, zeros = 0;
    const auto model = std::make_shared<FakeModel>(1, std::vector<int64_t>{-1}, [&](const Tensor& given) {
      ++(given.to_vector<float>()[0] == 4 ? fours : zeros);
    });
    EXPECT_EQ(warm_up(std::make_shared<Lane>("m", 1, model, LaneOptions{}, metrics_), version, iterations), 2);
    EXPECT_EQ(fours, 2 * std::max(1, iterations));
    EXPECT_EQ(zeros, 1);
  }
}

TEST_F(RepositoryTest, QuotasCountTheModelsOwnRequests) {
  const fs::path base = fresh_folder("models");
  put(base, 1);
  Repository repository(quick(), metrics_);
  repository.configure({{.name = "m", .base_path = base, .max_in_flight = 2}});
  ASSERT_TRUE(repository.settle(seconds(10)));
  const auto take = [&] { return Quota::take(repository.route({"m"}).quota, "m"); };
  auto a = take(), b = take();
  EXPECT_THAT(error_text([&] { (void)take(); }), HasSubstr("over its quota of 2"));
  a = {};
  EXPECT_NO_THROW((void)take());
  repository.configure({{.name = "m", .base_path = base}});
  EXPECT_EQ(repository.route({"m"}).quota, nullptr);
}

TEST(ServeConfig, ReadsTensorFlowServingsFiles) {
  const auto models = parse_model_config(R"(
    # two models
    model_config_list: {
      config: { name: "a", base_path: "/models/a", model_platform: "tensorflow" },
      config {
        name: 'b' base_path: "/models/" "b"
        model_version_policy { specific { versions: 3 versions: [4, 5] } }
        version_labels { key: "stable" value: 3 }
        version_labels { key: "canary" value: 5 }
      }
    })",
                                         "models.config");
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[1].base_path, "/models/b");
  EXPECT_EQ(models[1].policy.specific, (std::vector<int64_t>{3, 4, 5}));
  EXPECT_EQ(models[1].labels.at("canary"), 5);
  LaneOptions lane;
  int threads = 0;
  const auto batching = parse_batching(
      "max_batch_size { value: 128 } batch_timeout_micros { value: 500 } "
      "num_batch_threads { value: 8 } allowed_batch_sizes: 64 allowed_batch_sizes: 128",
      "batching.config", lane, threads);
  EXPECT_EQ(batching.max_batch_size, 128);
  EXPECT_EQ(batching.timeout, std::chrono::microseconds(500));
  EXPECT_EQ(threads, 8);
  EXPECT_EQ(parse_monitoring("prometheus_config: { enable: true, path: \"/m\" }", "m.config"), "/m");
  const auto tls = parse_ssl_config(
      "server_key: '-----BEGIN K\\n' \n 'k\\n' server_cert: \"-----BEGIN C\\nc\" client_verify: true custom_ca: 'ca'",
      "ssl");
  EXPECT_EQ(tls.key, "-----BEGIN K\nk\n");
  EXPECT_EQ(tls.certificate, "-----BEGIN C\nc");
  EXPECT_EQ(tls.client_ca, "ca");
  EXPECT_EQ(parse_ssl_config("server_key: 'a' server_cert: 'b' custom_ca: 'c'", "ssl").client_ca, "");
  EXPECT_THAT(error_text([] { parse_ssl_config("server_key: 'a'", "ssl"); }), HasSubstr("are both needed"));
  EXPECT_THAT(error_text([] { parse_model_config("model_config_list { confg {} }", "x"); }),
              HasSubstr("line 1: there is no field 'confg' here"));
  EXPECT_THAT(error_text([] { parse_model_config("improperly formatted file", "x"); }), HasSubstr("line 1"));
  EXPECT_THAT(
      error_text([] { parse_model_config("model_config_list { config { name: \"a/b\" base_path: \"c\" } }", "x"); }),
      HasSubstr("holds '/' or ':'"));
}

// What a model says of its precision wins over the flag.
TEST(ServeConfig, SaysWhichModelsAreFast) {
  const std::string text = R"(model_config_list {
    config { name: "plain" base_path: "/m" }
    config { name: "fast" base_path: "/m" fast: true }
    config { name: "strict" base_path: "/m" fast: false } })";
  const auto precisions = [&](Precision flag) {
    LaneOptions defaults;
    defaults.precision = flag;
    std::vector<Precision> out;
    for (const auto& model : parse_model_config(text, "models.config", defaults)) out.push_back(model.lane.precision);
    return out;
  };
  using enum Precision;
  EXPECT_THAT(precisions(Strict), testing::ElementsAre(Strict, Fast, Strict));
  EXPECT_THAT(precisions(Fast), testing::ElementsAre(Fast, Fast, Strict));
  EXPECT_THAT(
      error_text([] { parse_model_config("model_config_list { config { name: 'm' base_path: 'm' fast: 2 } }", "x"); }),
      HasSubstr("fast"));
}

}  // namespace
}  // namespace tenon::serve
