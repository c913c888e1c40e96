// What another library answers, kept in a SafeTensors file that a script of tools/goldens made (see peer.py there).
//
//   CASE/in0 CASE/in1 …    the inputs
//   CASE/out0 …            the other library's results
//   CASE/ct0 …             cotangents of the results, and
//   CASE/grad0 …           its gradients with respect to the inputs (absent for an input without one)
//
//   Goldens goldens(TENON_SOURCE_DIR "/tests/ops/goldens/torch_elementwise.safetensors");
//   goldens.check("relu", [](const Tensors& x) -> Tensors { return {relu(x[0])}; });
//   goldens.expect_all_checked();
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tenon/formats/safetensors.h"
#include "tenon/trace/transforms.h"

namespace tenon::test {

class Goldens {
 public:
  explicit Goldens(const std::string& path) {
    for (auto& [name, tensor] : formats::load_safetensors(path).tensors) {
      tensors_.emplace(name, tensor);
      left_.insert(name.substr(0, name.rfind('/')));
    }
  }

  // The numbered tensors of a case up to the first that is missing, or `count` of them, the missing ones undefined.
  [[nodiscard]] Tensors list(const std::string& name, const std::string& kind, size_t count = SIZE_MAX) const {
    Tensors out;
    for (size_t i = 0; i < count; ++i) {
      const auto found = tensors_.find(name + "/" + kind + std::to_string(i));
      if (found == tensors_.end() && count == SIZE_MAX) break;
      out.push_back(found == tensors_.end() ? Tensor() : found->second);
    }
    return out;
  }

  // fn's results and gradients against the file's: |a - b| <= tolerance * (1 + |b|), NaN equal to NaN.
  void check(const std::string& name, const trace::Function& fn, double tolerance = 2e-5) {
    SCOPED_TRACE(name);
    ASSERT_EQ(left_.erase(name), 1U) << "the file has no such case, or it was checked before";
    const Tensors in = list(name, "in"), expected = list(name, "out");
    const Tensors ct = list(name, "ct"), grads = list(name, "grad", in.size());
    // Differentiated with respect to the inputs that the other library gave a gradient for.
    std::vector<size_t> wanted;
    for (size_t i = 0; i < grads.size(); ++i)
      if (grads[i].defined()) wanted.push_back(i);
    Tensors points;
    for (const size_t i : wanted) points.push_back(in[i]);
    const auto result = vjp(
        [&](const Tensors& x) {
          Tensors all = in;
          for (size_t k = 0; k < wanted.size(); ++k) all[wanted[k]] = x[k];
          return fn(all);
        },
        points);
    ASSERT_EQ(result.outputs.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i)
      near("out" + std::to_string(i), result.outputs[i], expected[i], tolerance);
    if (wanted.empty()) return;
    const Tensors got = result.pullback(ct);
    for (size_t k = 0; k < wanted.size(); ++k)
      near("grad" + std::to_string(wanted[k]), got[k], grads[wanted[k]], tolerance);
  }

  // Every case of the file has been asked for: none is forgotten when the script gets a new one.
  void expect_all_checked() const {
    for (const auto& name : left_) ADD_FAILURE() << "the case '" << name << "' of the file is not checked";
  }

  static void near(const std::string& what, const Tensor& got, const Tensor& expected, double tolerance) {
    ASSERT_TRUE(got.defined()) << what;
    ASSERT_EQ(got.shape(), expected.shape()) << what;
    const auto a = got.to_vector<double>(), b = expected.to_vector<double>();
    for (size_t i = 0; i < a.size(); ++i) {
      const bool same = a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]));
      if (same || std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(b[i]))) continue;
      ADD_FAILURE() << what << " differs at element " << i << ": " << a[i] << ", expected " << b[i];
      return;
    }
  }

 private:
  std::map<std::string, Tensor> tensors_;
  std::set<std::string> left_;
};

}  // namespace tenon::test
