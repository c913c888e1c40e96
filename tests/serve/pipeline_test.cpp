// Pipelines: what is refused and with which words, and how requests go through them.
#include "tenon/serve/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>

#include "tenon/serve/server.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"
#include "tests/support/error_text.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using tenon::testing_support::error_text;
using testing::AllOf;
using testing::HasSubstr;
using Json = nlohmann::json;

std::string joined(const std::vector<std::string>& list) {
  std::string out;
  for (const auto& text : list) out += text + "\n";
  return out;
}

// y = x + add, with names and types as asked for.
class Named final : public Model {
 public:
  Named(std::vector<TensorSpec> in, std::vector<TensorSpec> out) {
    inputs_ = std::move(in);
    outputs_ = std::move(out);
  }
  std::vector<Value> run(std::vector<Value>) const override { return {}; }
};
TensorSpec spec(const std::string& name, DType type = DType::F32, std::vector<int64_t> dims = {-1, 2}) {
  return {name, {type}, true, std::move(dims)};
}

TEST(PipelineFaultsTest, AllAreToldAtOnce) {
  const PipelineOptions o{.steps = {{.model = {.name = "a"}, .inputs = {{"x", "raw"}}, .outputs = {{"y", "p"}}},
                                    {.model = {.name = "b"}, .inputs = {{"x", "q"}}, .outputs = {{"y", "r"}}},
                                    {.model = {.name = "c"}, .inputs = {{"x", "r"}}, .outputs = {{"y", "q"}}},
                                    {.model = {}, .inputs = {{"x", "missing"}}, .outputs = {{"y", "p"}}}},
                          .inputs = {{.name = "raw"}},
                          .outputs = {{.name = "nothing"}, {.name = "p"}}};
  EXPECT_THAT(
      joined(faults(o)),
      AllOf(HasSubstr("a cycle: step 2 ('b'), step 3 ('c') wait for each other's tensors"),
            HasSubstr("step 4 has no model_name"), HasSubstr("tensor 'p' is given by step 1 ('a') and by step 4 ('')"),
            HasSubstr("step 4 ('') takes tensor 'missing', which is no input and which no step gives"),
            HasSubstr("no step gives the output 'nothing'")));
  EXPECT_THAT(joined(faults(PipelineOptions{})), HasSubstr("there is no step"));
}

TEST(PipelineFaultsTest, NamesTypesAndShapesOfTheModels) {
  const PipelineOptions o{
      .steps = {{.model = {.name = "a"}, .inputs = {{"x", "raw"}}, .outputs = {{"y", "p"}, {"z", "more"}}},
                {.model = {.name = "b"}, .inputs = {{"u", "p"}}, .outputs = {{"y", "q"}}}},
      .inputs = {{.name = "raw", .type = ElementType{DType::I64}}},
      .outputs = {}};
  const Named a({spec("x")}, {spec("y", DType::F32, {-1, 3})});
  const Named b({spec("u", DType::F32, {-1, 4}), spec("v")}, {spec("y")});
  const Model* models[] = {&a, &b};
  EXPECT_THAT(
      error_text([&] { Pipeline("p", o, models); }),
      AllOf(HasSubstr("pipeline 'p'"), HasSubstr("step 1 ('a') has no output 'z': its outputs are y"),
            HasSubstr("step 2 ('b'): nothing is mapped to its input 'v'"),
            HasSubstr("tensor 'p' is FP32[-1,3] for output 'y' of step 1 ('a'), but FP32[-1,4] for input 'u' of "
                      "step 2 ('b')"),
            HasSubstr("tensor 'raw' is FP32[-1,2] for input 'x' of step 1 ('a'), but INT64 for the declaration")));
}

TEST(PipelineFaultsTest, InputsAndOutputsAreWhatIsOpen) {
  const PipelineOptions o{
      .steps = {{.model = {.name = "b"}, .inputs = {{"u", "p"}, {"v", "w"}}, .outputs = {{"y", "q"}}},
                {.model = {.name = "a"}, .inputs = {{"x", "raw"}}, .outputs = {{"y", "p"}}}}};
  const Named a({spec("x", DType::U8, {-1, 8})}, {spec("y", DType::F32, {-1, 3})});
  const Named b({spec("u", DType::F32, {-1, -1}), spec("v")}, {spec("y")});
  const Model* models[] = {&b, &a};
  const Pipeline p("p", o, models);
  ASSERT_EQ(p.inputs().size(), 2U);
  EXPECT_EQ(p.inputs()[0].name, "w");
  EXPECT_EQ(p.inputs()[1].name, "raw");
  EXPECT_EQ(p.inputs()[1].type, ElementType{DType::U8});
  ASSERT_EQ(p.outputs().size(), 1U);
  EXPECT_EQ(p.outputs()[0].name, "q");
  EXPECT_EQ(p.needed(std::vector<size_t>{0}), (std::vector<size_t>{1, 0}));  // 'a' first
}

