// Reflection: which members are found, under which names, in which order; and what a model's functions do with them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <unordered_map>

#include "tenon/base/error.h"
#include "tenon/nn/module.h"

namespace {

using namespace tenon;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Variable cell(std::vector<float> values, bool trainable = true) {
  const auto n = static_cast<int64_t>(values.size());
  return Variable(from_vector(values, {n}), trainable);
}

// A class with a constructor and private members, and the one line.
class Affine {
 public:
  explicit Affine(int64_t width, bool bias = true)
      : weight_(cell(std::vector<float>(static_cast<size_t>(width), 1.f))),
        bias_(bias ? cell(std::vector<float>(static_cast<size_t>(width), 0.f)) : Variable()) {}
  [[nodiscard]] const Variable& weight() const { return weight_; }

 private:
  Variable weight_;
  Variable bias_;

 public:
  using Members = nn::Members<&Affine::weight_, &Affine::bias_>;
};

struct Settings {
  int width = 3;
  std::string name = "x";
  std::vector<std::string> labels;
};

enum class Kind { A, B };

struct Everything {
  Affine plain{2};
  std::vector<Affine> list{Affine(1), Affine(1, false)};
  std::optional<Affine> maybe;
  std::optional<Affine> given{Affine(1, false)};
  std::array<Affine, 2> pair{Affine(1, false), Affine(1, false)};
  Affine raw[2] = {Affine(1, false), Affine(1, false)};
  std::map<std::string, Affine> named{{"b", Affine(1, false)}, {"a", Affine(1, false)}};
  std::unordered_map<std::string, Affine> hashed{{"z", Affine(1, false)}, {"y", Affine(1, false)}};
  std::variant<int, Affine> either{Affine(1, false)};
  std::shared_ptr<Affine> shared = std::make_shared<Affine>(1, false);
  std::shared_ptr<Affine> nothing;
  std::tuple<Affine, int> both{Affine(1, false), 7};
  std::deque<std::vector<Affine>> nested{{Affine(1, false)}, {Affine(1, false), Affine(1, false)}};
  Variable direct = cell({1, 2, 3});
  Variable undefined;
  // None of these hold state.
  Settings settings;
  int number = 3;
  float rate = 0.5f;
  Kind kind = Kind::B;
  std::string text = "text";
  std::function<Tensor(Tensor)> activation = [](Tensor x) { return x; };
  Tensor (*pointer)(Tensor) = nullptr;
  const char* literal = "l";
  std::vector<int> sizes{1, 2};
  std::vector<bool> flags{true};
  std::optional<double> scale;
  Tensor constant = from_vector<float>({1}, {1});
  Shape shape{2, 3};
  const int64_t fixed = 4;
  int grid[2][2] = {};
};

template <class Model>
std::vector<std::string> names(const Model& model) {
  std::vector<std::string> result;
  nn::for_each_variable(model, [&result](std::string_view path, Variable&) { result.emplace_back(path); });
  return result;
}

TEST(Reflect, FindsEveryVariableInOrder) {
  EXPECT_THAT(names(Everything{}),
              ElementsAre("plain.weight", "plain.bias", "list.0.weight", "list.0.bias", "list.1.weight", "given.weight",
                          "pair.0.weight", "pair.1.weight", "raw.0.weight", "raw.1.weight", "named.a.weight",
                          "named.b.weight", "hashed.y.weight", "hashed.z.weight", "either.weight", "shared.weight",
                          "both.0.weight", "nested.0.0.weight", "nested.1.0.weight", "nested.1.1.weight", "direct"));
}

TEST(Reflect, LocalStructsAndSingleValues) {
  struct Local {
    Affine first{1, false};
    std::unique_ptr<Affine> owned = std::make_unique<Affine>(1, false);
  };
  EXPECT_THAT(names(Local{}), ElementsAre("first.weight", "owned.weight"));
  EXPECT_THAT(names(Affine(1)), ElementsAre("weight", "bias"));
  EXPECT_THAT(names(std::vector<Affine>{Affine(1)}), ElementsAre("0.weight", "0.bias"));
  EXPECT_THAT(names(cell({1})), ElementsAre(""));
  struct Empty {};
  EXPECT_THAT(names(Empty{}), IsEmpty());
}

struct Tree {
  Variable value = cell({1});
  std::vector<Tree> children;
};
struct Ring {
  Variable value = cell({1});
  std::shared_ptr<Ring> next;
};

TEST(Reflect, RecursiveStructsAndCycles) {
  Tree tree;
  tree.children.resize(2);
  tree.children[1].children.resize(1);
  EXPECT_THAT(names(tree), ElementsAre("value", "children.0.value", "children.1.value", "children.1.children.0.value"));

  auto ring = std::make_shared<Ring>();
  ring->next = std::make_shared<Ring>();
  ring->next->next = ring;
  EXPECT_THAT(names(ring), ElementsAre("value", "next.value"));
  ring->next.reset();
}

struct Wide {
  int a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, c0, c1, c2, c3, c4, c5, c6, c7,
      c8, c9, d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, e0, e1, e2, e3, e4, e5, e6, e7, e8, e9, f0, f1, f2, f3, f4, f5,
      f6, f7, f8, f9, g0, g1, g2, g3, g4, g5, g6, g7, g8, g9;
  Variable last = cell({1});
};
struct Arrays {
  int before;
  double table[3][2];
  Affine layers[3] = {Affine(1), Affine(1), Affine(1)};
  Settings settings[2];
  int after;
};

TEST(Reflect, CountsMembers) {
  using nn::reflect::arity;
  EXPECT_EQ(arity<Settings>, 3u);
  EXPECT_EQ(arity<Wide>, 71u);
  EXPECT_EQ(arity<Arrays>, 5u);
  EXPECT_EQ(arity<Everything>, 30u);
  EXPECT_THAT(names(Wide{}), ElementsAre("last"));
  EXPECT_THAT(nn::reflect::member_names<Arrays>, ElementsAre("before", "table", "layers", "settings", "after"));
}

TEST(Reflect, TypeNames) {
  EXPECT_EQ(nn::reflect::short_type_name<Settings>(), "Settings");
  EXPECT_EQ(nn::reflect::short_type_name<std::vector<Settings>>(), "vector");
  EXPECT_EQ(nn::reflect::type_name<int>(), "int");
}

// A foreign type without the line.
class Opaque {
 public:
  explicit Opaque(int value) : value_(value) {}
  [[nodiscard]] int value() const { return value_; }

