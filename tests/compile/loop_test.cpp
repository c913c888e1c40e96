// The loop IR: text, verification, the interpreter, and every target against the interpreter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "../support/temp_folder.h"
#include "tenon/base/error.h"
#include "tenon/compile/interpret.h"
#include "tenon/compile/llvm/jit.h"
#include "tenon/compile/loop_ir.h"
#include "tenon/compile/prefetch.h"
#include "tenon/compile/stream.h"
#include "tenon/device/cpu/level.h"

namespace tenon::compiler {
namespace {

using ir::ScalarOp;

// 7 rows of 150: y = tanh(x) * w[column] and the sum of each row in lanes of 16.
constexpr const char* kRows =
    R"(kernel "rows" (b0: f32[1050], b1: f32[150], out b2: f32[1050], out b3: f32[7]) scratch (s0: f32[16]) {
  for i0 in 7 parallel {
    for i1 in 150 vec {
      %0: f32 = load b0[150*i0 + i1]
      %1: f32 = load b1[i1]
      %2: f32 = tanh %0
      %3: f32 = mul %2, %1
      store b2[150*i0 + i1], %3
    }
    for i2 in 16 vec unroll {
      %4: f32 = const 0
      store s0[i2], %4
    }
    for i3 in 9 {
      for i4 in 16 vec unroll {
        %5: f32 = load s0[i4]
        %6: f32 = load b0[150*i0 + 16*i3 + i4]
        %7: f32 = exp %6
        %8: f32 = add %5, %7
        store s0[i4], %8
      }
    }
    for i5 in 8 vec unroll {
      %9: f32 = load s0[i5]
      %10: f32 = load s0[i5 + 8]
      %11: f32 = add %9, %10
      store s0[i5], %11
    }
    %12: f32 = load s0[0]
    store b3[i0], %12
  }
}
)";

TEST(LoopIr, TextRoundTrips) {
  const Kernel k = parse_kernel(kRows);
  EXPECT_EQ(verify(k), "");
  EXPECT_EQ(to_text(k), kRows);
  EXPECT_EQ(hash(k), hash(parse_kernel(to_text(k))));
}

TEST(LoopIr, BadTextNamesTheLine) {
  try {
    parse_kernel("kernel \"k\" (b0: f32[4]) {\n  for i0 in 4 parallel {\n    %0: f32 = lod b0[i0]\n  }\n}\n");
    FAIL();
  } catch (const FormatError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("line 3"));
    EXPECT_THAT(e.what(), testing::HasSubstr("no instruction 'lod'"));
  }
}

std::string problem(const std::string& body) {
  return verify(
      parse_kernel("kernel \"k\" (b0: f32[8], out b1: f32[8]) {\n for i0 in 8 parallel vec {\n" + body + "}\n}\n"));
}

TEST(LoopIr, TheVerifierSaysWhatIsWrong) {
  using testing::HasSubstr;
  EXPECT_EQ(problem("%0: f32 = load b0[i0]\nstore b1[i0], %0\n"), "");
  EXPECT_THAT(problem("%0: f32 = load b0[i0 + 1]\nstore b1[i0], %0\n"), HasSubstr("1 to 8"));
  EXPECT_THAT(problem("%0: f64 = load b0[i0]\n"), HasSubstr("another dtype"));
  EXPECT_THAT(problem("%0: f32 = load b0[i0]\nstore b0[i0], %0\n"), HasSubstr("store to an input"));
  EXPECT_THAT(problem("%0: f32 = load b0[i0]\nstore b1[0], %0\n"), HasSubstr("one place"));
  EXPECT_THAT(problem("store b1[i0], %0\n%0: f32 = load b0[i0]\n"), HasSubstr("has no value"));
  EXPECT_THAT(problem("%0: f32 = load b0[i0]\n%1: bool = add %0, %0\n"), HasSubstr("result of bool"));
  EXPECT_THAT(problem("for i1 in 2 {\n%0: f32 = load b0[i1]\n}\n"), HasSubstr("inside a vec loop"));
}

