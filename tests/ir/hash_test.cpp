#include "tenon/ir/hash.h"

#include <gtest/gtest.h>

#include "tenon/ir/text.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"
#include "tests/ir/sample_ops.h"

namespace tenon::ir {
namespace {

Hash128 hash_of(std::string_view text, uint32_t seed = 0) {
  Hasher hasher(seed);
  hasher.bytes(std::as_bytes(std::span(text)));
  return hasher.finish();
}

// From the mmh3 package for Python (hash64, which is MurmurHash3_x64_128).
TEST(Hasher, IsMurmurHash3) {
  EXPECT_EQ(to_string(hash_of("")), "00000000000000000000000000000000");
  EXPECT_EQ(to_string(hash_of("a")), "e6b53a48510e895a85555565f6597889");
  EXPECT_EQ(to_string(hash_of("The quick brown fox jumps over the lazy dog")), "7a433ca9c49a9347e34bbc7bbc071b6c");
  EXPECT_EQ(to_string(hash_of("hello world", 42)), "85bdab5e19e59315c05292b747fc78c0");
  std::string bytes;
  for (char c = 0; c < 100; ++c) bytes += c;
  EXPECT_EQ(to_string(hash_of(bytes)), "0fbd6d93c8340799b06f9999c14051ca");
}

TEST(Hasher, PiecesMakeNoDifference) {
  const std::string text = "The quick brown fox jumps over the lazy dog, again and again and again.";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    Hasher hasher;
    hasher.bytes(std::as_bytes(std::span(text).first(cut)));
    hasher.bytes(std::as_bytes(std::span(text).subspan(cut)));
    EXPECT_EQ(hasher.finish(), hash_of(text)) << cut;
  }
}

class GraphHash : public testing::Test {
 protected:
  [[nodiscard]] Hash128 of(std::string_view text, bool extents = true) const {
    return structural_hash(parse(text, ops_.catalog()), ops_.catalog(), {.extents = extents});
  }
  SampleOps ops_;
};

constexpr std::string_view kBase = R"(graph "g" (%0 "x": f32[2, 3], %1: f32[3]) -> (%3) {
  %2: f32[2, 3] = add(%0, %1) in "a" from "b.cpp:1"
  %3: f32[2, 1] = sum(%2) {axes = [1], keepdims = true}
})";

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

TEST_F(GraphHash, NamesAndPlacesDoNotCount) {
  std::string other = replaced(std::string(kBase), "\"g\" ", "");
  other = replaced(other, " \"x\"", " \"y\"");
  other = replaced(other, " in \"a\" from \"b.cpp:1\"", "");
  EXPECT_EQ(of(other), of(kBase));
}

TEST_F(GraphHash, EverythingElseCounts) {
  const Hash128 base = of(kBase);
  const std::string text(kBase);
  EXPECT_NE(of(replaced(text, "%1: f32[3]", "%1: f32[1]")), base) << "shape of an input";
  EXPECT_NE(of(replaced(text, "f32[2, 3] = add", "f64[2, 3] = add")), base) << "dtype of a result";
  EXPECT_NE(of(replaced(text, "add(%0, %1)", "add(%1, %0)")), base) << "order of operands";
  EXPECT_NE(of(replaced(text, "add(%0, %1)", "add(%0, _)")), base) << "an absent operand";
  EXPECT_NE(of(replaced(text, "axes = [1]", "axes = [0]")), base) << "an attribute";
  EXPECT_NE(of(replaced(text, "keepdims = true", "keepdims = false")), base) << "an attribute";
  EXPECT_NE(of(replaced(text, "(%3) {", "(%2) {")), base) << "which value is the output";
  EXPECT_NE(of(replaced(text, "(%3) {", "(%3, %2) {")), base) << "the number of outputs";
}

TEST_F(GraphHash, IsTheSameOnEveryRunAndPlatform) {
  // Written down once: a change breaks every cache and file that is named by the hash.
  EXPECT_EQ(to_string(of(kBase)), "a356e0fe42dd8094d1dd6b61b814e7bc");
}

TEST_F(GraphHash, ExtentsCanBeLeftOut) {
  const std::string other = replaced(std::string(kBase), "f32[2, 3], %1", "f32[4, 3], %1");
  EXPECT_NE(of(other), of(kBase));
  EXPECT_EQ(of(other, false), of(kBase, false));
  EXPECT_NE(of(replaced(std::string(kBase), "%1: f32[3]", "%1: f32[1, 3]"), false), of(kBase, false))
      << "the rank counts";
}

TEST_F(GraphHash, SubgraphsCountByTheirContent) {
  const std::string text = R"(graph (%0: bool[]) -> (%1) {
    %1: f32[] = cond(%0) {then = graph () -> (%0) { %0: f32[] = const {1.0} }, otherwise = none}
  })";
  EXPECT_EQ(of(text), of(text));
  EXPECT_NE(of(replaced(text, "{1.0}", "{2.0}")), of(text));
}

TEST(ContentHash, FollowsElementsNotLayout) {
  const Tensor base = from_vector<int32_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor turned = from_buffer(base.impl()->buffer, {i32, {3, 2}}, {1, 3}, 0);
  EXPECT_EQ(content_hash(turned), content_hash(from_vector<int32_t>({1, 4, 2, 5, 3, 6}, {3, 2})));
  EXPECT_NE(content_hash(turned), content_hash(base));
  EXPECT_NE(content_hash(from_vector<int32_t>({1}, {1})), content_hash(from_vector<int32_t>({1}, {})));
  EXPECT_NE(content_hash(from_vector<int32_t>({0}, {})), content_hash(from_vector<float>({0}, {})));
  EXPECT_NE(content_hash(from_vector<float>({0.0f}, {})), content_hash(from_vector<float>({-0.0f}, {})));
  Tensor a = empty({3}, i4), b = empty({3}, i4);
  for (int i = 0; i < 3; ++i) {
    store_integer(mutable_view(a), i, i - 1);
    store_integer(mutable_view(b), i, i - 1);
  }
  mutable_data(b)[1] |= std::byte{0xf0};  // the unused half of the last byte
  EXPECT_EQ(content_hash(a), content_hash(b));
}

}  // namespace
}  // namespace tenon::ir
