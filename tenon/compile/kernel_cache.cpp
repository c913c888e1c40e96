#include "tenon/compile/kernel_cache.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace tenon::compiler {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

}  // namespace

const std::shared_ptr<KernelCache>& KernelCache::of_process() {
  static const auto cache = std::make_shared<KernelCache>();
  return cache;
}

std::vector<KernelFunction> KernelCache::compile(const std::vector<const Kernel*>& kernels, int level, bool verify,
                                                 ThreadPool& pool, KernelStore& store, CodeCounts& counts) {
  std::vector<Hash128> keys;
  std::vector<Kernel> wanted;
  std::vector<Hash128> wanted_keys;
  const Jit* jit = nullptr;
  {
    const std::lock_guard lock(mutex_);
    Level& state = levels_[level];
    for (const Kernel* k : kernels) {
      Kernel code = without_numbers(*k);
      const auto there = [&](const Hash128& key) {
        return state.known.contains(key) || std::find(wanted_keys.begin(), wanted_keys.end(), key) != wanted_keys.end();
      };
      const Hash128 key = hash(code);
      Kernel twin = code;  // whether results go past the caches is no reason to compile again
      twin.streams = 1 - code.streams;
      const Hash128 twin_key = hash(twin);
      const bool shared = there(key) || there(twin_key);
      keys.push_back(shared && !there(key) ? twin_key : key);
      if (shared) {
        ++counts.shared;
        continue;
      }
      code.name = "k" + to_string(key);
      wanted.push_back(std::move(code));
      wanted_keys.push_back(key);
    }
    if (!wanted.empty() && !state.jit) state.jit = std::make_unique<Jit>(level);
    jit = state.jit.get();
  }
  if (!wanted.empty()) {
    const auto begin = Clock::now();
    std::vector<KernelObject> objects(wanted.size());
    const std::string target = jit->target();
    std::atomic<int64_t> loaded = 0;
    pool.run(static_cast<int64_t>(wanted.size()), [&](int64_t i) {
      const Kernel& kernel = wanted[static_cast<size_t>(i)];
      KernelObject& object = objects[static_cast<size_t>(i)];
      const Hash128 key = store.on() ? KernelStore::key_of(target + '\n' + to_text(kernel)) : Hash128{};
      if (auto bytes = store.load(key)) {
        object = {kernel.name, std::move(*bytes)};
        ++loaded;
      } else {
        object = jit->object_of(kernel, verify);
        store.save(key, object.bytes);
      }
    });
    counts.loaded += loaded;
    counts.compiled += static_cast<int64_t>(objects.size()) - loaded;
    store.trim_now_and_then();
    counts.llvm_seconds += seconds_since(begin);
    const auto linking = Clock::now();
    const std::lock_guard lock(mutex_);
    Level& state = levels_[level];
    // Another thread may have made the same meanwhile.
    std::vector<KernelObject> fresh;
    std::vector<Hash128> fresh_keys;
    for (size_t i = 0; i < objects.size(); ++i) {
      if (state.known.contains(wanted_keys[i])) continue;
      fresh.push_back(std::move(objects[i]));
      fresh_keys.push_back(wanted_keys[i]);
    }
    const auto functions = state.jit->link(fresh);
    for (size_t i = 0; i < functions.size(); ++i) state.known[fresh_keys[i]] = functions[i];
    counts.link_seconds += seconds_since(linking);
  }
  const std::lock_guard lock(mutex_);
  std::vector<KernelFunction> result;
  for (const Hash128& key : keys) result.push_back(levels_[level].known.at(key));
  return result;
}

}  // namespace tenon::compiler
