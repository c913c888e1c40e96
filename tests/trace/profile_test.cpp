// Profiles of eager runs: what is recorded, the table, the trace file. Counts of flops against PyTorch's
// FlopCounterMode.
#include <gmock/gmock.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/observe.h"
#include "tenon/tenon.h"
#include "tests/support/temp_folder.h"

namespace tenon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const ProfileEvent* find(const Profile& profile, std::string_view name, std::string_view kind = "op") {
  for (const auto& e : profile.events) {
    if (e.name == name && e.kind == kind) return &e;
  }
  return nullptr;
}

double flops_of(const std::string& name, const std::function<void()>& work, std::string_view kind = "op") {
  Profiler profiler;
  work();
  const Profile profile = profiler.stop();
  const ProfileEvent* e = find(profile, name, kind);
  return e == nullptr ? -2 : e->flops;
}

TEST(Profile, HasEachOpWithItsTypesBytesAndTime) {
  const Tensor x = ones({4, 8}), w = ones({8, 2});
  Profiler profiler;
  const Tensor y = relu(matmul(x, w));
  const Profile profile = profiler.stop();
  ASSERT_EQ(profile.events.size(), 2u);
  const ProfileEvent& product = profile.events[0];
  EXPECT_EQ(product.name, "matmul");
  EXPECT_EQ(product.kind, "op");
  EXPECT_THAT(product.inputs, ElementsAre(TensorType{f32, {4, 8}}, TensorType{f32, {8, 2}}));
  EXPECT_THAT(product.outputs, ElementsAre(TensorType{f32, {4, 2}}));
  EXPECT_EQ(product.bytes, 4 * (32 + 16 + 8));
  EXPECT_EQ(product.thread, 0);
  EXPECT_EQ(product.depth, 0);
  EXPECT_GT(product.duration, 0);
  EXPECT_EQ(product.own, product.duration);
  const ProfileEvent& positive = profile.events[1];
  EXPECT_EQ(positive.name, "relu");
  EXPECT_EQ(positive.flops, 8);
  EXPECT_GE(positive.start, product.start + product.duration);
  EXPECT_GE(profile.seconds, positive.start + positive.duration);
}

// A list of them, the first stopped first: the others go on, and nothing looks for the one that is gone.
TEST(Profile, WhatEndsByAnExceptionIsRecorded) {
  Profiler profiler;
  EXPECT_THROW(profile_span("outer", [] { profile_span("inner", [] { throw ValueError({"x", "y", {}, {}, {}}); }); }),
               ValueError);
  profile_span("after", [] {});
  const Profile profile = profiler.stop();
  ASSERT_EQ(profile.events.size(), 3U);
  EXPECT_EQ(profile.events[0].name, "outer");
  EXPECT_EQ(profile.events[1].name, "inner");
  EXPECT_EQ(profile.events[1].depth, 1);
  EXPECT_LE(profile.events[1].duration, profile.events[0].duration);
  EXPECT_EQ(profile.events[2].depth, 0);
}

TEST(Profile, TwoMayEndInAnyOrder) {
  const Tensor x = ones({2});
  auto first = std::make_unique<Profiler>();
  Profiler second;
  (void)relu(x);
  EXPECT_EQ(first->stop().events.size(), 1u);
  first.reset();
  (void)exp(x);
  EXPECT_EQ(second.stop().events.size(), 2u);
  EXPECT_EQ(exec::observer(), nullptr);
  (void)exp(x);
}

TEST(Profile, NothingIsRecordedBeforeOrAfter) {
  Profiler profiler;
  const Profile profile = profiler.stop();
  (void)relu(ones({2}));
  EXPECT_TRUE(profile.events.empty());
  EXPECT_THROW((void)profiler.stop(), ValueError);
}

