#include "tenon/exec/session.h"

#include <array>
#include <atomic>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "tenon/device/cpu/cpu_device.h"
#include "tenon/ops/infer.h"

namespace tenon::exec {

// Programs are few (ops × dtypes), so a list per op is searched linearly. Entries never move or die
// before the session does, which is what makes handing out references safe.
struct Session::Programs {
  // What was asked for lately, by a few bits of the op and its dtypes: found without a lock.
  std::array<std::atomic<const Prepared*>, 256> recent{};
  std::mutex mutex;
  std::unordered_map<const ops::OpDef*, std::deque<Prepared>> entries;
};

Session::Session(SessionOptions options)
    : options_(options),
      device_(make_cpu_device({.max_level = options.cpu_level, .built_kernels = options.built_kernels})),
      pool_(std::make_unique<ThreadPool>(options.threads)),
      programs_(std::make_unique<Programs>()) {}
Session::~Session() = default;

const Session::Prepared& Session::prepared(const ops::OpDef& op, std::span<const DType> in, const ir::Attrs& attrs,
                                           DType result) {
  uint64_t key = static_cast<uint64_t>(result);
  for (DType t : in) key = key * 32 + static_cast<uint64_t>(t) + 1;
  auto& recent = programs_->recent[((reinterpret_cast<uintptr_t>(&op) >> 4) ^ key * 11) % 256];
  if (const Prepared* last = recent.load(std::memory_order_acquire);
      last != nullptr && last->op == &op && last->dtypes == key && last->attrs == attrs)
    return *last;
  const std::lock_guard lock(programs_->mutex);
  auto& list = programs_->entries[&op];
  for (const auto& entry : list) {
    if (entry.dtypes == key && entry.attrs == attrs) {
      recent.store(&entry, std::memory_order_release);
      return entry;
    }
  }
  ir::ScalarProgram program = ops::build_program(op, in, attrs, result);
  auto kernel = device_->prepare(program);
  list.push_back({&op, key, attrs, std::move(program), std::move(kernel)});
  recent.store(&list.back(), std::memory_order_release);
  return list.back();
}

namespace {

std::unique_ptr<Session>& default_session() {
  static std::unique_ptr<Session> session = std::make_unique<Session>();
  return session;
}
// The session that a SessionScope put in force on this thread.
thread_local constinit Session* current = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

}  // namespace

Session& session() { return current != nullptr ? *current : *default_session(); }

SessionScope::SessionScope(Session& session) : previous_(std::exchange(current, &session)) {}
SessionScope::~SessionScope() { current = previous_; }

}  // namespace tenon::exec

namespace tenon {

void set_num_threads(int threads) {
  exec::SessionOptions options = exec::default_session()->options();
  options.threads = threads;
  exec::default_session() = std::make_unique<exec::Session>(options);
}
int num_threads() { return exec::session().pool().threads(); }

}  // namespace tenon