// ---- targets -------------------------------------------------------------------------------
// Memory that begins on a line, as that of tensors does.
template <class T>
struct OnLines {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  static T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kLine)); }
  static void deallocate(T* at, size_t /*n*/) { ::operator delete(at, kLine); }
  bool operator==(const OnLines&) const = default;
};
using Bytes = std::vector<std::byte, OnLines<std::byte>>;
struct Memory {
  std::vector<Bytes> buffers;
  std::vector<std::byte*> pointers() {
    std::vector<std::byte*> p;
    for (auto& b : buffers) p.push_back(b.data());
    return p;
  }
};

void fill(Bytes& bytes, DType dtype, std::mt19937_64& random) {
  std::uniform_real_distribution<double> real(-20, 20);
  const size_t size = static_cast<size_t>(info(dtype).bits / 8);
  for (size_t i = 0; i + size <= bytes.size(); i += size) {
    const double d = random() % 16 == 0 ? (random() % 2 == 0 ? INFINITY : -0.0) : real(random);
    const auto f = static_cast<float>(d);
    const uint64_t u = random() % 3 == 0 ? random() : random() % 7;
    if (dtype == DType::F32) {
      std::memcpy(bytes.data() + i, &f, 4);
    } else if (dtype == DType::F64) {
      std::memcpy(bytes.data() + i, &d, 8);
    } else if (dtype == DType::Bool) {
      bytes[i] = static_cast<std::byte>(u & 1);
    } else {
      std::memcpy(bytes.data() + i, &u, size);
    }
  }
}

Memory memory_for(const Kernel& k, uint64_t seed) {
  std::mt19937_64 random(seed);
  Memory m;
  for (const auto& b : k.buffers) {
    m.buffers.emplace_back(static_cast<size_t>(b.size * info(b.dtype).bits / 8));
    fill(m.buffers.back(), b.dtype, random);
  }
  return m;
}

// Equal bits; of a NaN only that it is one.
template <class T>
bool same(const std::byte* a, const std::byte* b) {
  T x, y;
  std::memcpy(&x, a, sizeof(T));
  std::memcpy(&y, b, sizeof(T));
  return std::memcmp(a, b, sizeof(T)) == 0 || (x != x && y != y);
}
void expect_same(const Kernel& k, const Memory& want, const Memory& got, const std::string& what) {
  for (size_t i = 0; i < k.buffers.size(); ++i) {
    const size_t size = static_cast<size_t>(info(k.buffers[i].dtype).bits / 8);
    for (size_t at = 0; at + size <= want.buffers[i].size(); at += size) {
      const std::byte *a = want.buffers[i].data() + at, *b = got.buffers[i].data() + at;
      const bool equal = k.buffers[i].dtype == DType::F32   ? same<float>(a, b)
                         : k.buffers[i].dtype == DType::F64 ? same<double>(a, b)
                                                            : std::memcmp(a, b, size) == 0;
      ASSERT_TRUE(equal) << what << ": buffer " << i << " element " << at / size << "\n" << to_text(k);
    }
  }
}

std::vector<int> levels() {
  std::vector<int> list;
  for (int level = 2; level <= cpu::best_level(); ++level) list.push_back(level);
  return list;
}

TEST(Targets, RowsAreTheSameBitsOnEveryLevel) {
  Kernel k = parse_kernel(kRows);
  Memory want = memory_for(k, 1);
  interpret(k, want.pointers(), 0, 7);
  expand_functions(k);
  EXPECT_EQ(verify(k), "");
  Memory expanded = memory_for(k, 1);
  interpret(k, expanded.pointers(), 0, 7);
  expect_same(k, want, expanded, "the formulas of the functions");
  for (int level : levels()) {
    Jit jit(level);
    const auto f = jit.compile(std::span(&k, 1))[0];
    const auto numbers = numbers_of(k);
    Memory got = memory_for(k, 1);
    f(got.pointers().data(), numbers.data(), 0, 3);  // in two parts
    f(got.pointers().data(), numbers.data(), 3, 7);
    expect_same(k, want, got, "level " + std::to_string(level));
  }
}