TEST(Profile, FlopsAreThoseThatPyTorchCounts) {
  EXPECT_EQ(flops_of("matmul", [] { (void)matmul(ones({3, 4}), ones({4, 5})); }), 120);
  EXPECT_EQ(flops_of("matmul", [] { (void)matmul(ones({7, 3, 4}), ones({7, 4, 5})); }), 840);
  const Variable x(ones({2, 4, 9, 8})), w(ones({6, 4, 3, 3}));
  EXPECT_EQ(
      flops_of("conv", [&] { (void)conv2d(x, narrow(w, 1, 0, 2), {}, {.stride = {2}, .padding = {1}, .groups = 2}); }),
      8640);
  const auto conv = [&] { return conv2d(x, w, {}, {.stride = {2}, .padding = {1}}); };
  EXPECT_EQ(flops_of("conv", [&] { (void)conv(); }), 17280);
  EXPECT_EQ(flops_of("conv", [&] { sum(conv()).backward(); }, "gradient"), 34560);  // of x and of the weight
  EXPECT_EQ(
      flops_of("attention",
               [] { (void)scaled_dot_product_attention(ones({2, 3, 5, 8}), ones({2, 3, 7, 8}), ones({2, 3, 7, 4})); }),
      5040);
}

TEST(Profile, ElementwiseOpsCountTheirScalarInstructions) {
  EXPECT_EQ(flops_of("multiply", [] { (void)(ones({10}) * ones({10})); }), 10);
  EXPECT_EQ(flops_of("sum", [] { (void)sum(ones({10})); }), 10);
  EXPECT_EQ(flops_of("permute", [] { (void)transpose(ones({2, 3})); }), 0);
}

TEST(Profile, EventsInsideOthersAndTheTimeOfTheirOwn) {
  const Tensor x = ones({64, 64});
  const Variable w(ones({64, 64}));
  Profiler profiler;
  profile_span("step", [&] { sum(logsumexp(matmul(x, w), {-1})).backward(); });
  const Profile profile = profiler.stop();
  const ProfileEvent* span = find(profile, "step", "span");
  const ProfileEvent* gradient = find(profile, "matmul", "gradient");
  ASSERT_NE(span, nullptr);
  ASSERT_NE(gradient, nullptr);
  EXPECT_EQ(span->depth, 0);
  EXPECT_EQ(gradient->depth, 1);
  double own = 0;
  int inside = 0;
  for (const auto& e : profile.events) {
    own += e.own;
    EXPECT_LE(e.own, e.duration);
    if (e.depth == 2 && e.name == "matmul") {
      ++inside;
      EXPECT_GE(e.start, gradient->start);
      EXPECT_LE(e.start + e.duration, gradient->start + gradient->duration);
    }
  }
  EXPECT_EQ(inside, 1);  // only the weight wants a gradient
  EXPECT_NEAR(own, span->duration, 1e-9);
  EXPECT_EQ(gradient->flops, 2.0 * 64 * 64 * 64);  // that of the product inside
}

TEST(Profile, NamesTheLayerAlsoOfGradients) {
  const models::MLP model({.inputs = 4, .hidden = 5, .outputs = 2});
  ASSERT_FALSE(named_parameters(model).empty());  // gives the Variables their names
  Profiler profiler;
  sum(model(ones({3, 4}))).backward();
  const Profile profile = profiler.stop();
  const ProfileEvent* forward = find(profile, "matmul");
  const ProfileEvent* backward = find(profile, "matmul", "gradient");
  ASSERT_NE(forward, nullptr);
  ASSERT_NE(backward, nullptr);
  const std::string first = named_parameters(model)[0].name;
  EXPECT_EQ(forward->layer + ".weight", first);
  EXPECT_FALSE(backward->layer.empty());
  EXPECT_THAT(to_table(profile, {.by_layer = true}), HasSubstr(forward->layer + ": matmul"));
}

TEST(Profile, OtherThreadsJoin) {
  const Tensor two = ones({2}), three = ones({3}), four = ones({4});
  Profiler profiler;
  (void)relu(two);
  std::thread([&] {
    (void)relu(three);  // not recorded
    const Profiler::Join join(profiler);
    (void)relu(four);
  }).join();
  const Profile profile = profiler.stop();
  ASSERT_EQ(profile.events.size(), 2u);
  EXPECT_EQ(profile.events[0].thread, 0);
  EXPECT_EQ(profile.events[1].thread, 1);
  EXPECT_EQ(profile.events[1].inputs[0].shape, Shape{4});
}

