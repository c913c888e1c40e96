#include "tenon/compile/user_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>

#include "tenon/base/error.h"
#include "tenon/compile/kernel_cache.h"
#include "tenon/compile/lower.h"
#include "tenon/compile/stream.h"
#include "tenon/exec/session.h"
#include "tenon/tensor/half.h"

namespace tenon::kernel {

using compiler::Index;
using compiler::Stmt;
using compiler::StmtKind;
using ir::ScalarOp;

namespace {

[[noreturn]] void fail(std::string problem, std::string hint = {}) {
  throw ValueError({"kernel", std::move(problem), {}, {}, std::move(hint)});
}

constexpr int64_t kLanes = 64;  // of a fold
constexpr ScalarOp kCombine[] = {ScalarOp::Add, ScalarOp::Mul, ScalarOp::Max, ScalarOp::Min};

}  // namespace

// ---- places and values -------------------------------------------------------------------------
Place operator+(Place a, const Place& b) {
  a.index_.constant += b.index_.constant;
  for (const auto& t : b.index_.terms) a.index_.add(t.loop, t.factor);
  return a;
}
Place operator*(Place a, int64_t factor) {
  if (factor == 0) return {};
  a.index_.constant *= factor;
  for (auto& t : a.index_.terms) t.factor *= factor;
  return a;
}

namespace {

// The builder of a value that was computed. Errors: ValueError for a Value that nothing was assigned to.
Builder& builder_of(const Value& a) {
  if (a.builder == nullptr || a.reg < 0) fail("a Value that has no value is read", "assign the result of a load to it");
  return *a.builder;
}

}  // namespace

Value emit_as_is(ScalarOp op, DType dtype, std::span<const Value> args) {
  Builder& b = builder_of(args.front());
  for (const Value& a : args.subspan(1)) {
    if (&builder_of(a) != &b) fail("a Value of another kernel is read", "keep no Value from one body to the next");
  }
  Stmt& s = b.add(StmtKind::Scalar, dtype);
  s.op = op;
  s.result = b.kernel_.registers++;
  int n = 0;
  for (const Value& a : args) s.args[n++] = a.reg;
  return {&b, s.result, dtype};
}

namespace {

Value widened(Value a) { return is_half(a.dtype) ? cast(a, DType::F32) : a; }

// Halves are computed in f32, and each result is rounded, as by the ops of an eager run.
Value emit(ScalarOp op, DType dtype, std::initializer_list<Value> list) {
  std::vector<Value> args;
  for (const Value& a : list) args.push_back(op == ScalarOp::Cast ? a : widened(a));
  if (op == ScalarOp::Cast || !is_half(dtype)) return emit_as_is(op, dtype, args);
  return cast(emit_as_is(op, DType::F32, args), dtype);
}

Value pair(ScalarOp op, Value a, Value b) {
  if (a.dtype != b.dtype) fail(fmt::format("{} of {} and {}", info(op).name, name(a.dtype), name(b.dtype)), "cast one");
  return emit(op, info(op).gives_bool ? DType::Bool : a.dtype, {a, b});
}
Value like(Value a, double x) { return builder_of(a).constant(x, a.dtype); }

}  // namespace

Value operator+(Value a, Value b) { return pair(ScalarOp::Add, a, b); }
Value operator-(Value a, Value b) { return pair(ScalarOp::Sub, a, b); }
Value operator*(Value a, Value b) { return pair(ScalarOp::Mul, a, b); }
Value operator/(Value a, Value b) { return pair(ScalarOp::Div, a, b); }
Value operator+(Value a, double b) { return a + like(a, b); }
Value operator-(Value a, double b) { return a - like(a, b); }
Value operator*(Value a, double b) { return a * like(a, b); }
Value operator/(Value a, double b) { return a / like(a, b); }
Value operator-(double a, Value b) { return like(b, a) - b; }
Value operator/(double a, Value b) { return like(b, a) / b; }
Value operator<(Value a, Value b) { return pair(ScalarOp::Lt, a, b); }
Value operator>(Value a, Value b) { return pair(ScalarOp::Gt, a, b); }
Value max(Value a, Value b) { return pair(ScalarOp::Max, a, b); }
Value min(Value a, Value b) { return pair(ScalarOp::Min, a, b); }
Value select(Value condition, Value a, Value b) {
  if (a.dtype != b.dtype) fail("select between two dtypes", "cast one");
  return emit(ScalarOp::Select, a.dtype, {condition, a, b});
}
Value cast(Value a, DType to) { return a.dtype == to ? a : emit(ScalarOp::Cast, to, {a}); }
Value unary(ScalarOp op, Value a) {
  if (info(op).arity != 1) fail(fmt::format("{} takes {} operands", info(op).name, info(op).arity));
  return emit(op, info(op).gives_bool ? DType::Bool : a.dtype, {a});
}

int64_t Array::extent(int64_t axis) const {
  const auto rank = static_cast<int64_t>(type.shape.size());
  if (axis < -rank || axis >= rank) fail(fmt::format("axis {} of an array with {}", axis, rank));
  return type.shape[static_cast<size_t>(axis < 0 ? axis + rank : axis)];
}
namespace {

Builder& builder_of(const Array& a) {
  if (a.builder == nullptr) fail("an Array that is none is read or written", "take it from input() or output()");
  return *a.builder;
}

}  // namespace

Value Array::load(const Place& at) const {
  Builder& b = builder_of(*this);
  Stmt& s = b.add(StmtKind::Load, type.dtype);
  s.buffer = buffer;
  s.index = at.index();
  s.result = b.kernel_.registers++;
  return {&b, s.result, type.dtype};
}
void Array::store(const Place& at, Value value) const {
  if (value.dtype != type.dtype) fail(fmt::format("{} stored as {}", name(value.dtype), name(type.dtype)), "cast it");
  Builder& b = builder_of(*this);
  if (&builder_of(value) != &b) fail("a Value of another kernel is stored", "keep no Value from one body to the next");
  Stmt& s = b.add(StmtKind::Store, type.dtype);
  s.buffer = buffer;
  s.index = at.index();
  s.args[0] = value.reg;
}

// ---- loops ---------------------------------------------------------------------------------
Builder::Builder(std::span<const TensorType> inputs, std::span<const TensorType> outputs, int64_t tile)
    : inputs_(inputs.size()), tile_(tile) {
  for (const TensorType& t : inputs) kernel_.buffers.push_back({t.dtype, numel(t.shape), false});
  for (const TensorType& t : outputs) kernel_.buffers.push_back({t.dtype, numel(t.shape), true});
  types_.assign(inputs.begin(), inputs.end());
  types_.insert(types_.end(), outputs.begin(), outputs.end());
}

Array Builder::input(size_t i) {
  if (i >= inputs_) fail(fmt::format("input {} of {}", i, inputs_));
  return {this, static_cast<int32_t>(i), types_[i]};
}
Array Builder::output(size_t i) {
  if (inputs_ + i >= types_.size()) fail(fmt::format("output {} of {}", i, types_.size() - inputs_));
  return {this, static_cast<int32_t>(inputs_ + i), types_[inputs_ + i]};
}

void Builder::need_loop(const char* what) const {
  if (open_.empty()) fail(fmt::format("{} outside of parallel", what), "put it into the body of parallel");
}
Stmt& Builder::add(StmtKind kind, DType dtype) {
  need_loop("an instruction");
  Stmt& s = open_.back().body.emplace_back();
  s.kind = kind;
  s.dtype = dtype;
  return s;
}
Value Builder::constant(double value, DType dtype) {
  if (is_half(dtype)) return cast(constant(value, DType::F32), dtype);
  Stmt& s = add(StmtKind::Scalar, dtype);
  s.op = ScalarOp::Const;
  if (is_float(dtype)) {
    s.real = dtype == DType::F32 ? static_cast<double>(static_cast<float>(value)) : value;
  } else {
    s.integer = static_cast<int64_t>(value);
  }
  s.result = kernel_.registers++;
  return {this, s.result, dtype};
}

Place Builder::begin_loop(int64_t n, bool vec, bool unroll) {
  Stmt s;
  s.kind = StmtKind::For;
  s.loop = kernel_.loops++;
  s.extent = n;
  s.vec = vec;
  s.unroll = unroll;
  Index i;
  i.add(s.loop, 1);
  open_.push_back(std::move(s));
  return Place(i);
}
void Builder::end_loop() {
  Stmt done = std::move(open_.back());
  open_.pop_back();
  if (open_.empty()) {
    kernel_.root = std::move(done);
  } else {
    open_.back().body.push_back(std::move(done));
  }
}

void Builder::parallel(int64_t n, const std::function<void(Place)>& body) {
  if (!open_.empty() || kernel_.root.kind == StmtKind::For)
    fail("a second parallel loop", "use loop or each inside the first");
  const Place i = begin_loop(n, false, false);
  open_.back().parallel = true;
  body(i);
  end_loop();
}
void Builder::loop(int64_t n, const std::function<void(Place)>& body) {
  need_loop("loop");
  body(begin_loop(n, false, false));
  end_loop();
}
void Builder::each(int64_t n, const std::function<void(Place)>& body) {
  constexpr int64_t kMostUnrolled = 256;
  need_loop("each");
  int64_t done = 0;
  if (tile_ > 1 && n >= tile_) {
    done = n / tile_ * tile_;
    const Place i = begin_loop(n / tile_, false, false);
    const Place j = begin_loop(tile_, true, tile_ <= kMostUnrolled);
    body(i * tile_ + j);
    end_loop();
    end_loop();
  }
  if (done == n) return;
  body(begin_loop(n - done, true, false) + done);
  end_loop();
}
Value Builder::fold(Fold kind, int64_t n, const std::function<Value(Place)>& body) {
  need_loop("fold");
  if (n < 1) fail("a fold over nothing");
  const size_t before = open_.back().body.size();
  const auto lanes = static_cast<int32_t>(kernel_.buffers.size() + kernel_.scratch.size());
  kernel_.scratch.push_back({DType::F32, kLanes, false});
  const ScalarOp op = kCombine[static_cast<size_t>(kind)];
  Array scratch{this, lanes, {DType::F32, {kLanes}}};
  DType result = DType::F32;  // halves are folded in f32 and rounded once
  const auto step = [&](const Place& at, const Place& lane) {
    const Value given = body(at), x = widened(given);
    result = given.dtype;
    scratch.type.dtype = x.dtype;
    scratch.store(lane, pair(op, scratch.load(lane), x));
  };
  if (n >= kLanes) {
    const Place i = begin_loop(n / kLanes, false, false);
    const Place j = begin_loop(kLanes, true, true);
    step(i * kLanes + j, j);
    end_loop();
    end_loop();
  }
  if (n % kLanes != 0) {
    const Place j = begin_loop(n % kLanes, true, false);
    step(j + n / kLanes * kLanes, j);
    end_loop();
  }
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    const Place j = begin_loop(width, true, true);
    scratch.store(j, pair(op, scratch.load(j), scratch.load(j + width)));
    end_loop();
  }
  const DType dtype = scratch.type.dtype;
  kernel_.scratch[static_cast<size_t>(lanes) - kernel_.buffers.size()].dtype = dtype;
  // The lanes begin neutral, before the loops above.
  const Place j = begin_loop(kLanes, true, true);
  Stmt neutral = compiler::neutral_of(static_cast<cpu::Fold>(kind), dtype);
  neutral.result = kernel_.registers++;
  const Value zero{this, neutral.result, dtype};
  open_.back().body.push_back(std::move(neutral));
  scratch.store(j, zero);
  end_loop();
  auto& list = open_.back().body;
  std::rotate(list.begin() + static_cast<std::ptrdiff_t>(before), list.end() - 1, list.end());
  return cast(scratch.load(0), result);
}