// A kernel of random instructions over random dtypes and extents.
class RandomKernel {
 public:
  explicit RandomKernel(uint64_t seed) : random_(seed) {}
  Kernel make() {
    const bool nested = random_() % 2 == 0;
    const int64_t outer = nested ? 1 + static_cast<int64_t>(random_() % 5) : 1;
    const int64_t inner = 1 + static_cast<int64_t>(random_() % 70), n = outer * inner;
    constexpr DType kDTypes[] = {DType::F32, DType::F64,  DType::I32, DType::I64,
                                 DType::U8,  DType::Bool, DType::I16, DType::U64};
    k_.name = "random";
    const auto inputs = 2 + random_() % 4;
    for (uint64_t i = 0; i < inputs; ++i) k_.buffers.push_back({kDTypes[random_() % 8], n, false});
    k_.loops = nested ? 2 : 1;
    Stmt root;
    root.kind = StmtKind::For;
    root.loop = 0;
    root.extent = nested ? outer : inner;
    root.parallel = true;
    root.vec = !nested;
    std::vector<Stmt> body;
    for (uint64_t i = 0; i < inputs; ++i) {
      Stmt s;
      s.kind = StmtKind::Load;
      s.dtype = k_.buffers[i].dtype;
      s.buffer = static_cast<int32_t>(i);
      s.result = fresh(s.dtype);
      const auto how = random_() % 3;  // contiguous, one element, reversed
      if (nested) s.index.add(0, how == 1 ? 0 : inner);
      if (how != 1) s.index.add(nested ? 1 : 0, how == 0 ? 1 : -1);
      if (how == 2) s.index.constant = inner - 1;
      body.push_back(s);
    }
    for (int i = 0; i < 12; ++i) instruction(body);
    for (int out = 0; out < 2; ++out) {
      const auto r = static_cast<int32_t>(types_.size()) - 1 - out;
      Stmt s;
      s.kind = StmtKind::Store;
      s.dtype = types_[static_cast<size_t>(r)];
      s.args[0] = r;
      s.buffer = static_cast<int32_t>(k_.buffers.size());
      if (nested) s.index.add(0, inner);
      s.index.add(nested ? 1 : 0, 1);
      k_.buffers.push_back({s.dtype, n, true});
      body.push_back(s);
    }
    if (nested) {
      Stmt loop;
      loop.kind = StmtKind::For;
      loop.loop = 1;
      loop.extent = inner;
      loop.vec = true;
      loop.unroll = random_() % 2 == 0;
      loop.body = std::move(body);
      root.body.push_back(std::move(loop));
    } else {
      root.body = std::move(body);
    }
    k_.root = std::move(root);
    return std::move(k_);
  }

 private:
  int32_t fresh(DType t) {
    types_.push_back(t);
    return k_.registers++;
  }
  void instruction(std::vector<Stmt>& body) {
    const auto& level = cpu::level_table(2);
    constexpr DType kTo[] = {DType::F32, DType::F64, DType::I32, DType::I64, DType::U8, DType::Bool};
    while (true) {
      Stmt s;
      s.op = static_cast<ScalarOp>(2 + random_() % (ir::kScalarOpCount - 3));  // no input, const, bitcast
      if (s.op == ScalarOp::Pow || s.op == ScalarOp::Digamma || s.op == ScalarOp::Erfinv) continue;
      const int32_t a = any();
      const DType t = types_[static_cast<size_t>(a)];
      const auto& op = info(s.op);
      const auto pick = [&](DType wanted) {
        for (int i = 0; i < 20; ++i) {
          const int32_t r = any();
          if (types_[static_cast<size_t>(r)] == wanted) return r;
        }
        return -1;
      };
      if (s.op == ScalarOp::Cast) {
        s.dtype = kTo[random_() % 6];
      } else {
        s.dtype = op.gives_bool ? DType::Bool : t;
      }
      if (loop_of(level, s.op, t, s.dtype) == nullptr) continue;
      if (s.op == ScalarOp::Select) {
        s.args[0] = pick(DType::Bool);
        s.args[1] = a;
        s.args[2] = pick(t);
        if (s.args[0] < 0 || s.args[2] < 0) continue;
      } else {
        s.args[0] = a;
        if (op.arity >= 2 && (s.args[1] = pick(t)) < 0) continue;
        if (op.arity == 3 && (s.args[2] = pick(t)) < 0) continue;
      }
      s.result = fresh(s.dtype);
      body.push_back(s);
      return;
    }
  }
  int32_t any() { return static_cast<int32_t>(random_() % types_.size()); }