// ---- a server with models that add ----

constexpr const char* kConfig = R"(model_config_list {
  config { name: "one" base_path: "BASE/1" }
  config { name: "ten" base_path: "BASE/10" }
  config { name: "hundred" base_path: "BASE/100" }
  config {
    name: "both"
    ensemble_scheduling {
      step { model_name: "one" model_version: -1 input_map { key: "x" value: "raw" } output_map { key: "y" value: "first" } }
      step { model_name: "ten" input_map { key: "x" value: "first" } output_map { key: "y" value: "left" } }
      step { model_name: "hundred" input_map { key: "x" value: "first" } output_map { key: "y" value: "right" } }
    }
    output { name: "left" data_type: TYPE_FP32 dims: [ -1, 2 ] }
    output { name: "right" }
  }
  config {
    name: "nested"
    ensemble_scheduling {
      step { model_name: "both" input_map { key: "raw" value: "in" } output_map { key: "right" value: "mid" } }
      step { model_name: "ten" input_map { key: "x" value: "mid" } output_map { key: "y" value: "out" } }
    }
  }
})";

class PipelineServerTest : public testing::Test {
 protected:
  PipelineServerTest() : base_(fresh_folder("models")) {
    for (const char* v : {"1", "10", "100"}) write_file(base_ / v / "1" / "model", v);
    ServerOptions o;
    o.address = "127.0.0.1";
    o.tfs_rest_port = o.v2_rest_port = 0;
    o.core.scheduler.threads = 3;
    o.core.repository.poll = milliseconds(20);
    o.core.repository.settle = milliseconds(0);
    o.core.repository.loader = [this](const fs::path& path, Precision) -> ModelPtr {
      const int add = std::stoi(path.parent_path().filename().string());
      return std::make_shared<FakeModel>(add, std::vector<int64_t>{-1, 2}, [this, add](const Tensor&) {
        ++runs_[add];
        if (add == broken_) throw RequestError(Code::Internal, "broken");
        if (add == held_) gate_.wait();
      });
    };
    o.http.threads = 2;
    std::string text = kConfig;
    for (size_t at = 0; (at = text.find("BASE", at)) != std::string::npos;) text.replace(at, 4, base_.string());
    server_ = std::make_unique<Server>(o, parse_model_config(text, "config"));
    EXPECT_TRUE(server_->core().repository().settle(seconds(20)));
  }
  Core& core() { return server_->core(); }
  InferResponse ask(const std::string& model, InferRequest request) {
    std::promise<InferResponse> answer;
    core().infer(core().repository().route({model}), std::move(request),
                 [&](InferResponse r) { answer.set_value(std::move(r)); });
    return answer.get_future().get();
  }
  static float first(const NamedValue& v) { return std::get<Tensor>(v.value).to_vector<float>()[0]; }
  static std::string body(const std::string& input, const std::string& outputs = "") {
    return R"({"inputs":[{"name":")" + input + R"(","datatype":"FP32","shape":[1,2],"data":[0,0]}])" + outputs + "}";
  }
  fs::path base_;
  std::map<int, std::atomic<int>> runs_;
  std::atomic<int> broken_{0}, held_{0};
  Gate gate_;
  std::unique_ptr<Server> server_;
};