 private:
  int value_;
};
}  // namespace
template <>
inline constexpr bool tenon::nn::is_configuration<Opaque> = true;
namespace {

TEST(Reflect, DeclaredConfigurationIsSkipped) {
  struct Net {
    Opaque opaque{3};
    Affine layer{1, false};
  };
  EXPECT_THAT(names(Net{}), ElementsAre("layer.weight"));
}

// ---- what the functions of a model do --------------------------------------------------------

struct Tied {
  Affine embed{2, false};
  Affine head = embed;  // the same cells
  Variable count = cell({5}, /*trainable=*/false);
};

std::vector<float> elements(const Tensor& tensor) { return tensor.to_vector<float>(); }
std::vector<float> values(const Variable& variable) { return elements(variable.cell()->value); }

TEST(Module, ParametersAndBuffersListEachCellOnce) {
  const Tied model;
  EXPECT_EQ(parameters(model).size(), 1u);
  EXPECT_EQ(buffers(model).size(), 1u);
  EXPECT_EQ(named_parameters(model)[0].name, "embed.weight");
  EXPECT_EQ(named_buffers(model)[0].name, "count");
  EXPECT_EQ(num_parameters(model), 2);
  EXPECT_EQ(model.embed.weight().name(), "embed.weight") << "listing names the cells, for messages";
}

TEST(Module, SharedWeightsAreSavedOnceAndLoadedUnderAnyName) {
  const Tied model;
  EXPECT_THAT(state_dict(model).keys(), ElementsAre("embed.weight", "count"));
  load_state_dict(model, {{"head.weight", from_vector<float>({7, 8}, {2})}, {"count", from_vector<float>({1}, {1})}});
  EXPECT_THAT(values(model.embed.weight()), ElementsAre(7, 8));
  // As PyTorch writes it, under both names.
  const Tensor both = from_vector<float>({1, 2}, {2});
  load_state_dict(model, {{"embed.weight", both}, {"head.weight", both}, {"count", from_vector<float>({1}, {1})}});
  EXPECT_THAT(values(model.head.weight()), ElementsAre(1, 2));
}

TEST(Module, StateDictRoundTrip) {
  const Everything a, b;
  for (const auto& v : nn::named_variables(a)) {
    Variable copy = v.variable;
    copy.set(from_vector(std::vector<float>(static_cast<size_t>(numel(copy.shape())), 9.f), copy.shape()));
  }
  load_state_dict(b, state_dict(a));
  for (const auto& v : nn::named_variables(b)) EXPECT_THAT(values(v.variable), testing::Each(9.f)) << v.name;
}

TEST(Module, CloneHasItsOwnCellsAndKeepsSharing) {
  const Tied model;
  const Tied copy = clone(model);
  EXPECT_FALSE(copy.embed.weight() == model.embed.weight());
  EXPECT_TRUE(copy.embed.weight() == copy.head.weight());
  EXPECT_EQ(num_parameters(copy), 2);
  load_state_dict(copy, {{"embed.weight", from_vector<float>({3, 4}, {2})}, {"count", from_vector<float>({1}, {1})}});
  EXPECT_THAT(values(model.embed.weight()), ElementsAre(1, 1));
}

TEST(Module, CloneCopiesSharedTargets) {
  struct Net {
    std::shared_ptr<Affine> a = std::make_shared<Affine>(1, false);
    std::shared_ptr<Affine> b = a;
  };
  const Net model;
  const Net copy = clone(model);
  EXPECT_NE(copy.a, model.a);
  EXPECT_EQ(copy.a, copy.b);
  EXPECT_FALSE(copy.a->weight() == model.a->weight());
  EXPECT_THAT(values(copy.a->weight()), ElementsAre(1));
}

struct Moody {
  nn::Mode mode;
  std::vector<nn::Mode> more{nn::Mode(), nn::Mode()};
};

TEST(Module, TrainAndEvalReachEveryMode) {
  const Moody model;
  const Moody same = model;  // a copy follows the same switch
  nn::eval(model);
  EXPECT_FALSE(same.mode.training());
  EXPECT_FALSE(model.more[1].training());
  const Moody copy = clone(model);
  nn::train(copy);
  EXPECT_TRUE(copy.more[0].training());
  EXPECT_FALSE(model.more[0].training());
}

TEST(Module, FreezeAndZeroGrad) {
  const Tied model;
  parameters(model)[0].set_grad(from_vector<float>({1, 1}, {2}));
  nn::zero_grad(model);
  EXPECT_FALSE(model.embed.weight().grad().defined());
  nn::freeze(model.embed);
  EXPECT_THAT(parameters(model), IsEmpty());
  EXPECT_EQ(buffers(model).size(), 2u);
}

TEST(Module, Summary) {
  const std::string text = summary(Tied{});
  EXPECT_THAT(text, HasSubstr("embed  Affine"));
  EXPECT_THAT(text, HasSubstr("weight [2] (shared)"));
  EXPECT_THAT(text, HasSubstr("2 parameters, 1 in buffers, 12 bytes"));
}

// ---- wrong weights ------------------------------------------------------------------------------

struct Pair {
  Affine fc1{2};
  Affine fc2{3, false};
};
Tensor zeros_of(int64_t n) { return from_vector(std::vector<float>(static_cast<size_t>(n)), {n}); }
StateDict good() { return {{"fc1.weight", zeros_of(2)}, {"fc1.bias", zeros_of(2)}, {"fc2.weight", zeros_of(3)}}; }

template <class E>
std::string error_of(const Pair& model, const StateDict& dict, const nn::LoadOptions& options = {}) {
  const StateDict before = state_dict(model);
  std::string text = "no error";
  try {
    load_state_dict(model, dict, options);
  } catch (const E& error) {
    text = error.what();
  }
  const StateDict after = state_dict(model);
  for (const StateDict::Entry& entry : after) {
    const Tensor& old = before.at(entry.first);
    EXPECT_EQ(elements(entry.second), elements(old)) << "an error must change nothing";
  }
  return text;
}

TEST(LoadStateDict, MissingKey) {
  StateDict dict = good();
  dict.erase("fc2.weight");
  const std::string text = error_of<ValueError>({}, dict);
  EXPECT_THAT(text, HasSubstr("load_state_dict: the weights do not fit the model (1 missing: \"fc2.weight\")"));
  EXPECT_THAT(text, HasSubstr("{.strict = false}"));
}

TEST(LoadStateDict, UnexpectedKey) {
  StateDict dict = good();
  dict.set("fc3.weight", zeros_of(1));
  EXPECT_THAT(error_of<ValueError>({}, dict), HasSubstr("1 unexpected: \"fc3.weight\""));
}

TEST(LoadStateDict, MisspeltKeySuggestsTheNearest) {
  StateDict dict = good();
  dict.erase("fc1.bias");
  dict.set("fc1.bais", zeros_of(2));
  const std::string text = error_of<ValueError>({}, dict);
  EXPECT_THAT(text, HasSubstr("1 missing: \"fc1.bias\"; 1 unexpected: \"fc1.bais\""));
  EXPECT_THAT(text, HasSubstr("try: rename \"fc1.bais\" to \"fc1.bias\""));
}

TEST(LoadStateDict, WrongShape) {
  StateDict dict = good();
  dict.set("fc1.weight", zeros_of(5));
  EXPECT_THAT(error_of<ShapeError>({}, dict), HasSubstr("\"fc1.weight\" is f32[2], got f32[5]"));
}

TEST(LoadStateDict, WrongShapeEvenWhenNotStrict) {
  StateDict dict;
  dict.set("fc1.weight", zeros_of(5));
  EXPECT_THAT(error_of<Error>({}, dict, {.strict = false}), HasSubstr("got f32[5]"));
}

TEST(LoadStateDict, WrongRank) {
  StateDict dict = good();
  dict.set("fc1.weight", from_vector<float>({1, 2}, {1, 2}));
  EXPECT_THAT(error_of<ShapeError>({}, dict), HasSubstr("got f32[1, 2]"));
}

TEST(LoadStateDict, WrongDType) {
  StateDict dict = good();
  dict.set("fc1.weight", from_vector<int64_t>({1, 2}, {2}));
  EXPECT_THAT(error_of<ValueError>({}, dict), HasSubstr("\"fc1.weight\" is f32[2], got i64[2]"));
}

TEST(LoadStateDict, UndefinedTensor) {
  StateDict dict = good();
  dict.set("fc1.weight", Tensor());
  EXPECT_THAT(error_of<ValueError>({}, dict), HasSubstr("got no value"));
}

TEST(LoadStateDict, EmptyDict) {
  EXPECT_THAT(error_of<ValueError>({}, {}), HasSubstr("3 missing: \"fc1.weight\", \"fc1.bias\", \"fc2.weight\""));
}

TEST(LoadStateDict, ManyProblemsAreShortened) {
  StateDict dict = good();
  for (const char* name : {"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8"}) dict.set(name, zeros_of(1));
  const std::string text = error_of<ValueError>({}, dict);
  EXPECT_THAT(text, HasSubstr("9 unexpected: \"x0\", \"x1\", \"x2\", \"x3\", \"x4\" and 4 more"));
}

TEST(LoadStateDict, EverythingIsSaidAtOnce) {
  StateDict dict;
  dict.set("fc1.weight", zeros_of(4));
  dict.set("fc2.weights", zeros_of(3));
  const std::string text = error_of<ValueError>({}, dict);
  EXPECT_THAT(text, HasSubstr("2 missing"));
  EXPECT_THAT(text, HasSubstr("1 unexpected"));
  EXPECT_THAT(text, HasSubstr("1 of another type"));
}

TEST(LoadStateDict, NotStrictReports) {
  StateDict dict = good();
  dict.erase("fc2.weight");
  dict.set("extra", zeros_of(1));
  const Pair model;
  const nn::LoadResult result = load_state_dict(model, dict, {.strict = false});
  EXPECT_THAT(result.missing, ElementsAre("fc2.weight"));
  EXPECT_THAT(result.unexpected, ElementsAre("extra"));
  EXPECT_THAT(values(model.fc1.weight()), ElementsAre(0, 0));
}

TEST(StateDict, FindsSetsAndErases) {
  StateDict dict = good();
  EXPECT_EQ(dict.size(), 3u);
  EXPECT_TRUE(dict.contains("fc1.bias"));
  EXPECT_EQ(dict.find("nothing"), nullptr);
  dict.set("fc1.bias", zeros_of(7));
  EXPECT_EQ(dict.size(), 3u);
  EXPECT_EQ(dict["fc1.bias"].size(), 7);
  EXPECT_TRUE(dict.erase("fc1.bias"));
  EXPECT_FALSE(dict.erase("fc1.bias"));
  EXPECT_THAT(dict.keys(), ElementsAre("fc1.weight", "fc2.weight"));
}

TEST(StateDict, UnknownKeyNamesTheNearest) {
  try {
    (void)good().at("fc1.wieght");
    FAIL() << "no error";
  } catch (const IndexError& error) {
    EXPECT_THAT(error.what(), HasSubstr("no tensor is named \"fc1.wieght\""));
    EXPECT_THAT(error.what(), HasSubstr("\"fc1.weight\""));
  }
}

}  // namespace