  std::mt19937_64 random_;
  Kernel k_;
  std::vector<DType> types_;
};

TEST(Targets, RandomKernelsAgreeWithTheInterpreterOnEveryLevel) {
  std::vector<std::unique_ptr<Jit>> jits;
  for (int level : levels()) jits.push_back(std::make_unique<Jit>(level));
  for (uint64_t seed = 0; seed < 150; ++seed) {
    Kernel k = RandomKernel(seed).make();
    k.name = "random" + std::to_string(seed);
    ASSERT_EQ(verify(k), "") << to_text(k);
    ASSERT_EQ(to_text(parse_kernel(to_text(k))), to_text(k));
    Memory want = memory_for(k, seed);
    interpret(k, want.pointers(), 0, k.root.extent);
    expand_functions(k);
    for (auto& jit : jits) {
      const auto f = jit->compile(std::span(&k, 1))[0];
      const auto numbers = numbers_of(k);
      Memory got = memory_for(k, seed);
      const int64_t cut = k.root.extent / 2;
      f(got.pointers().data(), numbers.data(), 0, cut);
      f(got.pointers().data(), numbers.data(), cut, k.root.extent);
      expect_same(k, want, got, "seed " + std::to_string(seed));
    }
  }
}

// There is no instruction and no loop of the device for this: an error that says so, and no output.
TEST(Targets, CodeThatDoesNotLinkIsAnErrorAndNothingIsPrinted) {
  const Kernel kernel = parse_kernel(R"(kernel "halves" (b0: bf16[4], out b1: bf16[4]) {
  for i0 in 4 parallel {
    %0: bf16 = load b0[i0]
    %1: bf16 = add %0, %0
    store b1[i0], %1
  }
}
)");
  testing::internal::CaptureStderr();
  std::string message;
  try {
    static_cast<void>(Jit(2).compile({&kernel, 1}));
  } catch (const InternalError& e) {
    message = e.what();
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(message, testing::HasSubstr("Symbols not found"));
}

TEST(Targets, ObjectsForOtherMachinesAreMade) {
  Kernel k = parse_kernel(kRows);
  expand_functions(k);
  const auto wasm = emit_object(std::span(&k, 1), ObjectTarget::Wasm32);
  ASSERT_GT(wasm.size(), 100U);
  EXPECT_EQ(std::memcmp(wasm.data(), "\0asm", 4), 0);
  const auto arm = emit_object(std::span(&k, 1), ObjectTarget::Aarch64Linux);
  ASSERT_GT(arm.size(), 64U);
  EXPECT_EQ(std::memcmp(arm.data(), "\177ELF", 4), 0);
  EXPECT_EQ(static_cast<int>(arm[18]), 183) << "EM_AARCH64";
}

bool there(const char* command) {
  return std::system((std::string("command -v ") + command + " >/dev/null 2>&1").c_str()) == 0;
}