TEST_F(PipelineServerTest, IsServedLikeAnyModel) {
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  const auto answer = Json::parse(v2.post("/v2/models/both/infer", body("raw")).body);
  EXPECT_EQ(answer["outputs"][0]["name"], "left");
  EXPECT_EQ(answer["outputs"][0]["data"], Json::parse("[11.0,11.0]"));
  EXPECT_EQ(answer["outputs"][1]["data"], Json::parse("[101.0,101.0]"));
  EXPECT_EQ(Json::parse(tfs.post("/v1/models/both:predict", R"({"inputs": {"raw": [[1, 2]]}})").body),
            Json::parse(R"({"outputs": {"left": [[12.0, 13.0]], "right": [[102.0, 103.0]]}})"));
  const auto config = Json::parse(v2.get("/v2/models/both/config").body);
  EXPECT_EQ(config["platform"], "ensemble");
  EXPECT_EQ(config["ensemble_scheduling"]["step"][0]["input_map"]["x"], "raw");
  EXPECT_EQ(config["ensemble_scheduling"]["step"][0]["model_version"], -1);
  EXPECT_EQ(Json::parse(v2.get("/v2/models/both").body)["inputs"],
            Json::parse(R"([{"name":"raw","datatype":"FP32","shape":[-1,2]}])"));
  const auto stats = Json::parse(v2.get("/v2/models/both/stats").body)["model_stats"][0];
  EXPECT_EQ(stats["inference_stats"]["success"]["count"], 2);
  // The steps count as well, under an API of their own.
  EXPECT_THAT(core().metrics().text(),
              AllOf(HasSubstr(R"(tenon_requests_total{model="both",version="1",api="v2_rest",code="OK"} 1)"),
                    HasSubstr(R"(tenon_requests_total{model="ten",version="1",api="internal",code="OK"} 2)")));
}

TEST_F(PipelineServerTest, StepsThatNobodyNeedsDoNotRunAndPipelinesNest) {
  HttpClient v2(server_->ports().v2_rest);
  const auto before = runs_[10].load();
  const auto answer =
      Json::parse(v2.post("/v2/models/both/infer", body("raw", R"(,"outputs":[{"name":"right"}])")).body);
  ASSERT_EQ(answer["outputs"].size(), 1U);
  EXPECT_EQ(answer["outputs"][0]["data"], Json::parse("[101.0,101.0]"));
  EXPECT_EQ(runs_[10], before);
  EXPECT_EQ(Json::parse(v2.post("/v2/models/nested/infer", body("in")).body)["outputs"][0]["data"],
            Json::parse("[111.0,111.0]"));
}

TEST_F(PipelineServerTest, AFailureNamesItsStep) {
  broken_ = 10;
  HttpClient v2(server_->ports().v2_rest);
  const auto answer = v2.post("/v2/models/both/infer", body("raw"));
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(Json::parse(answer.body)["error"], "step 2 ('ten'): broken");
  EXPECT_EQ(v2.post("/v2/models/both/infer", body("wrong")).status, 400);
}

TEST_F(PipelineServerTest, DeadlinesAndHangUpsReachTheSteps) {
  held_ = 1;
  const auto late = ask("both", {.inputs = {{"raw", rows_of(1)}}, .deadline = Clock::now() + milliseconds(100)});
  EXPECT_EQ(late.status.code, Code::DeadlineExceeded) << "though the step still waits at the gate";
  const auto cancel = std::make_shared<Cancel>();
  std::promise<InferResponse> answer;
  const int ten = runs_[10];
  core().infer(core().repository().route({"nested"}), {.inputs = {{"in", rows_of(1)}}, .cancel = cancel},
               [&](InferResponse r) { answer.set_value(std::move(r)); });
  gate_.wait_for_waiting(2);
  cancel->request();
  EXPECT_EQ(answer.get_future().get().status.code, Code::Cancelled);
  gate_.open();
  EXPECT_TRUE(eventually([&] { return core().repository().ready_versions("one")[0]->pending() == 0; }));
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(runs_[10], ten) << "nothing runs for a request that is over";
}

