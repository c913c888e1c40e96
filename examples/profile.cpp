// Where does the time of a training step go? A table for the eye, a trace file for chrome://tracing or ui.perfetto.dev.
#include <tenon/tenon.h>

#include <cstdio>
#include <filesystem>

using namespace tenon;

int main() {
  manual_seed(1);
  const models::LeNet model;
  auto optimizer = optim::Adam(parameters(model), {.lr = 1e-3});
  const Tensor images = normal({64, 1, 28, 28}), labels = zeros({64}, i64);

  Profiler profiler;  // records what this thread runs until stop()
  for (int i = 0; i < 3; ++i) {
    profile_span("step", [&] {
      optimizer.zero_grad();
      cross_entropy(model(images), labels).backward();
      optimizer.step();
    });
  }
  const Profile profile = profiler.stop();

  std::printf("%s", to_table(profile, {.most_rows = 12}).c_str());
  std::printf("\nby layer:\n%s", to_table(profile, {.by_layer = true, .most_rows = 8}).c_str());
  const auto path = std::filesystem::temp_directory_path() / "tenon-lenet-trace.json";
  save_chrome_trace(profile, path);
  std::filesystem::remove(path);

  double flops = 0;
  for (const ProfileEvent& e : profile.events) flops += e.name == "conv" && e.kind == "op" ? e.flops : 0;
  std::printf("forward convolutions: %.1f MFLOP\n", flops / 1e6);
  return flops > 0 ? 0 : 1;
}