compiler::Kernel Builder::finish(std::string name) {
  if (kernel_.root.kind != StmtKind::For) fail("a kernel without a parallel loop", "begin with parallel");
  kernel_.name = std::move(name);
  const std::string problem = compiler::verify(kernel_);
  if (!problem.empty()) fail(fmt::format("{} is no kernel: {}", kernel_.name, problem));
  return std::move(kernel_);
}

// ---- running -------------------------------------------------------------------------------
namespace {

struct Variant {
  compiler::KernelFunction function = nullptr;
  std::vector<int64_t> numbers;
  int64_t extent = 0, grain = 1, tile = 0;
};

void launch(const Variant& v, const std::vector<std::byte*>& buffers, ThreadPool& pool) {
  pool.run((v.extent + v.grain - 1) / v.grain, [&](int64_t p) {
    v.function(buffers.data(), v.numbers.data(), p * v.grain, std::min(v.extent, (p + 1) * v.grain));
  });
}

// What is known of the kernels of this process, by name, body, shapes and CPU level.
struct Known {
  std::mutex mutex;
  std::map<Hash128, Variant> variants;
  std::map<Hash128, int64_t> tiles;  // by name and types
  compiler::KernelStore store{DiskCache{}};
};
Known& known() {
  static Known k;
  return k;
}

Hash128 key_of(const char* name, std::span<const TensorType> inputs, uintptr_t more) {
  Hasher h;
  h.text(name);
  for (const TensorType& t : inputs) {
    h.number(static_cast<int>(t.dtype));
    h.number(t.shape.size());
    for (int64_t e : t.shape) h.number(e);
  }
  h.number(more);
  return h.finish();
}

std::vector<Variant> make(const Description& d, std::span<const TensorType> in, std::span<const TensorType> out,
                          int level, ThreadPool& pool) {
  std::vector<int64_t> tiles = d.tiles;
  if (tiles.empty()) tiles = {1};
  if (d.tiles_change_bits) tiles.resize(1);
  std::vector<compiler::Kernel> kernels;
  for (int64_t tile : tiles) {
    if (tile < 1) fail(fmt::format("{}: a tile of {}", d.name, tile));
    Builder b(in, out, tile);
    d.body(b);
    kernels.push_back(b.finish(d.name));
    compiler::expand_functions(kernels.back());
    compiler::mark_streams(kernels.back());
  }
  std::vector<const compiler::Kernel*> list;
  for (const auto& k : kernels) list.push_back(&k);
  compiler::CodeCounts counts;
  const auto functions = compiler::KernelCache::of_process()->compile(list, level, false, pool, known().store, counts);
  int64_t elements = 0;
  for (const auto& buffer : kernels[0].buffers) elements += buffer.size;
  std::vector<Variant> variants;
  for (size_t i = 0; i < kernels.size(); ++i) {
    const int64_t extent = kernels[i].root.extent;
    const int64_t each = std::max<int64_t>(1, elements / std::max<int64_t>(1, extent));
    variants.push_back({functions[i], numbers_of(kernels[i]), extent, std::max<int64_t>(1, 32768 / each), tiles[i]});
  }
  return variants;
}

// Runs every variant on the real operands and keeps the fastest; results stand in the outputs afterwards.
Variant fastest(const Description& d, std::vector<Variant> variants, const std::vector<std::byte*>& buffers,
                std::span<const TensorType> out, ThreadPool& pool) {
  using Clock = std::chrono::steady_clock;
  const size_t inputs = buffers.size() - out.size();
  std::vector<std::vector<std::byte>> first;
  size_t best = 0;
  double best_seconds = 0;
  for (size_t i = 0; i < variants.size(); ++i) {
    double seconds = 1e9;
    for (int time = 0; time < 3; ++time) {
      const auto begin = Clock::now();
      launch(variants[i], buffers, pool);
      seconds = std::min(seconds, std::chrono::duration<double>(Clock::now() - begin).count());
    }
    for (size_t o = 0; o < out.size(); ++o) {
      const auto bytes = static_cast<size_t>(byte_size(out[o].dtype, numel(out[o].shape)));
      const std::byte* result = buffers[inputs + o];
      if (i == 0) {
        first.emplace_back(result, result + bytes);
      } else if (std::memcmp(first[o].data(), result, bytes) != 0) {
        fail(fmt::format("{}: tile {} gives other bits than tile {}", d.name, variants[i].tile, variants[0].tile),
             "state kTilesChangeBits = true; then the first tile is taken");
      }
    }
    if (i == 0 || seconds < best_seconds) {
      best = i;
      best_seconds = seconds;
    }
  }
  return variants[best];
}

}  // namespace

