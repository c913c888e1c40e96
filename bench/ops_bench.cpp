// Eager ops, one call at a time. Prints a JSON object: for each name the median, smallest and largest seconds of a
// call, and a checksum that bench/ops.py compares with the peer's.
//
//   ops_bench THREADS FOLDER     reads its inputs from FOLDER/inputs.safetensors, which bench/ops.py writes
//
// To add a measurement: a line here and one in peers/torch_ops.py, with the same name.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "tenon/exec/session.h"
#include "tenon/formats/safetensors.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/index.h"
#include "tenon/ops/linalg.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/pooling.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"

using namespace tenon;

namespace {

struct Measurement {
  const char* name;
  std::function<Tensor()> call;
};

// Enough calls for 0.2 s, at least 5.
nlohmann::json measure(const Measurement& m) {
  const Tensor first = m.call();
  std::vector<double> seconds;
  double total = 0;
  while (seconds.size() < 5 || (total < 0.2 && seconds.size() < 10000)) {
    const auto begin = std::chrono::steady_clock::now();
    const Tensor y = m.call();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    total += seconds.back();
  }
  std::sort(seconds.begin(), seconds.end());
  const double checksum = mean(cast(first, f64)).item();
  return {{"median", seconds[seconds.size() / 2]},
          {"least", seconds.front()},
          {"most", seconds.back()},
          {"checksum", checksum}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: ops_bench THREADS FOLDER\n");
    return 2;
  }
  set_num_threads(std::stoi(argv[1]));
  const auto in = formats::load_safetensors(std::string(argv[2]) + "/inputs.safetensors").tensors;
  const Tensor small = in["small"], row = in["row"], a = in["square"], b = in["square2"], wide = in["wide"],
               index = in["index"], image = in["image"], kernel = in["kernel"], q = in["q"], spd = in["spd"];
  const std::vector<Measurement> measurements{
      {"add_small", [&] { return small + small; }},
      {"matmul_small", [&] { return matmul(small, small); }},
      {"add", [&] { return a + b; }},
      {"add_row", [&] { return wide + row; }},
      {"exp", [&] { return exp(a); }},
      {"gelu", [&] { return gelu(a); }},
      {"where", [&] { return where(a > 0, a, b); }},
      {"transpose_add", [&] { return transpose(a) + b; }},
      {"cast_bf16", [&] { return cast(a, bf16); }},
      {"sum", [&] { return sum(a); }},
      {"sum_rows", [&] { return sum(wide, {1}); }},
      {"sum_columns", [&] { return sum(wide, {0}); }},
      {"argmax", [&] { return argmax(wide, 1); }},
      {"softmax", [&] { return softmax(wide); }},
      {"layer_norm", [&] { return layer_norm(wide, row, row); }},
      {"cumsum", [&] { return cumsum(wide, 1); }},
      {"sort", [&] { return sort(wide, 1).values; }},
      {"topk", [&] { return topk(wide, 10, 1).values; }},
      {"unique", [&] { return unique(index).values; }},
      {"take", [&] { return embedding(wide, select(index, 0, 0)); }},
      {"take_along_axis", [&] { return take_along_axis(a, index, 0); }},
      {"mask", [&] { return set(a, {a < 0}, 0); }},
      {"concat", [&] { return concat({a, b}, 1); }},
      {"pad", [&] { return pad(a, {3, 3}, {3, 3}); }},
      {"contiguous_transpose", [&] { return contiguous(transpose(a)); }},
      {"normal", [&] { return normal({1024, 1024}); }},
      {"dropout", [&] { return dropout(a, 0.1); }},
      {"matmul", [&] { return matmul(a, b); }},
      {"conv2d", [&] { return conv2d(image, kernel, {}, {.padding = {1}}); }},
      {"max_pool2d", [&] { return max_pool2d(image, {2}); }},
      {"attention", [&] { return scaled_dot_product_attention(q, q, q, {}, {.causal = true}); }},
      {"cholesky", [&] { return cholesky(spd); }},
      {"svd", [&] { return singular_values(spd); }},
  };
  nlohmann::json result;
  manual_seed(0);
  for (const auto& m : measurements) result[m.name] = measure(m);
  fmt::print("{}\n", result.dump());
}
