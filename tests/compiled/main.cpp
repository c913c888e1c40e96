// main() of the test programs test_ROOM_compiled: the tests of test_ROOM, each within a recording, so that every op
// that they call is recorded, fused and run as a compiled program until somebody looks at a value.
// What a recording changes by design is left out by name in CMakeLists.txt.
#include <gtest/gtest.h>

#include <memory>

#include "tenon/compile/engine.h"

namespace {

class Recorded final : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& /*test*/) override {
    engine_ = std::make_unique<tenon::compiler::Engine>(tenon::CompileOptions{.verify = true});
    recording_ = std::make_unique<tenon::compiler::Recording>(*engine_);
  }
  void OnTestEnd(const testing::TestInfo& /*test*/) override {
    recording_.reset();
    engine_.reset();
  }
  std::unique_ptr<tenon::compiler::Engine> engine_;
  std::unique_ptr<tenon::compiler::Recording> recording_;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new Recorded);  // gtest deletes it
  return RUN_ALL_TESTS();
}
