// Session: where and how ops are evaluated. A device, a thread pool, and the switches that tests turn.
//
// The process has one default session; a SessionScope puts another in force on this thread. Nothing else
// in Tenon is ambient, except the scopes of trace/ (gradient recording, capture, vmap), which are per thread too.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "tenon/base/thread_pool.h"
#include "tenon/device/device.h"
#include "tenon/ops/opdef.h"

namespace tenon::exec {

struct SessionOptions {
  int threads = 0;            // 0: one for each CPU this process may use
  bool reuse = true;          // results may take the buffer of an input that is dead
  bool poison = false;        // overwrite a buffer that was (or would have been) reused, and fresh memory
  bool claims = true;         // false: every op by its own meaning, never by a device's faster kernel
  int cpu_level = 4;          // the highest CPU level to use (device/cpu/cpu_device.h); results are the same bits
  bool built_kernels = true;  // false: no elementwise kernels that were made when Tenon was built; the same bits
  bool reference = false;     // everything by the reference evaluator: slow, the oracle of the tests
};

namespace detail {
bool same_attrs(const ir::Attrs& a, const ir::Attrs& b);
}  // namespace detail

class Session {
 public:
  explicit Session(SessionOptions options = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] const SessionOptions& options() const { return options_; }
  [[nodiscard]] Device& device() { return *device_; }
  [[nodiscard]] ThreadPool& pool() { return *pool_; }
  // Whether calls may go the short way of evaluate_plain: nothing is to be done in another way than usual.
  [[nodiscard]] bool plain_calls() const { return plain_calls_; }
  // The scalar program of an elementwise call, built once for each combination of op, dtypes and attributes.
  const ir::ScalarProgram& program(const ops::OpDef& op, std::span<const DType> in, const ir::Attrs& attrs,
                                   DType result) {
    return prepared(op, in, attrs, result).program;
  }
  // With what the device makes of it.
  struct Prepared {
    const ops::OpDef* op;
    uint64_t dtypes;
    ir::Attrs attrs;
    ir::ScalarProgram program;
    std::unique_ptr<ElementwiseKernel> kernel;
  };
  const Prepared& prepared(const ops::OpDef& op, std::span<const DType> in, const ir::Attrs& attrs, DType result);
  // The same when all inputs are of one dtype.
  const Prepared& prepared(const ops::OpDef& op, size_t inputs, DType dtype, const ir::Attrs& attrs, DType result) {
    auto key = static_cast<uint64_t>(result);
    for (size_t i = 0; i < inputs; ++i) key = with(key, dtype);
    const Prepared* last = recent_[place_of(op, key)].load(std::memory_order_acquire);
    if (is(last, op, key, attrs)) [[likely]]
      return *last;
    return prepared_anew(op, inputs, dtype, attrs, result);
  }

 private:
  struct Programs;
  const Prepared& prepared_anew(const ops::OpDef& op, size_t inputs, DType dtype, const ir::Attrs& attrs, DType result);
  static constexpr size_t kRecent = 256;
  static size_t place_of(const ops::OpDef& op, uint64_t key) {
    return ((reinterpret_cast<uintptr_t>(&op) >> 4) ^ key * 11) % kRecent;
  }
  static uint64_t with(uint64_t key, DType dtype) { return key * 32 + static_cast<uint64_t>(dtype) + 1; }
  static bool is(const Prepared* entry, const ops::OpDef& op, uint64_t key, const ir::Attrs& attrs) {
    return entry != nullptr && entry->op == &op && entry->dtypes == key &&
           ((entry->attrs.empty() && attrs.empty()) || detail::same_attrs(entry->attrs, attrs));
  }
  SessionOptions options_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Programs> programs_;
  // What was asked for lately, by a few bits of the op and its dtypes: found without a lock.
  std::array<std::atomic<const Prepared*>, kRecent> recent_{};
  bool plain_calls_;
};

// The session in force on this thread.
Session& session();

// Puts a session in force on this thread while it lives.
class SessionScope {
 public:
  explicit SessionScope(Session& session);
  ~SessionScope();
  SessionScope(const SessionScope&) = delete;
  SessionScope& operator=(const SessionScope&) = delete;

 private:
  Session* previous_;
};

}  // namespace tenon::exec

namespace tenon {
// Threads of the default session from now on (0: one for each CPU). Results do not depend on it. Not to be
// called while other threads compute.
void set_num_threads(int threads);
int num_threads();
}  // namespace tenon
