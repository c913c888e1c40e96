// Packages: what is saved comes back, bit for bit; what is damaged is refused by name.
#include "tenon/package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/sha256.h"
#include "tenon/formats/safetensors.h"
#include "tenon/ir/text.h"
#include "tenon/ops/catalog.h"
#include "tenon/tenon.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::error_text;
using Json = nlohmann::json;

std::string file_named(const std::string& name) { return testing_support::temp_folder() + "/" + name; }

void expect_equal(const Tensors& want, const Tensors& got) {
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(want[i].type(), got[i].type());
    const Tensor a = contiguous(want[i]), b = contiguous(got[i]);
    EXPECT_TRUE(std::ranges::equal(a.data<std::byte>(), b.data<std::byte>()));
  }
}

Tensor random_like(const Shape& shape, uint64_t seed) { return uniform(shape, -1, 1, f32, random_key(seed)); }

TEST(Sha256, GivesThePublishedDigests) {
  const auto of = [](const std::string& text) { return sha256(std::as_bytes(std::span(text))); };
  EXPECT_EQ(of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(of(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Package, AModelComesBack) {
  manual_seed(3);
  const models::MLP model({.inputs = 6, .hidden = 8, .outputs = 4});
  const std::string path = file_named("mlp.tenon");
  const auto fn = [&](const Tensors& in) { return Tensors{model(in[0])}; };
  save(path, fn, {{"x", f32, {"batch", 6}}},
       {.weights = state_dict(model),
        .labels = {"a", "b", "c", "d"},
        .preprocessing = R"({"scale": 0.5})",
        .doc = "a test",
        .licence = "Apache-2.0",
        .metadata = {{"note", "mine"}},
        .outputs = {"logits"}});
  const Package package = load(path);
  package.verify();
  for (const int64_t batch : {1, 2, 9}) {
    const Tensor x = random_like({batch, 6}, 7);
    const NoGrad no_grad;
    expect_equal({model(x)}, package({x}));
    expect_equal({model(x)}, package({x}));  // from the cache of specialised graphs
    expect_equal({model(x)}, {package.run({{"x", x}}).at("logits")});
  }
  EXPECT_THAT(package.functions(), ElementsAre("main"));
  EXPECT_EQ(to_string(package.signature().inputs[0]), "f32[batch, 6]");
  EXPECT_EQ(to_string(package.signature().outputs[0]), "f32[batch, 4]");
  EXPECT_EQ(package.signature().outputs[0].name, "logits");
  EXPECT_THAT(package.labels(), ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(package.preprocessing(), R"({"scale": 0.5})");
  EXPECT_EQ(package.metadata().at("note"), "mine");
  EXPECT_EQ(package.ops().at("matmul"), 1);
  // Any SafeTensors reader sees the weights under the names of the state dict.
  const auto plain = formats::load_safetensors(path);
  for (const auto& [name, tensor] : state_dict(model)) expect_equal({tensor}, {plain.tensors.at(name)});
}

TEST(Package, SeveralFunctionsShareTheirWeights) {
  const Tensor w = random_like({20, 20}, 1);
  const auto forward = capture([&](const Tensors& in) { return Tensors{matmul(in[0], w)}; }, {{"x", f32, {"n", 20}}});
  const auto back =
      capture([&](const Tensors& in) { return Tensors{matmul(in[0], transpose(w))}; }, {{"y", f32, {2, 20}}});
  const std::string path = file_named("two.tenon");
  save(path, std::map<std::string, ir::Graph>{{"encode", forward}, {"main", back}}, {.weights = {{"w", w}}});
  const Package package = load(path);
  EXPECT_THAT(package.functions(), ElementsAre("main", "encode"));
  const Tensor x = random_like({2, 20}, 2);
  expect_equal({matmul(x, w)}, package.run("encode", {x}));
  expect_equal({matmul(x, transpose(w))}, package({x}));
  EXPECT_THAT(error_text([&] { (void)package.graph("encod"); }), HasSubstr("no function of this name"));
  EXPECT_THAT(error_text([&] { (void)package.run({{"z", x}}); }),
              HasSubstr("input 'y' is not given; expected f32[2, 20]"));
  EXPECT_THAT(error_text([&] { (void)package({random_like({3, 20}, 1)}); }),
              HasSubstr("expected f32[2, 20], got f32[3, 20]"));
}

TEST(Package, EveryDtypeSurvivesInConstants) {
  for (const DTypeInfo& row : all_dtypes()) {
    const Tensor x = cast(remainder(arange(60), 3), row.dtype);
    const std::string path = file_named("constant.tenon");
    save(path, [&](const Tensors& in) { return Tensors{x, in[0]}; }, {{"in", f32, {1}}});
    expect_equal({x, zeros({1})}, load(path)({zeros({1})}));
  }
}

TEST(Package, AScanAndACondition) {
  const auto fn = [](const Tensors& in) {
    const auto step = [](const Tensors& carry, const Tensors& x) {
      return ScanStep{{carry[0] + x[0]}, {carry[0] * 2}};
    };
    const auto sums = scan(step, {zeros({3})}, in);
    const Tensors chosen = cond(
        sum(in[0]) > 0.0, [](const Tensors& x) { return Tensors{exp(x[0])}; },
        [](const Tensors& x) { return Tensors{-x[0]}; }, {sums.carry[0]});
    return Tensors{chosen[0], sums.rows[0]};
  };
  const std::string path = file_named("control.tenon");
  save(path, fn, {{"x", f32, {"steps", 3}}});
  const Package package = load(path);
  for (const uint64_t seed : {1, 2, 3}) {
    const Tensor x = random_like({4, 3}, seed);
    expect_equal(fn({x}), package({x}));
  }
}

TEST(Package, SavingRefusesWhatCannotBe) {
  const auto same = [](const Tensors& in) { return in; };
  const std::string path = file_named("refused.tenon");
  EXPECT_THAT(error_text([&] { save(path, same, {{"x", f32, {2}}}, {.preprocessing = "{"}); }), HasSubstr("not JSON"));
  EXPECT_THAT(error_text([&] { save(path, same, {{"x", f32, {2}}}, {.metadata = {{"tenon.x", ""}}}); }),
              HasSubstr("the format's own"));
  int calls = 0;
  const auto fickle = [&](const Tensors& in) { return Tensors{in[0] + static_cast<double>(calls++)}; };
  EXPECT_THAT(error_text([&] { save(path, fickle, {{"x", f32, {2}}}); }),
              HasSubstr("another result 0 than the function"));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_THAT(error_text([&] { save("/nowhere/at/all.tenon", same, {{"x", f32, {2}}}); }),
              HasSubstr("/nowhere/at/all.tenon"));
}

// ---- bytes that are not as they were written ----
class Damaged : public testing::Test {
 protected:
  Damaged() {
    const Tensor w = random_like({5, 5}, 1);
    const std::string path = file_named("good.tenon");
    save(path, [&](const Tensors& in) { return Tensors{relu(matmul(in[0], w)) + 0.5}; }, {{"x", f32, {"n", 5}}},
         {.weights = {{"w", w}}});
    good_ = read_text_file(path);
  }

  static std::string error_of(const std::string& bytes) {
    return error_text([&] { (void)read_package(std::as_bytes(std::span(bytes)), nullptr, "p.tenon"); });
  }

  // The package with other metadata; checksums of texts are made right again.
  [[nodiscard]] std::string with(const std::function<void(Json&)>& change, bool sums = true) const {
    const size_t size = static_cast<unsigned char>(good_[0]) | static_cast<unsigned char>(good_[1]) << 8;
    Json header = Json::parse(good_.substr(8, size));
    Json& metadata = header["__metadata__"];
    change(metadata);
    if (sums && metadata.contains("tenon.sha256")) {
      Json all = Json::parse(metadata["tenon.sha256"].get<std::string>());
      for (const auto& [key, text] : metadata.items()) {
        const auto value = text.get<std::string>();
        if (key != "tenon.sha256") all["texts"][key] = sha256(std::as_bytes(std::span(value)));
      }
      metadata["tenon.sha256"] = all.dump();
    }
    const std::string text = header.dump();
    std::string out;
    for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(text.size() >> (8 * i) & 0xff));
    return out + text + good_.substr(8 + size);
  }
  // The graph's text with one piece replaced.
  [[nodiscard]] std::string graph_with(const std::string& from, const std::string& to) const {
    return with([&](Json& m) {
      const auto text = m["tenon.graph.main"].get<std::string>();
      const std::string changed = std::string(text).replace(text.find(from), from.size(), to);
      m["tenon.graph.main"] = changed;
    });
  }

  std::string good_;
};

TEST_F(Damaged, TheGoodOneIsRead) { EXPECT_EQ(error_of(good_), "no error"); }

TEST_F(Damaged, CutAnywhereItIsRefused) {
  for (size_t part = 0; part < 16; ++part)
    EXPECT_THAT(error_of(good_.substr(0, good_.size() * part / 16)), HasSubstr("p.tenon: ")) << part;
}

TEST_F(Damaged, AFlippedByteIsRefusedOrFoundByVerify) {
  for (size_t at = 0; at < good_.size(); ++at) {
    std::string bytes = good_;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    EXPECT_NE(error_text([&] { read_package(std::as_bytes(std::span(bytes)), nullptr, "p.tenon").verify(); }),
              "no error")
        << at;
  }
}

TEST_F(Damaged, EachWrongTextHasItsError) {
  EXPECT_THAT(error_of(with([](Json& m) { m.erase("tenon.format"); })), HasSubstr("but no package"));
  EXPECT_THAT(error_of(with([](Json& m) { m["tenon.format"] = "2"; })),
              HasSubstr("a newer format than this Tenon reads"));
  EXPECT_THAT(error_of(with([](Json& m) { m["tenon.format"] = "x"; })), HasSubstr("tenon.format is not a number"));
  EXPECT_THAT(error_of(with([](Json& m) { m["tenon.producer"] = "y"; }, false)),
              testing::ContainsRegex("tenon.producer is damaged at byte [0-9]+: its checksum is another"));
  EXPECT_THAT(error_of(with([](Json& m) { m.erase("tenon.graph.main"); })), HasSubstr("has no tenon.graph.main"));
  EXPECT_THAT(error_of(with([](Json& m) { m["tenon.constants"] = "[{\"tensor\":\"v\"}]"; })),
              HasSubstr("the file has no tensor \"v\""));
  EXPECT_THAT(error_of(with([](Json& m) { m["tenon.constants"] = "[[[[[[[[[[[[[[[[[[[[[[["; })),
              HasSubstr("nested too deeply"));
  EXPECT_THAT(error_of(with([](Json& m) { m["tenon.labels"] = "{}"; })),
              HasSubstr("tenon.labels is not a list of texts"));
  const std::string ops = error_of(with([](Json& m) { m["tenon.ops"] = R"({"matmull":1,"frobnicate":1,"relu":9})"; }));
  EXPECT_THAT(ops, HasSubstr("matmull: not known; the nearest is matmul"));
  EXPECT_THAT(ops, HasSubstr("frobnicate: not known"));
  EXPECT_THAT(ops, HasSubstr("relu: version 9 is needed, 1 is here"));
}

TEST_F(Damaged, EachWrongGraphHasItsError) {
  EXPECT_THAT(error_of(graph_with("matmul(", "matmul_(")), HasSubstr("p.tenon: tenon.graph.main: line"));
  EXPECT_THAT(error_of(graph_with("const @0", "const @7")), HasSubstr("the table of constants has no such entry"));
  EXPECT_THAT(error_of(graph_with("f32[5, 5] = const", "i32[5, 5] = const")), HasSubstr("is of another type"));
  EXPECT_THAT(error_of(graph_with("matmul(%0", "matmul(%1")), HasSubstr("tenon.graph.main: "));
  EXPECT_THAT(error_of(graph_with("\"x\": f32[n, 5]", "\"x\": f64[n, 5]")), HasSubstr("different dtypes"));
  EXPECT_THAT(error_of(graph_with("\"x\": f32[n, 5]", "\"x\": f32[n, 6]")), HasSubstr("the op refuses its operands"));
}

}  // namespace
}  // namespace tenon
