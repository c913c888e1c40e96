// Models for the server's tests: small ONNX files, and models written in C++ that wait, fail or count.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tenon/serve/model.h"
#include "tests/support/temp_folder.h"

namespace tenon::serve::testing_support {

namespace fs = std::filesystem;

// ---- ONNX in the wire format ----
inline std::string varint(uint64_t v) {
  std::string out;
  for (; v >= 128; v >>= 7) out += static_cast<char>(v | 128);
  return out + static_cast<char>(v);
}
inline std::string bytes_field(int number, const std::string& content) {
  return varint(static_cast<uint64_t>(number) << 3 | 2) + varint(content.size()) + content;
}
inline std::string int_field(int number, uint64_t v) { return varint(static_cast<uint64_t>(number) << 3) + varint(v); }

inline std::string onnx_node(const std::string& op, const std::vector<std::string>& in, const std::string& out) {
  std::string text;
  for (const auto& name : in) text += bytes_field(1, name);
  return bytes_field(1, text + bytes_field(2, out) + bytes_field(4, op));
}
inline std::string onnx_scalar(const std::string& name, float v) {
  std::string raw(4, '\0');
  std::memcpy(raw.data(), &v, 4);
  return bytes_field(5, int_field(2, 1) + bytes_field(8, name) + bytes_field(9, raw));
}
// dims: a number, or -1 for any extent. Element 1 is float, 8 is string.
inline std::string onnx_value(int field, const std::string& name, const std::vector<int64_t>& dims, int element = 1) {
  std::string shape;
  for (int64_t d : dims) shape += bytes_field(1, d < 0 ? bytes_field(2, "N") : int_field(1, static_cast<uint64_t>(d)));
  return bytes_field(
      field, bytes_field(1, name) +
                 bytes_field(2, bytes_field(1, int_field(1, static_cast<uint64_t>(element)) + bytes_field(2, shape))));
}
inline std::string onnx_model(const std::string& graph) {
  return int_field(1, 8) + bytes_field(7, graph) + bytes_field(8, bytes_field(1, "") + int_field(2, 17));
}
// y = factor * x + add, over any batch of shape [N, tail...].
inline std::string affine_onnx(float factor, float add, const std::vector<int64_t>& dims = {-1}) {
  return onnx_model(onnx_node("Mul", {"x", "a"}, "ax") + onnx_node("Add", {"ax", "b"}, "y") + onnx_scalar("a", factor) +
                    onnx_scalar("b", add) + onnx_value(11, "x", dims) + onnx_value(12, "y", dims));
}
inline void write_file(const fs::path& path, const std::string& content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}
// A fresh folder of this test.
inline fs::path fresh_folder(const std::string& name) {
  static std::atomic<int> count{0};
  fs::path path = fs::path(tenon::testing_support::temp_folder()) / (name + std::to_string(++count));
  fs::create_directories(path);
  return path;
}
// What a shell command prints.
inline std::string output_of(const std::string& command) {
  std::string out;
  FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (!pipe) return out;
  char buffer[4096];
  for (size_t n = 0; (n = ::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) out.append(buffer, n);
  ::pclose(pipe);
  return out;
}

// ---- models in C++ ----
// y = x + the number of its version, after `before` has been called.
class FakeModel final : public Model {
 public:
  explicit FakeModel(double add, std::vector<int64_t> dims = {-1, 2}, std::function<void(const Tensor&)> before = {})
      : add_(add), before_(std::move(before)) {
    inputs_ = {{"x", {DType::F32}, true, dims}};
    outputs_ = {{"y", {DType::F32}, true, dims}};
    platform_ = "test";
  }
  std::vector<Value> run(std::vector<Value> inputs) const override {
    const auto& x = std::get<Tensor>(inputs[0]);
    if (before_) before_(x);
    auto values = x.to_vector<float>();
    for (auto& v : values) v += static_cast<float>(add_);
    return {from_vector(values, x.shape())};
  }

 private:
  double add_;
  std::function<void(const Tensor&)> before_;
};

// Something that threads wait for.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void wait_for_waiting(int n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= n; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

inline Tensor rows_of(int64_t n, float value = 0) {
  return from_vector(std::vector<float>(static_cast<size_t>(n * 2), value), {n, 2});
}

// Waits until `condition` holds; false after `patience`, which is long: it is only waited for when a test fails.
inline bool eventually(const std::function<bool()>& condition,
                       std::chrono::milliseconds patience = std::chrono::seconds(60)) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace tenon::serve::testing_support
