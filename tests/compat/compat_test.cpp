// Packages of every format that ever was: they load, their checksums are right, and they give their results.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/package.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

Tensors read_all(const std::string& stem, const std::string& what) {
  Tensors list;
  for (int i = 0; fs::exists(stem + "." + what + std::to_string(i) + ".npy"); ++i)
    list.push_back(data::to_tensor(data::read_npy(fs::path(stem + "." + what + std::to_string(i) + ".npy"))));
  return list;
}

TEST(Compat, GoldenPackagesGiveTheirResults) {
  size_t packages = 0;
  for (const auto& entry : fs::recursive_directory_iterator(TENON_SOURCE_DIR "/tests/compat")) {
    if (entry.path().extension() != ".tenon") continue;
    SCOPED_TRACE(entry.path().string());
    const Package package = load(entry.path());
    package.verify();
    const std::string stem = entry.path().parent_path() / entry.path().stem();
    const Tensors inputs = read_all(stem, "input"), want = read_all(stem, "output");
    const Tensors got = package(inputs);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i].type(), want[i].type());
      const auto a = got[i].to_vector<double>(), b = want[i].to_vector<double>();
      for (size_t k = 0; k < a.size(); ++k) ASSERT_NEAR(a[k], b[k], 1e-6 * std::max(1.0, std::abs(b[k])));
    }
    ++packages;
  }
  EXPECT_GE(packages, 5U);
}

}  // namespace
}  // namespace tenon
