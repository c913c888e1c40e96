// The rows of scripts/bench: one process for one row, which runs when it is told to, so that a peer's process can take
// turns with it.
//
//   rows_bench --list
//   rows_bench ROW THREADS FOLDER
//
// Makes the row's inputs (weights, data), writes them to FOLDER/inputs.safetensors and what it computes from them to
// FOLDER/tenon.safetensors, prints one JSON line, and then answers each line "N" of its input with the seconds of N
// runs: {"seconds": […]}. A line "profile" is answered by a run's table of ops and kernels. bench/run.py talks to it;
// bench/peers/torch_rows.py speaks the same. To add a row: a line in rows(), one in torch_rows.py.
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "tenon/compile.h"
#include "tenon/exec/program.h"
#include "tenon/formats/onnx/export.h"
#include "tenon/formats/safetensors.h"
#include "tenon/models/bert.h"
#include "tenon/models/mobilenet_v2.h"
#include "tenon/models/resnet50.h"
#include "tenon/tenon.h"
#include "tenon/trace/lazy.h"

namespace {

using namespace tenon;

double seconds_of(const std::function<void()>& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Case {
  StateDict inputs = {};
  StateDict results = {};     // a peer must compute the same
  std::function<void()> run;  // once
  int inner = 1;              // `run` does the thing so many times
  double bytes = 0;           // that must move, for rows that are bound by memory
  nlohmann::json more = nlohmann::json::object();
};
struct Row {
  std::string name;
  std::function<Case(const std::string& folder)> make;
};

Tensor labels(int64_t n, int64_t classes) { return remainder(arange(n) * 7, classes); }

// ---- training steps ------------------------------------------------------------------------
enum class Update : uint8_t { Sgd, Adam };

template <class Model>
Case training(std::shared_ptr<Model> model, const Tensor& input, const Tensor& label, Update update, bool compiled,
              int inner = 1, DType precision = f32) {
  Case c;
  c.inputs = nn::state_dict(*model);
  c.inputs.set("input", input);
  c.inputs.set("label", label);
  std::shared_ptr<optim::AnyOptimizer> optimizer;
  if (update == Update::Sgd) {
    optimizer = std::make_shared<optim::AnyOptimizer>(optim::SGD(parameters(*model), {.lr = 0.01, .momentum = 0.9}));
  } else {
    optimizer = std::make_shared<optim::AnyOptimizer>(optim::Adam(parameters(*model), optim::AdamOptions{.lr = 1e-3}));
  }
  const auto step = [=] {
    (*optimizer)->zero_grad();
    Tensor loss;
    {
      const Autocast scope(precision == f32 ? bf16 : precision, precision != f32);
      Tensor logits = (*model)(input);
      const int64_t classes = logits.shape(-1);
      loss = cross_entropy(reshape(std::move(logits), {-1, classes}), reshape(label, {-1}));
    }
    loss.backward();
    (*optimizer)->step();
    return loss;
  };
  std::function<Tensor()> run = step;
  std::shared_ptr<Compiled<std::decay_t<decltype(step)>>> fast;
  if (compiled) {
    fast = std::make_shared<Compiled<std::decay_t<decltype(step)>>>(compile(step));
    run = [fast] { return (*fast)(); };
  }
  Tensors losses;
  for (int i = 0; i < 3; ++i) {
    const double seconds = seconds_of([&] { losses.push_back(run().detach()); });
    if (i == 0) c.more["first_seconds"] = seconds;
  }
  if (fast) {
    const Explanation e = fast->explain();
    const compiler::ProgramReport& last = e.programs.back();
    c.more["peak_bytes"] = last.peak_bytes;
    c.more["arena_bytes"] = last.arena_bytes;
    c.more["recomputed"] = last.recomputed;
  }
  c.results.set("losses", stack(losses));
  c.inner = inner;
  c.run = [run, inner] {
    for (int i = 0; i < inner; ++i) (void)run().item();
  };
  return c;
}

Case mlp(Update update, bool compiled) {
  return training(std::make_shared<models::MLP>(models::MLPConfig{64, 64, 10}), uniform({16, 64}, -1, 1),
                  labels(16, 10), update, compiled, 50);
}
Case lenet(bool compiled) {
  return training(std::make_shared<models::LeNet>(), uniform({64, 1, 28, 28}, 0, 1), labels(64, 10), Update::Sgd,
                  compiled);
}
Case resnet18(bool compiled) {
  return training(std::make_shared<models::ResNet18>(models::ResNetConfig{3, 10, true}),
                  uniform({64, 3, 32, 32}, -1, 1), labels(64, 10), Update::Sgd, compiled);
}
// Convolutions of channels by themselves; without dropout, so that a peer can follow.
Case mobilenetv2(bool compiled) {
  auto model = std::make_shared<models::MobileNetV2>(100);
  std::get<0>(model->classifier) = nn::Dropout(0);
  return training(std::move(model), uniform({16, 3, 112, 112}, -1, 1), labels(16, 100), Update::Sgd, compiled);
}
Case gpt2(bool compiled, DType precision) {
  const Tensor tokens = remainder(reshape(arange(4 * 256) * 31, {4, 256}), 50257);
  return training(std::make_shared<models::GPT>(models::GPTConfig{.context = 256}), tokens,
                  reshape(labels(4 * 256, 50257), {4, 256}), Update::Sgd, compiled, 1, precision);
}
// A smaller one, of the shape of nanoGPT's CPU configuration.
Case gpt_small(bool compiled) {
  const Tensor tokens = remainder(reshape(arange(12 * 64) * 31, {12, 64}), 65);
  return training(std::make_shared<models::GPT>(
                      models::GPTConfig{.vocabulary = 65, .context = 64, .layers = 4, .heads = 4, .width = 128}),
                  tokens, reshape(labels(12 * 64, 65), {12, 64}), Update::Sgd, compiled);
}

// ---- single ops ----------------------------------------------------------------------------
// What the peer is asked for: the first rows of the result.
Tensor part(const Tensor& y) { return y.ndim() == 0 || y.shape(0) <= 16 ? y : narrow(y, 0, 0, 16); }

// In place of what is bound by memory, a copy by the same threads: bytes are read once and written once.
double copy_seconds(double bytes) {
  const auto half = static_cast<size_t>(bytes / 2);
  static std::vector<std::byte> from(half, std::byte{1}), to(half, std::byte{2});
  constexpr size_t kPart = 1 << 20;
  const auto parts = static_cast<int64_t>((half + kPart - 1) / kPart);
  return seconds_of([&] {
    exec::session().pool().run(parts, [&](int64_t p) {
      const size_t begin = static_cast<size_t>(p) * kPart;
      std::memcpy(to.data() + begin, from.data() + begin, std::min(kPart, half - begin));
    });
  });
}

Case op(StateDict inputs, const std::function<Tensor()>& call, double bytes = 0, int inner = 1) {
  Case c;
  c.inputs = std::move(inputs);
  auto fast = std::make_shared<Compiled<std::function<Tensor()>>>(compile(call));
  c.results.set("y", contiguous(part((*fast)())));
  c.run = [fast, inner] {
    for (int i = 0; i < inner; ++i) (void)(*fast)();
  };
  c.inner = inner;
  c.bytes = bytes;
  return c;
}

StateDict dict(std::initializer_list<std::pair<const char*, Tensor>> entries) {
  StateDict d;
  for (const auto& [name, tensor] : entries) d.set(name, tensor);
  return d;
}

Case rows_of(const std::string& what, int64_t rows, int64_t columns, int inner = 1) {
  const Tensor x = normal({rows, columns});
  const double size = 4.0 * static_cast<double>(rows) * static_cast<double>(columns);
  if (what == "softmax") return op(dict({{"x", x}}), [=] { return softmax(x, -1); }, 2 * size, inner);
  const Tensor w = uniform({columns}, 0.5, 1.5), b = normal({columns});
  if (what == "layer_norm")
    return op(dict({{"x", x}, {"w", w}, {"b", b}}), [=] { return layer_norm(x, w, b); }, 2 * size, inner);
  if (what == "gelu_bias") return op(dict({{"x", x}, {"b", b}}), [=] { return gelu(x + b); }, 2 * size, inner);
  const Tensor y = labels(rows, columns);
  return op(dict({{"x", x}, {"y", y}}), [=] { return cross_entropy(x, y); }, size, inner);
}

// The peers get numbers of bf16 in f32.
Case matmul_row(int64_t m, int64_t n, int64_t k, DType dtype) {
  const Tensor a = cast(normal({m, k}), dtype), b = cast(normal({k, n}), dtype);
  Case c = op(dict({{"a", cast(a, f32)}, {"b", cast(b, f32)}}), [=] { return matmul(a, b); });
  c.results.set("y", cast(c.results["y"], f32));
  c.more["flops"] = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  return c;
}

// Convolutions of channels by themselves on row-major tensors.
struct Depthwise {
  int64_t images, channels, size, window, stride;
};
Case depthwise_row(const Depthwise& p) {
  const Tensor x = normal({p.images, p.channels, p.size, p.size}), w = normal({p.channels, 1, p.window, p.window});
  const ConvOptions options{.stride = {p.stride}, .padding = {p.window / 2}, .groups = p.channels};
  Case c = op(dict({{"x", x}, {"w", w}}), [=] { return conv2d(x, w, {}, options); });
  const int64_t out = p.size / p.stride;
  c.more["flops"] = 2.0 * static_cast<double>(p.images * p.channels * out * out * p.window * p.window);
  return c;
}

Case adam_10m() {
  Case c;
  const Variable p(normal({10'000'000}), true, "p");
  const Tensor gradient = normal({10'000'000});
  c.inputs = dict({{"p", p.value().detach()}, {"g", gradient}});
  auto optimizer = std::make_shared<optim::Adam>(std::vector<Variable>{p}, optim::AdamOptions{.lr = 1e-3});
  auto step = compile([=] {
    Variable(p).set_grad(gradient);
    optimizer->step();
  });
  for (int i = 0; i < 3; ++i) step();
  c.results.set("y", contiguous(narrow(p.value().detach(), 0, 0, 1000)));
  c.run = [step]() mutable { step(); };
  c.bytes = 7 * 4e7;  // p, m and v in and out, g in
  return c;
}

Case attention_4k(DType dtype) {
  const auto variable = [dtype] { return std::make_shared<Variable>(cast(normal({1, 8, 4096, 64}), dtype)); };
  const auto q = variable(), k = variable(), v = variable();
  Case c;
  const auto given = [](const auto& x) { return cast(x->value().detach(), f32); };
  c.inputs = dict({{"q", given(q)}, {"k", given(k)}, {"v", given(v)}});
  const auto run = [=] {
    for (const auto& x : {q, k, v}) x->zero_grad();
    sum(scaled_dot_product_attention(*q, *k, *v, {}, {.causal = true})).backward();
  };
  run();
  c.results.set("y", cast(contiguous(narrow(q->grad(), 2, 0, 100)), f32));
  c.run = run;
  return c;
}

Case eager_add_8() {
  const Tensor a = uniform({8}, 0, 1), b = uniform({8}, 0, 1);
  Case c;
  c.inputs = dict({{"a", a}, {"b", b}});
  c.results.set("y", a + b);
  c.inner = 1000;
  c.run = [=] {
    for (int i = 0; i < 1000; ++i) (void)(a + b);
  };
  return c;
}

// Recording alone: nobody wants the results, so that nothing is compiled or run.
Case record_op() {
  class Nothing final : public trace::LazyEngine {
    Tensors run(trace::Segment&) override { return {}; }
  };
  const Tensor x = uniform({8}, 0, 1);
  Case c;
  c.inputs = dict({{"a", x}});
  c.results.set("y", x);
  c.inner = 1000;
  c.run = [=] {
    Nothing engine;
    trace::LazyRecorder recorder(engine);
    Tensor y = x;
    for (int i = 0; i < 1000; ++i) y = y + x;
  };
  return c;
}

struct Numbers {
  DType dtype = f32;
  Precision precision = Precision::Strict;
};

// Inference as a package runs it. The peers get the model in f32 and use bf16 where they are told to.
Case inference(const char* name, const Tensor& input, const StateDict& weights,
               const std::function<Tensors(const Tensors&)>& forward, Numbers numbers, const std::string& folder) {
  const NoGrad no_grad;
  const std::vector<InputSpec> inputs{InputSpec(name, TensorType{input.dtype(), input.shape()})};
  formats::onnx::export_model(folder + "/model.onnx", capture(forward, inputs), {.weights = weights});
  const Autocast scope(bf16, numbers.dtype == bf16);
  const auto program = std::make_shared<const exec::Program>(
      std::make_shared<const ir::Graph>(capture(forward, inputs)), nullptr, numbers.precision);
  Case c;
  c.inputs = dict({{name, input}});
  c.results.set("y", cast(contiguous(program->run({input})[0]), f32));
  c.run = [program, input] { (void)program->run({input}); };
  return c;
}

// Of u8 with constant i8, as dynamically quantised models have.
Case matmul_i8_row(int64_t m, int64_t n, int64_t k, const std::string& folder) {
  const Tensor weight = randint(-128, 128, {k, n}, i8);
  Case c = inference(
      "a", randint(0, 256, {m, k}, u8), {}, [&](const Tensors& in) { return Tensors{matmul_integer(in[0], weight)}; },
      {}, folder);
  c.more["flops"] = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  return c;
}

// One image of u8 with constant u8 weights, which ONNX Runtime takes five times faster than i8, without zero points,
// padded to its own size.
struct Convolved {
  int64_t size, channels, filters, window;
};
Case conv_i8_row(const Convolved& p, const std::string& folder) {
  const Tensor weight = randint(0, 256, {p.filters, p.channels, p.window, p.window}, u8);
  Case c = inference(
      "x", randint(0, 256, {1, p.channels, p.size, p.size}, u8), {},
      [&](const Tensors& in) { return Tensors{convolution_integer(in[0], weight, {}, {.padding = {p.window / 2}})}; },
      {}, folder);
  c.more["flops"] = 2.0 * static_cast<double>(p.size * p.size * p.filters * p.channels * p.window * p.window);
  return c;
}

// The same by compile(fn), from the model as it is.
Case compiled_inference(const char* name, const Tensor& input, const std::function<Tensors(const Tensors&)>& forward) {
  const auto fast = std::make_shared<Compiled<std::function<Tensors(const Tensors&)>>>(compile(forward));
  const auto run = [fast, input] {
    const NoGrad no_grad;
    return (*fast)(Tensors{input});
  };
  Case c;
  c.inputs = dict({{name, input}});
  (void)run();  // what is packed is kept from the second run on
  c.results.set("y", contiguous(run()[0]));
  c.run = [run] { (void)run(); };
  return c;
}
Case compiled_bert(int64_t tokens) {
  const auto model = std::make_shared<models::Bert>(models::BertConfig{});
  nn::eval(*model);
  const Tensor ids = remainder(reshape(arange(tokens) * 37, {1, tokens}), 30522);
  return compiled_inference("ids", ids, [model](const Tensors& in) { return Tensors{(*model)(in[0]).hidden}; });
}
template <class Model>
Case compiled_vision(int64_t n) {
  const auto model = std::make_shared<Model>();
  nn::eval(*model);
  return compiled_inference("image", normal({n, 3, 224, 224}),
                            [model](const Tensors& in) { return Tensors{(*model)(in[0])}; });
}

Case bert(int64_t tokens, Numbers numbers, const std::string& folder) {
  const models::Bert model(models::BertConfig{});
  nn::eval(model);
  const Tensor ids = remainder(reshape(arange(tokens) * 37, {1, tokens}), 30522);
  return inference(
      "ids", ids, nn::state_dict(model), [&](const Tensors& in) { return Tensors{model(in[0]).hidden}; }, numbers,
      folder);
}

// Running statistics as they might be, not zeros and ones, which a peer could drop.
template <class Model>
Case vision(int64_t n, Numbers numbers, const std::string& folder) {
  Model model;
  for (auto& [name, variable] : nn::named_buffers(model)) {
    if (name.ends_with("running_mean")) variable.set(uniform(variable.shape(), -0.1, 0.1));
    if (name.ends_with("running_var")) variable.set(uniform(variable.shape(), 0.5, 1.5));
  }
  nn::eval(model);
  return inference(
      "image", normal({n, 3, 224, 224}), nn::state_dict(model),
      [&](const Tensors& in) { return Tensors{model(in[0])}; }, numbers, folder);
}

std::vector<Row> rows() {
  std::vector<Row> list{
      {"eager_add_8", [](auto&) { return eager_add_8(); }},
      {"record_op", [](auto&) { return record_op(); }},
      {"mlp_step_sgd", [](auto&) { return mlp(Update::Sgd, false); }},
      {"mlp_step_adam", [](auto&) { return mlp(Update::Adam, false); }},
      {"mlp_step_sgd_compiled", [](auto&) { return mlp(Update::Sgd, true); }},
      {"mlp_step_adam_compiled", [](auto&) { return mlp(Update::Adam, true); }},
      {"mobilenetv2_b1_compiled", [](auto&) { return compiled_vision<models::MobileNetV2>(1); }},
      {"resnet50_b1_compiled", [](auto&) { return compiled_vision<models::ResNet50>(1); }},
      {"bert_base_128_compiled", [](auto&) { return compiled_bert(128); }},
      {"lenet_step", [](auto&) { return lenet(true); }},
      {"lenet_step_eager", [](auto&) { return lenet(false); }},
      {"resnet18_step", [](auto&) { return resnet18(true); }},
      {"resnet18_step_eager", [](auto&) { return resnet18(false); }},
      {"mobilenetv2_step", [](auto&) { return mobilenetv2(true); }},
      {"mobilenetv2_step_eager", [](auto&) { return mobilenetv2(false); }},
      {"gpt_small_step", [](auto&) { return gpt_small(true); }},
      {"gpt_small_step_eager", [](auto&) { return gpt_small(false); }},
      {"gpt2_small_step", [](auto&) { return gpt2(true, f32); }},
      {"gpt2_small_step_bf16", [](auto&) { return gpt2(true, bf16); }},
      {"adam_10m", [](auto&) { return adam_10m(); }},
      {"attention_4k", [](auto&) { return attention_4k(f32); }},
      {"attention_4k_bf16", [](auto&) { return attention_4k(bf16); }},
  };
  for (const Numbers numbers : {Numbers{}, {bf16}, {f32, Precision::Fast}, {bf16, Precision::Fast}}) {
    const std::string end =
        std::string(numbers.dtype == bf16 ? "_bf16" : "") + (numbers.precision == Precision::Fast ? "_fast" : "");
    for (const int64_t n : {1, 8})
      list.push_back({fmt::format("resnet50_b{}{}", n, end),
                      [=](auto& folder) { return vision<models::ResNet50>(n, numbers, folder); }});
    for (const int64_t tokens : {128, 384})
      list.push_back(
          {fmt::format("bert_base_{}{}", tokens, end), [=](auto& folder) { return bert(tokens, numbers, folder); }});
    if (numbers.dtype == f32)
      list.push_back(
          {"mobilenetv2_b1" + end, [=](auto& folder) { return vision<models::MobileNetV2>(1, numbers, folder); }});
  }
  for (const char* what : {"softmax", "layer_norm", "cross_entropy", "gelu_bias"}) {
    list.push_back({what, [what](auto&) { return rows_of(what, 8192, 4096); }});
    list.push_back({fmt::format("{}_cached", what), [what](auto&) { return rows_of(what, 64, 512, 20); }});
  }
  struct Product {
    int64_t m, n, k;
  };
  // Squares, then BERT's (128 tokens) and ResNet-50's (1 x 1 convolutions at 56 x 56 and 14 x 14).
  for (const Product p : {Product{256, 256, 256},
                          {512, 512, 512},
                          {1024, 1024, 1024},
                          {2048, 2048, 2048},
                          {128, 768, 768},
                          {128, 3072, 768},
                          {128, 768, 3072},
                          {3136, 64, 256},
                          {196, 1024, 256}})
    list.push_back(
        {fmt::format("matmul_f32_{}x{}x{}", p.m, p.n, p.k), [p](auto&) { return matmul_row(p.m, p.n, p.k, f32); }});
  for (const Product p : {Product{1024, 1024, 1024},
                          {128, 3072, 768},
                          {128, 768, 3072},
                          {3136, 64, 64},
                          {49, 512, 4608},
                          {1, 4096, 4096}})
    list.push_back(
        {fmt::format("matmul_bf16_{}x{}x{}", p.m, p.n, p.k), [p](auto&) { return matmul_row(p.m, p.n, p.k, bf16); }});
  for (const Product p : {Product{1024, 1024, 1024}, {128, 3072, 768}, {128, 768, 3072}, {384, 768, 768}})
    list.push_back({fmt::format("matmul_i8_{}x{}x{}", p.m, p.n, p.k),
                    [p](auto& folder) { return matmul_i8_row(p.m, p.n, p.k, folder); }});
  // ResNet-50's.
  for (const Convolved p : {Convolved{56, 64, 64, 3}, {28, 128, 128, 3}, {14, 256, 256, 3}, {14, 256, 1024, 1}})
    list.push_back(
        {fmt::format("conv_i8_{}x{}_{}to{}_{}x{}", p.size, p.size, p.channels, p.filters, p.window, p.window),
         [p](auto& folder) { return conv_i8_row(p, folder); }});
  for (const Depthwise p : {Depthwise{16, 144, 28, 3, 1}, {8, 144, 56, 3, 1}, {8, 144, 56, 5, 1}, {16, 96, 56, 3, 2}})
    list.push_back(
        {fmt::format("depthwise_{}x{}_{}_{}x{}_by{}", p.size, p.size, p.channels, p.window, p.window, p.stride),
         [p](auto&) { return depthwise_row(p); }});
  return list;
}

int answer(const Row& row, const std::string& folder) {
  manual_seed(1);
  Case c = row.make(folder);
  formats::save_safetensors(folder + "/inputs.safetensors", c.inputs);
  formats::save_safetensors(folder + "/tenon.safetensors", c.results);
  c.inputs = {};
  c.more["ready"] = true;
  c.more["bytes"] = c.bytes;
  std::cout << c.more.dump() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "profile") {
      Profiler profiler;
      c.run();
      std::cout << to_table(profiler.stop(), {.by_shape = true}) << std::endl;
      continue;
    }
    nlohmann::json seconds = nlohmann::json::array(), copies = nlohmann::json::array();
    for (int i = 0; i < std::stoi(line); ++i) {
      seconds.push_back(seconds_of(c.run) / c.inner);
      if (c.bytes > 1e8) copies.push_back(copy_seconds(c.bytes));
    }
    std::cout << nlohmann::json{{"seconds", seconds}, {"copy_seconds", copies}}.dump() << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto list = rows();
  if (argc == 2 && std::string(argv[1]) == "--list") {
    for (const auto& row : list) fmt::print("{}\n", row.name);
    return 0;
  }
  if (argc != 4) {
    fmt::print(stderr, "usage: rows_bench --list | ROW THREADS FOLDER\n");
    return 2;
  }
  set_num_threads(std::stoi(argv[2]));
  for (const auto& row : list) {
    if (row.name == argv[1]) return answer(row, argv[3]);
  }
  fmt::print(stderr, "there is no row '{}'; --list names them\n", argv[1]);
  return 2;
}
