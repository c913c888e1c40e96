// Machine code in memory and on disk: shared, found again, and no fault of a folder changes a result.
#include "tenon/compile/kernel_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "../support/temp_folder.h"
#include "tenon/compile.h"
#include "tenon/compile/kernel_cache.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;
using compiler::CodeCounts;
using compiler::Kernel;
using compiler::KernelCache;
using compiler::KernelStore;
using testing::HasSubstr;

// The other tests of this program must not write to the home of whoever runs them.
class OwnCacheFolder : public testing::Environment {
  void SetUp() override { ::setenv("XDG_CACHE_HOME", (testing_support::temp_folder() + "/xdg").c_str(), 1); }
};
[[maybe_unused]] const auto* const own_cache = testing::AddGlobalTestEnvironment(new OwnCacheFolder);

// y[i] = x[i] * factor + i-th of b.
Kernel kernel_of(double factor, int64_t n = 100) {
  Kernel k = compiler::parse_kernel(
      "kernel \"k\" (b0: f32[100], b1: f32[100], out b2: f32[100]) {\n  for i0 in 100 parallel vec {\n"
      "    %0: f32 = load b0[i0]\n    %1: f32 = const " +
      std::to_string(factor) +
      "\n    %2: f32 = mul %0, %1\n    %3: f32 = load b1[i0]\n    %4: f32 = add %2, %3\n    store b2[i0], %4\n  "
      "}\n}\n");
  k.root.extent = n;
  for (auto& b : k.buffers) b.size = n;
  return k;
}

// What the kernel gives when its code comes through this store and a memory cache that knows nothing.
CodeCounts run(KernelStore& store, double factor) {
  KernelCache cache;
  CodeCounts counts;
  const Kernel k = kernel_of(factor);
  ThreadPool pool(1);
  const auto f = cache.compile({&k}, 2, true, pool, store, counts)[0];
  std::vector<float> x(100), b(100), y(100), want(100);
  std::iota(x.begin(), x.end(), 1.F);
  std::iota(b.begin(), b.end(), -7.F);
  for (size_t i = 0; i < 100; ++i) want[i] = x[i] * static_cast<float>(factor) + b[i];
  std::byte* const buffers[] = {reinterpret_cast<std::byte*>(x.data()), reinterpret_cast<std::byte*>(b.data()),
                                reinterpret_cast<std::byte*>(y.data())};
  f(buffers, numbers_of(k).data(), 0, 100);
  EXPECT_EQ(y, want);
  return counts;
}

std::string fresh_folder() {
  static int number = 0;
  return testing_support::temp_folder() + "/cache" + std::to_string(++number);
}
std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}
std::string only_warning(const KernelStore& store) {
  const auto warnings = store.warnings();
  EXPECT_EQ(warnings.size(), 1U);
  return warnings.empty() ? "" : warnings.begin()->first;
}

TEST(KernelCache, KernelsThatDifferInNumbersShareCode) {
  KernelStore off({.on = false});
  KernelCache cache;
  CodeCounts counts;
  ThreadPool pool(2);
  const Kernel a = kernel_of(2, 100), b = kernel_of(2, 7), c = kernel_of(3, 7);
  const auto f = cache.compile({&a, &b, &c}, 2, true, pool, off, counts);
  EXPECT_EQ(f[0], f[1]);
  EXPECT_NE(f[0], f[2]);
  EXPECT_EQ(counts.compiled, 2);
  EXPECT_EQ(cache.compile({&c, &b}, 2, true, pool, off, counts)[1], f[0]);
  EXPECT_EQ(counts.compiled, 2);
  EXPECT_EQ(counts.shared, 3);
}

TEST(KernelCache, IsOneForTheProcess) {
  const auto f = [](const Tensor& x) { return sin(x * 3.25) + x; };
  const CompileOptions no_disk{.disk = {.on = false}};
  auto first = compile(f, no_disk), second = compile(f, no_disk);
  const Tensor x = uniform({40});
  const Tensor a = first(x), b = second(x);
  EXPECT_EQ(a.to_vector<float>(), b.to_vector<float>());
  EXPECT_EQ(first.explain().programs[0].code.compiled, 1);
  EXPECT_EQ(second.explain().programs[0].code.compiled, 0);
  EXPECT_EQ(second.explain().compilations, 0);
}