TEST(Profile, AnErrorLeavesTheEarlierEvents) {
  Profiler profiler;
  (void)relu(ones({2}));
  EXPECT_THROW((void)take(ones({3}), tensor({7}), 0), Error);
  (void)relu(ones({2}));
  const Profile profile = profiler.stop();
  EXPECT_EQ(profile.events.front().depth, 0);
  EXPECT_EQ(profile.events.back().depth, 0);
  EXPECT_EQ(profile.events.back().name, "relu");
}

TEST(Profile, PackagesAndGraphsAreRecordedToo) {
  const ir::Graph graph = capture([](const Tensors& in) { return Tensors{exp(in[0])}; }, {{"x", f32, {2}}});
  Profiler profiler;
  (void)exec::run(graph, {ones({2})});
  const Profile profile = profiler.stop();
  EXPECT_NE(find(profile, "exp"), nullptr);
}

TEST(ProfileTable, IsSortedAndSumsUp) {
  Profile profile;
  profile.seconds = 0.01;
  profile.events = {{.name = "matmul", .kind = "op", .duration = 2e-3, .own = 2e-3, .bytes = 4e6, .flops = 2e9},
                    {.name = "relu", .kind = "op", .start = 2e-3, .duration = 1e-3, .own = 1e-3, .bytes = 1e6},
                    {.name = "relu", .kind = "op", .start = 3e-3, .duration = 1e-3, .own = 1e-3, .bytes = 1e6},
                    {.name = "exp", .kind = "op", .start = 4e-3, .duration = 5e-3, .own = 5e-3}};
  const std::string text = to_table(profile);
  EXPECT_THAT(text, HasSubstr("relu         2      2.000      2.000   22.2   1000.00     1.00         -"));
  EXPECT_THAT(text, HasSubstr("matmul       1      2.000      2.000   22.2   2000.00     2.00   1000.00"));
  EXPECT_THAT(text, HasSubstr("4 events, 9.000 ms of them within 10.000 ms"));
  EXPECT_LT(text.find("exp"), text.find("matmul"));
  const std::string by_name = to_table(profile, {.sort = ProfileSort::Name, .most_rows = 2});
  EXPECT_LT(by_name.find("exp"), by_name.find("matmul"));
  EXPECT_THAT(by_name, HasSubstr("1 more"));
  EXPECT_EQ(by_name.find("relu"), std::string::npos);
}

// What the Trace Event Format asks of a complete event:
// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
TEST(ChromeTrace, IsWhatTheFormatAsksFor) {
  const std::string path = testing_support::temp_folder() + "/trace.json";
  Profiler profiler;
  profile_span("a \"quoted\" name\n", [] { (void)matmul(ones({2, 3}), ones({3, 4})); });
  const Profile profile = profiler.stop();
  save_chrome_trace(profile, path);
  const auto json = nlohmann::json::parse(read_text_file(path));
  ASSERT_TRUE(json.at("traceEvents").is_array());
  size_t complete = 0;
  for (const auto& e : json["traceEvents"]) {
    EXPECT_TRUE(e.at("name").is_string());
    EXPECT_TRUE(e.at("pid").is_number_integer());
    EXPECT_TRUE(e.at("tid").is_number_integer());
    const std::string phase = e.at("ph");
    if (phase == "M") {
      EXPECT_TRUE(e.at("args").at("name").is_string());
      continue;
    }
    EXPECT_EQ(phase, "X");
    EXPECT_GE(e.at("ts").get<double>(), 0);
    EXPECT_GE(e.at("dur").get<double>(), 0);
    ++complete;
  }
  EXPECT_EQ(complete, profile.events.size());
  EXPECT_EQ(json["traceEvents"][0].at("name"), "a \"quoted\" name\n");
  const auto& product = json["traceEvents"].at(3);
  EXPECT_EQ(product.at("name"), "matmul");
  EXPECT_EQ(product.at("args").at("inputs"), "f32[2, 3], f32[3, 4]");
  EXPECT_EQ(product.at("args").at("flops"), 48);
}

TEST(ChromeTrace, ANameThatIsNoUtf8IsReplacedAndLosesNoTrace) {
  Profiler profiler;
  profile_span("bad \xff name", [] {});
  const auto json = nlohmann::json::parse(to_chrome_trace(profiler.stop()));
  EXPECT_EQ(json["traceEvents"][0].at("name"), "bad \xef\xbf\xbd name");
}

}  // namespace
}  // namespace tenon
