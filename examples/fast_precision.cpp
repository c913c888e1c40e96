// A package runs with the bits of an eager run, or faster, with fewer roundings.
#include <tenon/package.h>
#include <tenon/tenon.h>

#include <chrono>
#include <cstdio>
#include <filesystem>

namespace {

struct Net {
  tenon::nn::Conv2d first{3, 32, 3, {.padding = 1, .bias = false}}, second{32, 64, 3, {.padding = 1, .bias = false}};
  tenon::nn::BatchNorm2d norm{32}, other{64};
  tenon::Tensor operator()(const tenon::Tensor& x) const { return relu(other(second(relu(norm(first(x)))))); }
};

}  // namespace

int main() {
  using namespace tenon;
  manual_seed(1);
  Net net;
  net.norm.running_var.set(uniform({32}, 0.5, 2));
  nn::eval(net);
  const std::string path = (std::filesystem::temp_directory_path() / "tenon_fast_precision.tenon").string();
  save(path, [&](const Tensors& in) { return Tensors{net(in[0])}; }, {{"image", f32, {"batch", 3, 64, 64}}});

  const Package strict = load(path), fast = load(path, {.precision = Precision::Fast});
  const Tensor image = normal({4, 3, 64, 64});
  const auto milliseconds = [&](const Package& package) {
    (void)package({image});  // makes it ready
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 10; ++i) (void)package({image});
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count() / 10;
  };
  const Tensor want = net(image), bits = strict({image})[0], near = fast({image})[0];
  std::printf("strict: %.2f ms, differs from the eager run by %g\n", milliseconds(strict),
              max(abs(bits - want)).item<double>());
  std::printf("fast:   %.2f ms, differs from the eager run by %g\n", milliseconds(fast),
              max(abs(near - want)).item<double>());
  std::filesystem::remove(path);
}