TEST(KernelStore, ALaterProcessFindsTheCode) {
  const std::string folder = fresh_folder();
  {
    KernelStore store({.folder = folder});
    EXPECT_EQ(run(store, 2).compiled, 1);
  }
  KernelStore store({.folder = folder});
  const CodeCounts counts = run(store, 2);
  EXPECT_EQ(counts.compiled, 0);
  EXPECT_EQ(counts.loaded, 1);
  EXPECT_EQ(run(store, 4).compiled, 1) << "another kernel";
  EXPECT_TRUE(store.warnings().empty());
  EXPECT_EQ(files_in(folder).size(), 2U);
}

TEST(KernelStore, CanBeOff) {
  KernelStore store({.on = false, .folder = fresh_folder()});
  EXPECT_FALSE(store.on());
  EXPECT_EQ(run(store, 2).compiled, 1);
  EXPECT_EQ(run(store, 2).compiled, 1);
}

TEST(KernelStore, UsesTheCacheFolderOfTheUser) {
  KernelStore store({});
  EXPECT_EQ(run(store, 5.5).compiled, 1);
  EXPECT_EQ(files_in(std::string(std::getenv("XDG_CACHE_HOME")) + "/tenon/kernels").empty(), false);
}

// Each way in which a file can be wrong: the right answer, a counted warning, and a good file afterwards.
TEST(KernelStore, DamagedFilesAreMadeAnew) {
  const struct {
    const char* warning;
    std::function<void(std::string&)> damage;
  } cases[] = {
      {"is damaged", [](std::string& s) { s[s.size() / 2] = static_cast<char>(s[s.size() / 2] ^ 1); }},
      {"is damaged", [](std::string& s) { s.resize(s.size() - 1); }},
      {"is damaged", [](std::string& s) { s += "more"; }},
      {"is too short", [](std::string& s) { s.resize(20); }},
      {"is too short", [](std::string& s) { s.clear(); }},
      {"was written by another version", [](std::string& s) { s[13] = '0'; }},
  };
  for (const auto& c : cases) {
    const std::string folder = fresh_folder();
    KernelStore store({.folder = folder});
    run(store, 2);
    const fs::path path = files_in(folder).at(0);
    std::stringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    std::string bytes = text.str();
    c.damage(bytes);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    EXPECT_EQ(run(store, 2).compiled, 1);
    EXPECT_THAT(only_warning(store), HasSubstr(c.warning));
    EXPECT_EQ(run(store, 2).loaded, 1) << "a good file is there again";
  }
}

TEST(KernelStore, AFileOfAnotherKernelIsNotBelieved) {
  const std::string folder = fresh_folder();
  KernelStore store({.folder = folder});
  run(store, 2);
  const fs::path two = files_in(folder).at(0);
  run(store, 3);
  for (const auto& path : files_in(folder)) {
    if (path != two) fs::copy_file(two, path, fs::copy_options::overwrite_existing);
  }
  EXPECT_EQ(run(store, 3).compiled, 1);
  EXPECT_THAT(only_warning(store), HasSubstr("is damaged"));
}

TEST(KernelStore, AFolderThatCannotBeMadeIsAWarning) {
  const std::string file = testing_support::temp_folder() + "/a-file";
  std::ofstream(file) << "x";
  KernelStore store({.folder = file + "/below"});
  EXPECT_EQ(run(store, 2).compiled, 1);
  EXPECT_EQ(run(store, 2).compiled, 1);
  int64_t times = 0;
  for (const auto& [what, n] : store.warnings()) {
    EXPECT_THAT(what, HasSubstr("kernel cache: cannot"));
    times += n;
  }
  EXPECT_EQ(times, 4) << "reading and writing, twice";
}

TEST(KernelStore, AFolderThatCannotBeWrittenIsAWarning) {
  KernelStore store({.folder = "/proc/self"});
  EXPECT_EQ(run(store, 2).compiled, 1);
  EXPECT_THAT(only_warning(store), HasSubstr("cannot write in /proc/self"));
}