// No C library for aarch64 is needed: the program reads the inputs from its own arrays and writes the results.
TEST(Targets, Aarch64RunsUnderQemuWithTheSameBits) {
  for (const char* tool : {"clang-19", "ld.lld-19", "qemu-aarch64"}) {
    if (!there(tool)) GTEST_SKIP() << "needs " << tool << " (packages clang-19, lld-19, qemu-user)";
  }
  Kernel k = parse_kernel(kRows);
  Memory want = memory_for(k, 5);
  const Memory inputs = memory_for(k, 5);
  interpret(k, want.pointers(), 0, 7);
  expand_functions(k);
  const std::string& base = testing_support::temp_folder();
  const auto object = emit_object(std::span(&k, 1), ObjectTarget::Aarch64Linux);
  std::ofstream(base + "/k.o", std::ios::binary)
      .write(reinterpret_cast<const char*>(object.data()), static_cast<std::streamsize>(object.size()));
  std::ofstream c(base + "/main.c");
  std::string list;
  for (size_t i = 0; i < inputs.buffers.size(); ++i) {
    c << "static _Alignas(64) unsigned char b" << i << "[] = {";
    for (std::byte byte : inputs.buffers[i]) c << static_cast<int>(byte) << ',';
    c << "};\n";
    list += "b" + std::to_string(i) + ",";
  }
  std::string numbers;
  for (int64_t n : numbers_of(k)) numbers += std::to_string(n) + ",";
  c << "void rows(unsigned char**, const long*, long, long);\n"
       "static long call(long n, long a, long b, long c) {\n"
       "  register long x8 __asm__(\"x8\") = n; register long x0 __asm__(\"x0\") = a;\n"
       "  register long x1 __asm__(\"x1\") = b; register long x2 __asm__(\"x2\") = c;\n"
       "  __asm__ volatile(\"svc 0\" : \"+r\"(x0) : \"r\"(x8), \"r\"(x1), \"r\"(x2) : \"memory\"); return x0; }\n"
       "void _start(void) {\n  unsigned char* p[] = {"
    << list << "};\n  const long n[] = {" << numbers << "};\n  rows(p, n, 0, 7);\n"
    << "  call(64, 1, (long)b2, sizeof b2); call(64, 1, (long)b3, sizeof b3); call(93, 0, 0, 0); }\n";
  c.close();
  const std::string build = "cd " + base +
                            " && clang-19 --target=aarch64-linux-gnu -O1 -nostdlib -static -ffreestanding "
                            "-fuse-ld=lld-19 main.c k.o -o program 2>log && qemu-aarch64 ./program >out 2>>log";
  std::stringstream log;
  const int status = std::system(build.c_str());
  log << std::ifstream(base + "/log").rdbuf();
  ASSERT_EQ(status, 0) << log.str();
  Memory got = memory_for(k, 5);
  std::ifstream out(base + "/out", std::ios::binary);
  for (size_t i : {size_t{2}, size_t{3}})
    out.read(reinterpret_cast<char*>(got.buffers[i].data()), static_cast<std::streamsize>(got.buffers[i].size()));
  ASSERT_TRUE(out.good());
  expect_same(k, want, got, "aarch64");
}

// A map over rows of n elements, the first of which lies `begin` elements into its buffer.
Kernel rows_of(int64_t n, int64_t begin, int64_t streams) {
  Kernel k = parse_kernel(
      "kernel \"rows\" (b0: f32[9000], out b1: f32[9000], out b2: f32[9000], out b3: f32[9000]) streams {\n"
      "  for i0 in 7 parallel {\n"
      "    for i1 in 64 vec {\n"
      "      %0: f32 = load b0[3*i0 + i1]\n"
      "      %1: f32 = mul %0, %0\n"
      "      store b1[5 + 3*i0 + i1], %1\n"
      "      %2: f32 = add %1, %0\n"
      "      store b2[5 + 3*i0 + i1], %2\n"
      "      %3: f32 = load b3[3*i0 + i1]\n"
      "      %4: f32 = add %3, %2\n"
      "      store b3[3*i0 + i1], %4\n"
      "    }\n"
      "  }\n"
      "}\n");
  EXPECT_EQ(k.streams, 1);
  EXPECT_EQ(to_text(parse_kernel(to_text(k))), to_text(k));
  k.streams = streams;
  Stmt& loop = k.root.body[0];
  loop.extent = n;
  for (Stmt& s : loop.body) {
    for (IndexTerm& term : s.index.terms)
      if (term.loop == k.root.loop) term.factor = n;
    if (s.index.constant != 0) s.index.constant = begin;
  }
  return k;
}