TEST_F(PipelineServerTest, FollowsItsModels) {
  // A model of another type: the pipeline is refused, with the reason in its status, and comes back with the old one.
  auto models = core().repository().configuration();
  std::erase_if(models, [](const auto& m) { return m.name == "nested"; });
  for (auto& m : models) {
    if (m.pipeline) m.pipeline->outputs[0].dims = std::vector<int64_t>{-1, 3};
  }
  core().repository().configure(models);
  EXPECT_TRUE(eventually([&] { return core().repository().status({"both"})[0].state == VersionState::End; }));
  EXPECT_THAT(core().repository().status({"both"})[0].status.message,
              HasSubstr("tensor 'left' is FP32[-1,2] for output 'y' of step 2 ('ten'), but"));
  for (auto& m : models) {
    if (m.pipeline) m.pipeline->outputs[0].dims.reset();
  }
  core().repository().configure(models);
  EXPECT_TRUE(eventually([&] { return !core().repository().ready_versions("both").empty(); }));
  EXPECT_EQ(first(ask("both", {.inputs = {{"raw", rows_of(1)}}}).outputs[0]), 11);
  // Steps that name no version go where their model's traffic goes.
  core().repository().traffic("ten")->set({.split = {{.version = 9, .weight = 1}}});
  EXPECT_EQ(ask("both", {.inputs = {{"raw", rows_of(1)}}}).status.code, Code::Unavailable);
}

// A pipeline is as ready as its models: it says so at every door, and those made of it do.
TEST_F(PipelineServerTest, WaitsForAModelThatWasUnloaded) {
  HttpClient v2(server_->ports().v2_rest);
  ASSERT_EQ(v2.get("/v2/models/nested/ready").status, 200);
  core().repository().unload("ten");
  for (const char* name : {"both", "nested"}) {
    EXPECT_TRUE(eventually([&] { return core().repository().ready_versions(name).empty(); })) << name;
    EXPECT_EQ(v2.get("/v2/models/" + std::string(name) + "/ready").status, 400);
    const auto status = core().repository().status({name}).at(0);
    EXPECT_EQ(status.state, VersionState::Start);
    EXPECT_THAT(status.status.message, HasSubstr("waits for Latest("));
    const auto answer = v2.post("/v2/models/" + std::string(name) + "/infer", body("raw"));
    EXPECT_EQ(answer.status, 503) << answer.body;
    EXPECT_NE(answer.header("Retry-After"), "");
  }
  core().repository().load("ten");
  for (const char* name : {"both", "nested"}) {
    EXPECT_TRUE(eventually([&] { return !core().repository().ready_versions(name).empty(); })) << name;
    EXPECT_EQ(v2.get("/v2/models/" + std::string(name) + "/ready").status, 200);
  }
  EXPECT_EQ(first(ask("both", {.inputs = {{"raw", rows_of(1)}}}).outputs[0]), 11);
}

TEST_F(PipelineServerTest, StickyKeysReachTheSteps) {
  auto models = core().repository().configuration();
  for (auto& m : models) {
    if (m.name == "ten") m.policy = {VersionPolicy::Kind::All, 1, {}};
  }
  write_file(base_ / "10" / "2" / "model", "10");
  core().repository().configure(models);
  ASSERT_TRUE(eventually([&] { return core().repository().ready_versions("ten").size() == 2; }));
  core().repository().traffic("ten")->set(
      {.split = {{.version = 1, .weight = 1}, {.version = 2, .weight = 1}}, .sticky_key = "user"});
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  const auto count = [&](size_t i) { return core().repository().traffic("ten")->status().at(i).requests; };
  for (int i = 0; i < 8; ++i) {
    const std::string user = "u" + std::to_string(i);
    const size_t home = sticky_bucket("ten", user) < 0.5 ? 0 : 1;
    const uint64_t before = count(home);
    EXPECT_EQ(v2.post("/v2/models/both/infer", body("raw"), "User: " + user + "\r\n").status, 200);
    EXPECT_EQ(tfs.post("/v1/models/both:predict", R"({"inputs": {"raw": [[1, 2]]}})", "User: " + user + "\r\n").status,
              200);
    EXPECT_EQ(count(home), before + 2);
  }
}

TEST_F(PipelineServerTest, WrongConfigurationsChangeNothing) {
  auto models = core().repository().configuration();
  for (auto& m : models) {
    if (m.name == "both") m.pipeline->steps[0].model.name = "nested";
    if (m.name == "nested") m.pipeline->steps[1].model.name = "nobody";
  }
  EXPECT_THAT(error_text([&] { core().repository().configure(models); }),
              AllOf(HasSubstr("pipeline 'both' contains itself"), HasSubstr("pipeline 'nested' contains itself"),
                    HasSubstr("pipeline 'nested': the configuration has no model 'nobody'")));
  EXPECT_EQ(first(ask("both", {.inputs = {{"raw", rows_of(1)}}}).outputs[0]), 11);
}

}  // namespace
}  // namespace tenon::serve