// A write that the system refuses half-way, as on a full disk. The signal that comes with it is nobody's end.
TEST(KernelStore, AFullDiskIsAWarning) {
  const std::string folder = fresh_folder();
  KernelStore store({.folder = folder});
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{64, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_EQ(run(store, 2).compiled, 1);
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(only_warning(store), HasSubstr("cannot write in"));
  EXPECT_TRUE(files_in(folder).empty()) << "nothing half is left";
  EXPECT_EQ(run(store, 2).compiled, 1);
  EXPECT_EQ(run(store, 2).loaded, 1);
}

TEST(KernelStore, WhatWasUsedLeastRecentlyGoes) {
  const std::string folder = fresh_folder();
  KernelStore store({.folder = folder, .most_bytes = 12288});
  const std::vector<std::byte> bytes(300);  // a block of 4096 each
  const auto key = [](int i) { return KernelStore::key_of(std::to_string(i)); };
  const auto age = [&](int i, int hours) {
    fs::last_write_time(folder + "/" + to_string(key(i)) + ".kernel",
                        fs::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  for (int i = 0; i < 4; ++i) {
    store.save(key(i), bytes);
    age(i, 10 - i);
  }
  std::ofstream(folder + "/killed.draft") << "x";
  fs::last_write_time(folder + "/killed.draft", fs::file_time_type::clock::now() - std::chrono::hours(5));
  EXPECT_TRUE(store.load(key(0)).has_value()) << "which is a use";
  store.trim();
  EXPECT_TRUE(store.load(key(0)).has_value());
  EXPECT_FALSE(store.load(key(1)).has_value());
  EXPECT_FALSE(store.load(key(2)).has_value());
  EXPECT_TRUE(store.load(key(3)).has_value());
  EXPECT_FALSE(fs::exists(folder + "/killed.draft"));
  EXPECT_TRUE(store.warnings().empty());
}

// The folder is looked at by chance: that it ever gets to twice its bound has a probability of 1e-9.
TEST(KernelStore, StaysAboutItsBoundWithoutBeingLookedAtEachTime) {
  const std::string folder = fresh_folder();
  KernelStore store({.folder = folder, .most_bytes = int64_t{1} << 20});
  const std::vector<std::byte> bytes(5000);  // two blocks
  size_t most_files = 0;
  for (int i = 0; i < 1000; ++i) {
    store.save(KernelStore::key_of(std::to_string(i)), bytes);
    store.trim_now_and_then();
    if (i % 10 == 0) most_files = std::max(most_files, files_in(folder).size());
  }
  EXPECT_GT(most_files, 90U);
  EXPECT_LT(most_files, 256U);
}

TEST(KernelStore, ManyWritersAndReadersAtOnce) {
  const std::string folder = fresh_folder();
  std::vector<pid_t> children;
  for (int c = 0; c < 4; ++c) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      KernelStore store({.folder = folder, .most_bytes = 20000});
      bool good = true;
      for (int i = 0; i < 400; ++i) {
        const Hash128 key = KernelStore::key_of(std::to_string(i % 7));
        const std::vector<std::byte> bytes(3000 + static_cast<size_t>(i % 7), static_cast<std::byte>(i % 7));
        const auto found = store.load(key);
        good = good && (!found || *found == bytes);
        store.save(key, bytes);
        if (i % 10 == 0) store.trim();
      }
      ::_exit(good && store.warnings().empty() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  for (const auto& path : files_in(folder)) EXPECT_EQ(path.extension(), ".kernel");
}

// Signals arrive all the time while code is made, written and read.
TEST(KernelStore, SignalsDoNoHarm) {
  static volatile std::sig_atomic_t signals = 0;
  struct sigaction action{}, before{};
  action.sa_handler = [](int) { signals = signals + 1; };  // without SA_RESTART: calls of the system are interrupted
  ASSERT_EQ(::sigaction(SIGALRM, &action, &before), 0);
  const itimerval often{{0, 500}, {0, 500}}, never{};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  const std::string folder = fresh_folder();
  KernelStore store({.folder = folder});
  for (int i = 0; i < 20; ++i) run(store, i + 0.5);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(run(store, i + 0.5).loaded, 1);
  ::setitimer(ITIMER_REAL, &never, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
  EXPECT_GT(signals, 0);
  EXPECT_TRUE(store.warnings().empty());
}

TEST(KernelStore, ExplainTellsWhatDidNotWork) {
  auto f = compile([](const Tensor& x) { return cos(x * 4.75) - x; }, {.disk = {.folder = "/proc/self"}});
  const Tensor x = uniform({10});
  EXPECT_EQ(f(x).to_vector<float>(), (cos(x * 4.75) - x).to_vector<float>());
  EXPECT_THAT(to_string(f.explain()), HasSubstr("warning (1 times): kernel cache: cannot write in /proc/self"));
}

}  // namespace
}  // namespace tenon