void need_inputs(const char* name, size_t wanted, size_t given) {
  if (wanted != given)
    throw ValueError({name, "wrong number of inputs", std::to_string(wanted), std::to_string(given), {}});
}

int64_t chosen_tile(const char* name, std::span<const TensorType> inputs) {
  Known& k = known();
  const std::lock_guard lock(k.mutex);
  const auto found = k.tiles.find(key_of(name, inputs, 0));
  return found == k.tiles.end() ? 0 : found->second;
}

void run(const Description& d, const ops::ReferenceArgs& args) {
  exec::Session& session = exec::session();
  std::vector<TensorType> in, out;
  std::vector<std::byte*> buffers;
  std::vector<Ref<Buffer>> copies;
  for (const ConstView& v : args.inputs) {
    in.push_back({v.dtype, v.shape});
    const Shape flat = contiguous_strides(v.shape);
    if (v.strides == flat) {
      buffers.push_back(const_cast<std::byte*>(v.data) + byte_size(v.dtype, v.offset));  // read only
      continue;
    }
    copies.push_back(Buffer::allocate(static_cast<size_t>(byte_size(v.dtype, numel(v.shape)))));
    session.device().copy(v, View{copies.back()->data(), v.dtype, v.shape, flat, 0}, session.pool());
    buffers.push_back(copies.back()->data());
  }
  bool work = false;
  for (const View& v : args.outputs) {
    out.push_back({v.dtype, v.shape});
    buffers.push_back(v.data + byte_size(v.dtype, v.offset));
    work = work || numel(v.shape) != 0;
  }
  if (!work) return;
  const int level = cpu::best_level(session.options().cpu_level);
  const Hash128 key = key_of(d.name, in, reinterpret_cast<uintptr_t>(d.body) * 8 + static_cast<uintptr_t>(level));
  Known& k = known();
  Variant variant;
  {
    const std::lock_guard lock(k.mutex);
    if (const auto found = k.variants.find(key); found != k.variants.end()) variant = found->second;
  }
  if (variant.function != nullptr) return launch(variant, buffers, session.pool());
  std::vector<Variant> variants = make(d, in, out, level, session.pool());
  if (variants.size() == 1) {
    variant = variants[0];
    launch(variant, buffers, session.pool());
  } else {
    variant = fastest(d, std::move(variants), buffers, out, session.pool());
  }
  const std::lock_guard lock(k.mutex);
  k.variants[key] = variant;
  k.tiles[key_of(d.name, in, 0)] = variant.tile;
}

}  // namespace tenon::kernel
