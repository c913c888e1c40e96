#include "tenon/exec/session.h"

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
  std::mutex mutex;
  std::unordered_map<const ops::OpDef*, std::deque<Prepared>> entries;
};

Session::Session(SessionOptions options)
    : options_(options),
      device_(make_cpu_device({.max_level = options.cpu_level, .built_kernels = options.built_kernels})),
      pool_(std::make_unique<ThreadPool>(options.threads)),
      programs_(std::make_unique<Programs>()),
      plain_calls_(options.reuse && !options.poison && !options.reference) {}
Session::~Session() = default;

namespace detail {
bool same_attrs(const ir::Attrs& a, const ir::Attrs& b) { return a == b; }
}  // namespace detail

const Session::Prepared& Session::prepared(const ops::OpDef& op, std::span<const DType> in, const ir::Attrs& attrs,
                                           DType result) {
  auto key = static_cast<uint64_t>(result);
  for (DType t : in) key = with(key, t);
  auto& recent = recent_[place_of(op, key)];
  if (const Prepared* last = recent.load(std::memory_order_acquire); is(last, op, key, attrs)) return *last;
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

const Session::Prepared& Session::prepared_anew(const ops::OpDef& op, size_t inputs, DType dtype,
                                                const ir::Attrs& attrs, DType result) {
  const InlineVector<DType, 8> in(inputs, dtype);
  return prepared(op, in, attrs, result);
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