TEST(Streams, WhatIsOnlyWrittenInWholeVectors) {
  EXPECT_EQ(only_written(rows_of(64, 0, 1)), (std::vector<char>{0, 1, 1, 0}));  // b3 is read too
  Kernel k = rows_of(64, 0, 0);
  mark_streams(k);
  EXPECT_EQ(k.streams, 0);
  k.buffers[3].size = kStreamBytes / 4;
  mark_streams(k);
  EXPECT_EQ(k.streams, 0) << "is read";
  k.buffers[2].size = kStreamBytes / 4;
  mark_streams(k);
  EXPECT_EQ(k.streams, 1);
}

// Rows of whole lines and others, asked for and not, cut in parts: the same bits; and one code for all of them.
TEST(Streams, AllWaysGiveTheSameBits) {
  for (int level : levels()) {
    Jit jit(level, true);
    Kernel code = without_numbers(rows_of(64, 0, 1));
    code.name = "rows";
    const auto f = jit.compile(std::span(&code, 1))[0];
    for (const int64_t n : {3, 16, 64, 65, 320, 1000}) {
      for (const int64_t begin : {0, 5, 16}) {
        for (const int64_t streams : {0, 1}) {
          const Kernel k = rows_of(n, begin, streams);
          ASSERT_EQ(verify(k), "");
          Memory want = memory_for(k, 1), got = memory_for(k, 1);
          interpret(k, want.pointers(), 0, 7);
          const auto numbers = numbers_of(k);
          f(got.pointers().data(), numbers.data(), 0, 3);
          f(got.pointers().data(), numbers.data(), 3, 7);
          expect_same(k, want, got, "level " + std::to_string(level) + ", rows of " + std::to_string(n));
        }
      }
    }
  }
}

TEST(Streams, OnlyCodeThatIsAskedForBothWaysHasThem) {
  const Jit with(2, true), without(2, false);
  Kernel both = rows_of(64, 0, 1), one = rows_of(64, 0, 0);
  const auto size = [](const Jit& jit, const Kernel& k) { return jit.object_of(k, true).bytes.size(); };
  EXPECT_GT(size(with, both), size(without, both) + 100);
  EXPECT_EQ(size(with, one), size(without, one));
  EXPECT_NE(with.target(), without.target());  // a store of code keeps them apart
}

// A row kernel: what the first loop reads is fetched a row ahead, what the last writes in this row, and what the long
// loop reads by itself some way further on; scratch never.
TEST(Prefetch, OfRowsGoesIntoTheLoopWithTheLongBody) {
  std::string steps;
  for (int i = 3; i < 30; ++i)
    steps += "      %" + std::to_string(i) + ": f32 = mul %2, %" + std::to_string(i - 1) + "\n";
  const Kernel k = parse_kernel(
      "kernel \"k\" (b0: f32[800], b1: f32[100], out b2: f32[800]) scratch (s0: f32[128]) {\n"
      "  for i0 in 8 parallel {\n"
      "    for i1 in 100 vec {\n"
      "      %0: f32 = load b0[100*i0 + i1]\n"
      "      store s0[i1], %0\n"
      "    }\n"
      "    for i2 in 100 vec {\n"
      "      %1: f32 = load b1[i2]\n"
      "      %2: f32 = load s0[i2]\n" +
      steps +
      "      store s0[i2], %29\n"
      "    }\n"
      "    for i3 in 100 vec {\n"
      "      %30: f32 = load s0[i3]\n"
      "      store b2[100*i0 + i3], %30\n"
      "    }\n"
      "  }\n"
      "}\n");
  ASSERT_EQ(verify(k), "");
  const PrefetchPlan plan = plan_prefetch(k);
  ASSERT_EQ(plan.loop, &k.root.body[1]);
  std::map<int32_t, Prefetch::Where> where;
  for (const Prefetch& p : plan.what) where[p.access->buffer] = p.where;
  EXPECT_EQ(where, (std::map<int32_t, Prefetch::Where>{
                       {0, Prefetch::Where::NextRow}, {1, Prefetch::Where::Further}, {2, Prefetch::Where::ThisRow}}));
  EXPECT_EQ(plan.what[0].row, k.root.loop);
}

}  // namespace
}  // namespace tenon::compiler
