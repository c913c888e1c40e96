// Writes the golden packages of this release into a new folder: small models that use what the format has.
#include <cstdio>
#include <string>

#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/package.h"
#include "tenon/tenon.h"

namespace {

using namespace tenon;

Tensor numbers(const Shape& shape, uint64_t seed) { return uniform(shape, -1, 1, f32, random_key(seed)); }

void write(const std::string& folder, const std::string& name, const trace::Function& fn,
           const std::vector<InputSpec>& specs, const Tensors& inputs, const SaveOptions& options = {}) {
  const NoGrad no_grad;
  save(folder + "/" + name + ".tenon", fn, specs, options);
  const auto put = [&](const std::string& what, const Tensors& xs) {
    for (size_t i = 0; i < xs.size(); ++i)
      data::write_npy(folder + "/" + name + "." + what + std::to_string(i) + ".npy", data::to_host(contiguous(xs[i])));
  };
  put("input", inputs);
  put("output", fn(inputs));
}

// [[1, 2], [3, 4]]
std::string json(const Tensor& x) {
  if (x.ndim() == 0) return std::to_string(x.item<double>());
  std::string text = "[";
  for (int64_t i = 0; i < x.shape(0); ++i) text += (i > 0 ? ", " : "") + json(x[i]);
  return text + "]";
}

void write_all(const std::string& folder) {
  manual_seed(1);
  const Tensor w1 = numbers({5, 4}, 1), w2 = numbers({4, 5}, 2), b = numbers({20}, 3);
  const auto mlp = [&](const Tensors& in) {
    return Tensors{relu(matmul(tanh(matmul(in[0], transpose(w1))), transpose(w2)) + 0.25) * slice(b, {0}, {4}, {8})};
  };
  const Tensor x = numbers({3, 4}, 4);
  write(folder, "mlp", mlp, {{"x", f32, {"batch", 4}}}, {x},
        {.weights = {{"fc1.weight", w1}, {"fc2.weight", w2}},
         .labels = {"a", "b", "c", "d"},
         .preprocessing = R"({"scale": 0.5})",
         .doc = "two layers",
         .licence = "Apache-2.0",
         .outputs = {"scores"}});
  write_file_atomic(folder + "/mlp.inputs.json", "[" + json(x) + "]\n");
  write_file_atomic(folder + "/mlp.outputs.json", "[" + json(mlp({x})[0]) + "]\n");

  models::GPT gpt({.vocabulary = 7, .context = 8, .layers = 1, .heads = 2, .width = 4});
  nn::eval(gpt);
  write(folder, "gpt", [&](const Tensors& in) { return Tensors{gpt(in[0])}; },
        {{"tokens", i64, {"batch", Dim("seq", 1, 8)}}}, {reshape(remainder(arange(12), 7), {2, 6})},
        {.weights = state_dict(gpt), .outputs = {"logits"}});

  const nn::Conv2d conv(1, 2, 3, {.stride = {2}, .padding = {1}});
  nn::BatchNorm2d norm(2);
  nn::eval(norm);
  write(folder, "conv",
        [&](const Tensors& in) {
          const Tensor y = max_pool2d(relu(norm(conv(in[0]))), {2});
          return Tensors{flatten(y, 1), mean(y, {2, 3})};
        },
        {{"image", f32, {"batch", 1, "height", 8}}}, {numbers({2, 1, 9, 8}, 6)}, {.outputs = {"flat", "mean"}});

  const auto control = [](const Tensors& in) {
    const auto step = [](const Tensors& carry, const Tensors& row) {
      return ScanStep{{carry[0] * 0.5 + row[0]}, {carry[0]}};
    };
    const ScanStep sums = scan(step, {zeros({3})}, {in[0]});
    const Tensors chosen = cond(
        sum(in[0]) > 0.0, [](const Tensors& v) { return Tensors{exp(v[0])}; },
        [](const Tensors& v) { return Tensors{-v[0]}; }, {sums.carry[0]});
    return Tensors{chosen[0], sums.rows[0]};
  };
  write(folder, "control", control, {{"x", f32, {"steps", 3}}}, {numbers({5, 3}, 8)});

  const Tensor packed = cast(remainder(arange(40), 7) - 3, i4), half = cast(numbers({40}, 9), bf16);
  write(folder, "dtypes",
        [&](const Tensors& in) {
          return Tensors{in[0] * cast(packed, f32), cast(half, f32) + in[0], argmax(in[0], 0), in[0] > 0.0};
        },
        {{"x", f32, {40}}}, {numbers({40}, 10)});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_compat_goldens FOLDER\n");
    return 2;
  }
  try {
    std::filesystem::create_directories(argv[1]);
    write_all(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
