#include "tenon/compile/llvm/emit.h"

#include <fmt/format.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "tenon/base/error.h"
#include "tenon/compile/prefetch.h"
#include "tenon/compile/stream.h"

namespace tenon::compiler {

using ir::ScalarOp;
using llvm::Value;

std::string symbol_of(ScalarOp op, DType operand, DType result) {
  return fmt::format("tenon.loop.{}.{}.{}", static_cast<int>(op), static_cast<int>(operand), static_cast<int>(result));
}

namespace {

constexpr int kLine = 64;  // bytes of a line of memory

bool is_signed(DType t) { return info(t).kind == DTypeKind::Signed; }
// Floats that only exist in memory: a register holds their bits.
bool is_narrow(DType t) { return is_float(t) && t != DType::F32 && t != DType::F64; }

class Emitter {
 public:
  Emitter(llvm::Module& module, const Kernel& k, const EmitOptions& options)
      : m_(module), c_(module.getContext()), b_(c_), k_(k), options_(options), prefetch_(plan_prefetch(k)) {
    for (const int64_t* n : number_places(k)) slots_of_.emplace(n, static_cast<int>(slots_of_.size()));
    numbers_.resize(slots_of_.size());
    if (options.streams && k.streams != 0) streamed_ = only_written(k);
  }

  void run() {
    auto* pointer = llvm::PointerType::get(c_, 0);
    auto* type = llvm::FunctionType::get(b_.getVoidTy(), {pointer, pointer, b_.getInt64Ty(), b_.getInt64Ty()}, false);
    f_ = llvm::Function::Create(type, llvm::Function::ExternalLinkage, k_.name, m_);
    f_->setDoesNotThrow();
    if (options_.wide) f_->addFnAttr("prefer-vector-width", "512");
    f_->addFnAttr("no-builtins");
    entry_ = llvm::BasicBlock::Create(c_, "entry", f_);
    b_.SetInsertPoint(entry_);
    for (size_t i = 0; i < k_.buffers.size(); ++i) {
      Value* at = b_.CreateConstInBoundsGEP1_64(pointer, f_->getArg(0), i);
      places_.push_back(b_.CreateLoad(pointer, at));
    }
    for (const auto& s : k_.scratch) {
      auto* space = b_.CreateAlloca(llvm::ArrayType::get(memory_type(s.dtype), static_cast<uint64_t>(s.size)));
      space->setAlignment(llvm::Align(64));
      places_.push_back(space);
    }
    registers_.resize(static_cast<size_t>(k_.registers));
    types_.resize(registers_.size());
    made_by_.resize(registers_.size());
    loops_.resize(static_cast<size_t>(k_.loops));
    open_loop(k_.root, f_->getArg(2), f_->getArg(3));
    // Whoever waits for this call sees what went past the caches.
    if (!streamed_.empty()) b_.CreateIntrinsic(llvm::Intrinsic::x86_sse_sfence, {}, {});
    b_.CreateRetVoid();
  }

 private:
  // ---- types -------------------------------------------------------------------------------
  llvm::Type* scalar_type(DType t) {
    if (t == DType::Bool) return b_.getInt1Ty();
    if (t == DType::F32) return b_.getFloatTy();
    if (t == DType::F64) return b_.getDoubleTy();
    return b_.getIntNTy(static_cast<unsigned>(info(t).bits));
  }
  llvm::Type* memory_type(DType t) { return t == DType::Bool ? b_.getInt8Ty() : scalar_type(t); }
  static llvm::Type* with_shape(llvm::Type* element, const Value* like) {
    const auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(like->getType());
    return vector ? llvm::FixedVectorType::get(element, vector->getNumElements()) : element;
  }

  // ---- numbers -----------------------------------------------------------------------------
  Value* number(int64_t n) { return b_.getInt64(static_cast<uint64_t>(n)); }
  // A number of the kernel that is an argument of the code; null: it is a constant.
  Value* argument(const int64_t& n) {
    const auto found = slots_of_.find(&n);
    if (found == slots_of_.end()) return nullptr;
    Value*& value = numbers_[static_cast<size_t>(found->second)];
    if (!value) {
      llvm::IRBuilder<> at(entry_, entry_->begin());
      Value* place =
          at.CreateConstInBoundsGEP1_64(b_.getInt64Ty(), f_->getArg(1), static_cast<uint64_t>(found->second));
      value = at.CreateLoad(b_.getInt64Ty(), place);
    }
    return value;
  }

  // ---- loops -------------------------------------------------------------------------------
  // for (i = begin; i + step <= end; i += step) body(i), or with `partial` while i < end; returns the value of i after
  // it. With the test at the end, so that what does not change can be moved before it.
  template <class F>
  Value* loop(Value* begin, Value* end, int64_t step, bool partial, const F& body) {
    auto* before = b_.GetInsertBlock();
    auto* ahead = llvm::BasicBlock::Create(c_, "ahead", f_);
    auto* inside = llvm::BasicBlock::Create(c_, "body", f_);
    auto* after = llvm::BasicBlock::Create(c_, "after", f_);
    Value* by = number(step);
    const auto goes_on = [&](Value* i) {
      return partial || step == 1 ? b_.CreateICmpSLT(i, end) : b_.CreateICmpSLE(b_.CreateNSWAdd(i, by), end);
    };
    b_.CreateCondBr(goes_on(begin), ahead, after);
    b_.SetInsertPoint(ahead);
    b_.CreateBr(inside);
    b_.SetInsertPoint(inside);
    auto* i = b_.CreatePHI(b_.getInt64Ty(), 2);
    i->addIncoming(begin, ahead);
    body(i);
    Value* next = b_.CreateNSWAdd(i, by);
    auto* latch = b_.GetInsertBlock();
    i->addIncoming(next, latch);
    b_.CreateCondBr(goes_on(next), inside, after);
    b_.SetInsertPoint(after);
    auto* result = b_.CreatePHI(b_.getInt64Ty(), 2);
    result->addIncoming(begin, before);
    result->addIncoming(next, latch);
    return result;
  }
  void iteration(const Stmt& s, Value* i, int width, Value* mask = nullptr) {
    loops_[static_cast<size_t>(s.loop)] = i;
    vec_ = s.vec ? s.loop : -1;
    width_ = s.vec ? width : 1;
    mask_ = mask;
    for (const Stmt& inner : s.body) statement(inner);
    vec_ = -1;
    width_ = 1;
    mask_ = nullptr;
  }
  // Iterations i, i + 1, … below `end`, fewer than a whole vector of them perhaps.
  void masked_iteration(const Stmt& s, Value* i, Value* end) {
    const auto lanes = static_cast<unsigned>(options_.lanes);
    llvm::Type* type = b_.getInt32Ty();
    std::vector<llvm::Constant*> places;
    for (unsigned lane = 0; lane < lanes; ++lane) places.push_back(llvm::ConstantInt::get(type, lane));
    Value* left = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, b_.CreateNSWSub(end, i), number(options_.lanes));
    Value* mask =
        b_.CreateICmpULT(llvm::ConstantVector::get(places), b_.CreateVectorSplat(lanes, b_.CreateTrunc(left, type)));
    iteration(s, i, options_.lanes, mask);
  }
  // Whether the machine has masks for all that the body touches.
  [[nodiscard]] bool can_mask(const Stmt& s) const {
    if (options_.masked_bits == 0) return false;
    for (const Stmt& inner : s.body) {
      if (inner.kind == StmtKind::Scalar) continue;
      const int64_t stride = inner.index.factor(s.loop);
      if (inner.kind == StmtKind::For || (stride != 0 && stride != 1)) return false;
      if (stride != 0 && info(inner.dtype).bits < options_.masked_bits) return false;
    }
    return true;
  }
  // ---- results past the caches ---------------------------------------------------------------
  [[nodiscard]] bool streamed(const Stmt& s) const {
    const auto buffer = static_cast<size_t>(s.buffer);
    return s.kind == StmtKind::Store && buffer < streamed_.size() && streamed_[buffer] != 0;
  }
  // Whether the loop's streamed stores begin on a line of memory, and this call wants them so.
  Value* lines_are_whole(const Stmt& loop, Value* begin) {
    loops_[static_cast<size_t>(loop.loop)] = begin;
    Value* places = nullptr;
    for (const Stmt& s : loop.body) {
      if (!streamed(s)) continue;
      Value* at = b_.CreatePtrToInt(place(s), b_.getInt64Ty());
      places = places ? b_.CreateOr(places, at) : at;
    }
    Value* whole = b_.CreateICmpEQ(b_.CreateAnd(places, number(kLine - 1)), number(0));
    return b_.CreateAnd(whole, b_.CreateICmpNE(argument(k_.streams), number(0)));
  }
  // Both ways, one of which runs.
  void open_loop(const Stmt& s, Value* begin, Value* end) {
    if (!s.vec || std::ranges::none_of(s.body, [&](const Stmt& inner) { return streamed(inner); }))
      return plain_loop(s, begin, end);
    auto* past = llvm::BasicBlock::Create(c_, "past", f_);
    auto* into = llvm::BasicBlock::Create(c_, "into", f_);
    auto* both = llvm::BasicBlock::Create(c_, "both", f_);
    b_.CreateCondBr(lines_are_whole(s, begin), past, into);
    for (auto* way : {past, into}) {
      b_.SetInsertPoint(way);
      streaming_ = way == past;
      plain_loop(s, begin, end);
      b_.CreateBr(both);
    }
    streaming_ = false;
    b_.SetInsertPoint(both);
  }
  // A loop whose extent is known only when it runs: vectors, and what is left under a mask or one by one. Of a long
  // body (a polynomial is one chain, of which each instruction waits for the one before) several vectors go side by
  // side, so that the machine has something to do; the few that are left are always under the mask.
  void plain_loop(const Stmt& s, Value* begin, Value* end) {
    const int lanes = s.vec ? options_.lanes : 1;
    if (lanes == 1) {
      loop(begin, end, 1, false, [&](Value* i) { iteration(s, i, 1); });
      return;
    }
    const bool masked = can_mask(s);
    Value* at = begin;
    if (s.body.size() > kLongBody) {
      const int many = lanes * options_.together;
      if (options_.together > 1) {
        at = loop(begin, end, many, false, [&](Value* i) {
          if (&s == prefetch_.loop) prefetch(i, many);
          iteration(s, i, many);
        });
      }
      if (masked) {
        loop(at, end, lanes, true, [&](Value* i) { masked_iteration(s, i, end); });
        return;
      }
    }
    at = loop(at, end, lanes, false, [&](Value* i) { iteration(s, i, lanes); });
    if (!masked) {
      loop(at, end, 1, false, [&](Value* i) { iteration(s, i, 1); });
      return;
    }
    auto* rest = llvm::BasicBlock::Create(c_, "rest", f_);
    auto* done = llvm::BasicBlock::Create(c_, "done", f_);
    b_.CreateCondBr(b_.CreateICmpSLT(at, end), rest, done);
    b_.SetInsertPoint(rest);
    masked_iteration(s, at, end);
    b_.CreateBr(done);
    b_.SetInsertPoint(done);
  }
  void inner_loop(const Stmt& s) {
    if (!s.unroll) return open_loop(s, number(0), argument(s.extent));
    int64_t width = s.vec ? options_.lanes * options_.together : 1;
    int64_t done = 0;
    for (; width > 0; width = width > 4 && s.body.size() <= 200 ? width / 2 : width > 1 ? 1 : 0) {
      for (; done + width <= s.extent; done += width) iteration(s, number(done), static_cast<int>(width));
    }
  }

  // ---- prefetching -------------------------------------------------------------------------
  // The lines of `width` elements from i on, of all that the plan names.
  void prefetch(Value* i, int width) {
    const std::vector<Value*> now = loops_;
    for (const Prefetch& p : prefetch_.what) {
      const Stmt& s = *p.access;
      if (streamed(s)) continue;
      Value* rows = nullptr;
      for (const auto& term : s.index.terms) {
        // Loops that this one is not in stand at their beginning, but for the one that goes over the elements.
        const bool around = std::ranges::find(prefetch_.around, term.loop) != prefetch_.around.end();
        if (!around) loops_[static_cast<size_t>(term.loop)] = number(0);
        if (term.loop == p.row) rows = argument(term.factor) ? argument(term.factor) : number(term.factor);
      }
      loops_[static_cast<size_t>(p.along)] = i;
      Value* at = place(s);
      if (p.where == Prefetch::Where::NextRow) at = b_.CreateGEP(memory_type(s.dtype), at, rows);
      const int bytes = width * std::max(info(s.dtype).bits, 8) / 8;
      const int ahead = p.where == Prefetch::Where::Further ? kPrefetchBytes : 0;
      for (int line = 0; line < bytes; line += kLine) {
        Value* address =
            b_.CreateConstGEP1_64(b_.getInt8Ty(), at, static_cast<uint64_t>(line) + static_cast<uint64_t>(ahead));
        const bool write = s.kind == StmtKind::Store;
        // The next row does not push this one out of the first cache.
        const uint32_t nearness = p.where == Prefetch::Where::NextRow ? 2 : 3;
        b_.CreateIntrinsic(llvm::Intrinsic::prefetch, {at->getType()},
                           {address, b_.getInt32(write ? 1 : 0), b_.getInt32(nearness), b_.getInt32(1)});
      }
      loops_ = now;
    }
  }

  // ---- statements --------------------------------------------------------------------------
  void statement(const Stmt& s) {
    switch (s.kind) {
      case StmtKind::For:
        inner_loop(s);
        return;
      case StmtKind::Load:
        set(s.result, s.dtype, load(s));
        return;
      case StmtKind::Store:
        store(s);
        return;
      case StmtKind::Scalar:
        set(s.result, s.dtype, scalar(s));
        made_by_[static_cast<size_t>(s.result)] = &s;
        return;
    }
  }
  void set(int32_t r, DType dtype, Value* v) {
    registers_[static_cast<size_t>(r)] = v;
    types_[static_cast<size_t>(r)] = dtype;
  }
  // One step for each loop, the innermost last: what does not change in a loop is computed before it.
  Value* place(const Stmt& s, int lane = 0) {
    llvm::Type* type = memory_type(k_.buffer(s.buffer).dtype);
    Value* at = places_[static_cast<size_t>(s.buffer)];
    const auto advance = [&](Value* by) { at = b_.CreateInBoundsGEP(type, at, by); };
    int64_t constant = 0;
    if (Value* c = argument(s.index.constant)) {
      advance(c);
    } else {
      constant = s.index.constant;
    }
    for (const auto& term : s.index.terms) {
      Value* i = loops_[static_cast<size_t>(term.loop)];
      int64_t known = term.loop == vec_ ? lane : 0;
      if (auto* value = llvm::dyn_cast<llvm::ConstantInt>(i)) {
        known += value->getSExtValue();
        i = nullptr;
      }
      Value* factor = argument(term.factor);
      if (factor) {
        if (i) advance(b_.CreateNSWMul(i, factor));
        if (known != 0) advance(b_.CreateNSWMul(factor, number(known)));
      } else {
        if (i) advance(term.factor == 1 ? i : b_.CreateNSWMul(i, number(term.factor)));
        constant += term.factor * known;
      }
    }
    return constant == 0 ? at : b_.CreateConstInBoundsGEP1_64(type, at, static_cast<uint64_t>(constant));
  }
  Value* from_memory(Value* v, DType t) {
    return t == DType::Bool ? b_.CreateICmpNE(v, llvm::Constant::getNullValue(v->getType())) : v;
  }
  Value* load(const Stmt& s) {
    llvm::Type* type = memory_type(s.dtype);
    const llvm::Align align(static_cast<uint64_t>(info(s.dtype).bits / 8));
    const int64_t stride = vec_ >= 0 ? s.index.factor(vec_) : 0;
    if (width_ == 1 || stride == 0) {
      auto* one = b_.CreateAlignedLoad(type, place(s), align);
      // An output lies over an input only where both are touched at the same element, so this memory does not change.
      const auto buffer = static_cast<size_t>(s.buffer);
      if (vec_ >= 0 && stride == 0 && buffer < k_.buffers.size() && !k_.buffers[buffer].output)
        one->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(c_, {}));
      return from_memory(one, s.dtype);
    }
    auto* vector = llvm::FixedVectorType::get(type, static_cast<unsigned>(width_));
    if (stride == 1) {
      if (!mask_) return from_memory(b_.CreateAlignedLoad(vector, place(s), align), s.dtype);
      Value* zeros = llvm::Constant::getNullValue(vector);
      return from_memory(b_.CreateMaskedLoad(vector, place(s), align, mask_, zeros), s.dtype);
    }
    Value* v = llvm::PoisonValue::get(vector);
    for (int lane = 0; lane < width_; ++lane) {
      Value* one = b_.CreateAlignedLoad(type, place(s, lane), align);
      v = b_.CreateInsertElement(v, one, static_cast<uint64_t>(lane));
    }
    return from_memory(v, s.dtype);
  }
  void store(const Stmt& s) {
    llvm::Type* type = memory_type(s.dtype);
    const llvm::Align align(static_cast<uint64_t>(info(s.dtype).bits / 8));
    Value* v = registers_[static_cast<size_t>(s.args[0])];
    if (s.dtype == DType::Bool) v = b_.CreateZExt(v, with_shape(type, v));
    const int64_t stride = vec_ >= 0 ? s.index.factor(vec_) : 0;
    if (width_ == 1) {
      b_.CreateAlignedStore(v, place(s), align);
      return;
    }
    v = splat(v);
    if (stride == 1) {
      if (mask_) {
        b_.CreateMaskedStore(v, place(s), align, mask_);
      } else if (streaming_ && streamed(s)) {
        const int bytes = std::min(kLine, width_ * std::max(info(s.dtype).bits, 8) / 8);
        auto* past = b_.CreateAlignedStore(v, place(s), llvm::Align(static_cast<uint64_t>(bytes)));
        auto* one = llvm::ConstantAsMetadata::get(b_.getInt32(1));
        past->setMetadata(llvm::LLVMContext::MD_nontemporal, llvm::MDNode::get(c_, {one}));
      } else {
        b_.CreateAlignedStore(v, place(s), align);
      }
      return;
    }
    for (int lane = 0; lane < width_; ++lane)
      b_.CreateAlignedStore(b_.CreateExtractElement(v, static_cast<uint64_t>(lane)), place(s, lane), align);
  }
  Value* splat(Value* v) {
    if (width_ == 1 || v->getType()->isVectorTy()) return v;
    return b_.CreateVectorSplat(static_cast<unsigned>(width_), v);
  }

  // ---- scalar instructions -----------------------------------------------------------------
  Value* scalar(const Stmt& s) {
    if (s.op == ScalarOp::Const) return constant(s);
    Value* args[3] = {nullptr, nullptr, nullptr};
    const int arity = info(s.op).arity;
    bool vector = false;
    for (int a = 0; a < arity; ++a) {
      args[a] = registers_[static_cast<size_t>(s.args[a])];
      vector = vector || args[a]->getType()->isVectorTy();
    }
    if (vector) {
      for (int a = 0; a < arity; ++a) args[a] = splat(args[a]);
    }
    if (Value* scaled = options_.scale_by_power && width_ > 1 ? scaled_by_power(s) : nullptr) return scaled;
    const DType operand = types_[static_cast<size_t>(s.args[s.op == ScalarOp::Select ? 1 : 0])];
    Value* v = s.op == ScalarOp::Cast  ? cast(args[0], operand, s.dtype)
               : arity == 1            ? unary(s, args[0], operand)
               : arity == 2            ? binary(s, args[0], args[1], operand)
               : s.op == ScalarOp::Fma ? fused(args[0], args[1], args[2], operand)
                                       : b_.CreateSelect(args[0], args[1], args[2]);
    return v ? v : call(s, args, operand);
  }
  // The instruction that made a register, if it is this one; null otherwise.
  const Stmt* made_by(int32_t reg, ScalarOp op, DType dtype) const {
    const Stmt* s = reg < 0 ? nullptr : made_by_[static_cast<size_t>(reg)];
    return s && s->op == op && s->dtype == dtype ? s : nullptr;
  }
  bool is_constant(int32_t reg, int64_t integer) const {
    const Stmt* s = made_by(reg, ScalarOp::Const, DType::I32);
    return s && s->integer == integer;
  }
  // k, if the register is 2^k made from its bits; -1 otherwise.
  int32_t power_of(int32_t reg) const {
    const Stmt* bits = made_by(reg, ScalarOp::Bitcast, DType::F32);
    const Stmt* shift = bits ? made_by(bits->args[0], ScalarOp::Shl, DType::I32) : nullptr;
    const Stmt* sum =
        shift && is_constant(shift->args[1], 23) ? made_by(shift->args[0], ScalarOp::Add, DType::I32) : nullptr;
    return sum && is_constant(sum->args[1], 127) ? sum->args[0] : -1;
  }
  // (y * 2^(k >> 1)) * 2^(k - (k >> 1)), as expand.cpp ends exp: the first product is exact, so one instruction that
  // rounds once gives the same bits. Null if `s` is something else.
  Value* scaled_by_power(const Stmt& s) {
    constexpr int kWhole = 16;
    if (s.op != ScalarOp::Mul || s.dtype != DType::F32 || width_ % kWhole != 0) return nullptr;
    const Stmt* first = made_by(s.args[0], ScalarOp::Mul, DType::F32);
    const Stmt* rest = first ? made_by(power_of(s.args[1]), ScalarOp::Sub, DType::I32) : nullptr;
    if (!rest || rest->args[1] != power_of(first->args[1])) return nullptr;
    const Stmt* half = made_by(rest->args[1], ScalarOp::Shr, DType::I32);
    if (!half || half->args[0] != rest->args[0] || !is_constant(half->args[1], 1)) return nullptr;
    // k came from the low bits of k + 1.5 * 2^23.
    const Stmt* k = made_by(rest->args[0], ScalarOp::Sub, DType::I32);
    const Stmt* bits =
        k && is_constant(k->args[1], 0x4b400000) ? made_by(k->args[0], ScalarOp::Bitcast, DType::I32) : nullptr;
    if (!bits) return nullptr;
    Value* y = splat(registers_[static_cast<size_t>(first->args[0])]);
    Value* n = splat(registers_[static_cast<size_t>(bits->args[0])]);
    n = b_.CreateFSub(n, real(n, 12582912.0));
    auto* part = llvm::FixedVectorType::get(b_.getFloatTy(), kWhole);
    Value* result = llvm::PoisonValue::get(y->getType());
    for (int at = 0; at < width_; at += kWhole) {
      Value* place = number(at);
      Value* one = b_.CreateIntrinsic(llvm::Intrinsic::x86_avx512_mask_scalef_ps_512, {},
                                      {b_.CreateExtractVector(part, y, place), b_.CreateExtractVector(part, n, place),
                                       llvm::Constant::getNullValue(part), b_.getInt16(0xffff), b_.getInt32(4)});
      result = b_.CreateInsertVector(y->getType(), result, one, place);
    }
    return result;
  }
  Value* constant(const Stmt& s) {
    if (Value* bits = argument(s.integer)) {
      if (!is_float(s.dtype)) return b_.CreateTrunc(bits, scalar_type(s.dtype));
      return b_.CreateFPCast(b_.CreateBitCast(bits, b_.getDoubleTy()), scalar_type(s.dtype));
    }
    if (s.dtype == DType::F32) return llvm::ConstantFP::get(c_, llvm::APFloat(static_cast<float>(s.real)));
    if (s.dtype == DType::F64) return llvm::ConstantFP::get(c_, llvm::APFloat(s.real));
    const auto bits = static_cast<unsigned>(info(s.dtype).bits);
    if (s.dtype == DType::Bool) return b_.getInt1(s.integer != 0);
    return b_.getInt(llvm::APInt(64, static_cast<uint64_t>(s.integer)).trunc(bits));
  }
  Value* zero(const Value* like) { return llvm::Constant::getNullValue(like->getType()); }
  Value* real(const Value* like, double x) { return llvm::ConstantFP::get(like->getType(), x); }
  Value* whole(const Value* like, int64_t x) {
    return llvm::ConstantInt::get(like->getType(), static_cast<uint64_t>(x), true);
  }
  Value* intrinsic(llvm::Intrinsic::ID id, Value* a) { return b_.CreateUnaryIntrinsic(id, a); }

  // Null: call the device's loop.
  Value* unary(const Stmt& s, Value* a, DType t) {
    const bool real_type = is_float(t) && !is_narrow(t);
    switch (s.op) {
      case ScalarOp::Neg:
        return real_type ? b_.CreateFNeg(a) : b_.CreateNeg(a);
      case ScalarOp::Abs:
        if (real_type) return intrinsic(llvm::Intrinsic::fabs, a);
        return is_signed(t) ? b_.CreateSelect(b_.CreateICmpSLT(a, zero(a)), b_.CreateNeg(a), a) : a;
      case ScalarOp::Sign: {
        if (!real_type) return nullptr;
        Value* rest = b_.CreateSelect(b_.CreateFCmpOEQ(a, zero(a)), zero(a), a);
        Value* below = b_.CreateSelect(b_.CreateFCmpOLT(a, zero(a)), real(a, -1), rest);
        return b_.CreateSelect(b_.CreateFCmpOGT(a, zero(a)), real(a, 1), below);
      }
      case ScalarOp::Floor:
        return real_type ? intrinsic(llvm::Intrinsic::floor, a) : nullptr;
      case ScalarOp::Ceil:
        return real_type ? intrinsic(llvm::Intrinsic::ceil, a) : nullptr;
      case ScalarOp::Round:
        return real_type ? intrinsic(llvm::Intrinsic::rint, a) : nullptr;
      case ScalarOp::Trunc:
        return real_type ? intrinsic(llvm::Intrinsic::trunc, a) : nullptr;
      case ScalarOp::Sqrt:
        return real_type ? intrinsic(llvm::Intrinsic::sqrt, a) : nullptr;
      case ScalarOp::Not:
        return b_.CreateNot(a);
      case ScalarOp::IsNan:
        return b_.CreateFCmpUNO(a, a);
      case ScalarOp::IsInf:
        return b_.CreateFCmpOEQ(intrinsic(llvm::Intrinsic::fabs, a), real(a, std::numeric_limits<double>::infinity()));
      case ScalarOp::IsFinite:
        return b_.CreateFCmpOLT(intrinsic(llvm::Intrinsic::fabs, a), real(a, std::numeric_limits<double>::infinity()));
      case ScalarOp::SignBit: {
        Value* bits = b_.CreateBitCast(a, with_shape(b_.getIntNTy(static_cast<unsigned>(info(t).bits)), a));
        return b_.CreateICmpSLT(bits, zero(bits));
      }
      case ScalarOp::Bitcast:
        if (t == DType::Bool || s.dtype == DType::Bool) return nullptr;
        return b_.CreateBitCast(a, with_shape(scalar_type(s.dtype), a));
      default:
        return nullptr;
    }
  }

  Value* binary(const Stmt& s, Value* a, Value* b, DType t) {
    if (is_float(t)) return is_narrow(t) ? nullptr : binary_float(s.op, a, b);
    if (t == DType::Bool) return binary_bool(s.op, a, b);
    const bool sign = is_signed(t);
    const auto compare = [&](llvm::CmpInst::Predicate with_sign, llvm::CmpInst::Predicate without) {
      return b_.CreateICmp(sign ? with_sign : without, a, b);
    };
    using P = llvm::CmpInst;
    switch (s.op) {
      case ScalarOp::Add:
        return b_.CreateAdd(a, b);
      case ScalarOp::Sub:
        return b_.CreateSub(a, b);
      case ScalarOp::Mul:
        return b_.CreateMul(a, b);
      case ScalarOp::Min:
        return b_.CreateSelect(compare(P::ICMP_SLT, P::ICMP_ULT), a, b);
      case ScalarOp::Max:
        return b_.CreateSelect(compare(P::ICMP_SGT, P::ICMP_UGT), a, b);
      case ScalarOp::And:
        return b_.CreateAnd(a, b);
      case ScalarOp::Or:
        return b_.CreateOr(a, b);
      case ScalarOp::Xor:
        return b_.CreateXor(a, b);
      case ScalarOp::Shl:
      case ScalarOp::Shr: {
        // A negative distance is a large one.
        Value* inside = b_.CreateICmpULT(b, whole(b, info(t).bits));
        Value* by = b_.CreateSelect(inside, b, zero(b));
        if (s.op == ScalarOp::Shl) return b_.CreateSelect(inside, b_.CreateShl(a, by), zero(a));
        if (!sign) return b_.CreateSelect(inside, b_.CreateLShr(a, by), zero(a));
        return b_.CreateSelect(inside, b_.CreateAShr(a, by), b_.CreateAShr(a, whole(a, info(t).bits - 1)));
      }
      case ScalarOp::Lt:
        return compare(P::ICMP_SLT, P::ICMP_ULT);
      case ScalarOp::Le:
        return compare(P::ICMP_SLE, P::ICMP_ULE);
      case ScalarOp::Gt:
        return compare(P::ICMP_SGT, P::ICMP_UGT);
      case ScalarOp::Ge:
        return compare(P::ICMP_SGE, P::ICMP_UGE);
      case ScalarOp::Eq:
        return b_.CreateICmpEQ(a, b);
      case ScalarOp::Ne:
        return b_.CreateICmpNE(a, b);
      default:
        return nullptr;
    }
  }
  Value* binary_bool(ScalarOp op, Value* a, Value* b) {
    switch (op) {
      case ScalarOp::Add:
      case ScalarOp::Max:
      case ScalarOp::Or:
        return b_.CreateOr(a, b);
      case ScalarOp::Mul:
      case ScalarOp::Min:
      case ScalarOp::And:
        return b_.CreateAnd(a, b);
      case ScalarOp::Xor:
      case ScalarOp::Ne:
        return b_.CreateXor(a, b);
      case ScalarOp::Eq:
        return b_.CreateNot(b_.CreateXor(a, b));
      case ScalarOp::Lt:
        return b_.CreateAnd(b_.CreateNot(a), b);
      case ScalarOp::Le:
        return b_.CreateOr(b_.CreateNot(a), b);
      case ScalarOp::Gt:
        return b_.CreateAnd(a, b_.CreateNot(b));
      case ScalarOp::Ge:
        return b_.CreateOr(a, b_.CreateNot(b));
      default:
        return nullptr;
    }
  }
  Value* binary_float(ScalarOp op, Value* a, Value* b) {
    switch (op) {
      case ScalarOp::Add:
        return b_.CreateFAdd(a, b);
      case ScalarOp::Sub:
        return b_.CreateFSub(a, b);
      case ScalarOp::Mul:
        return b_.CreateFMul(a, b);
      case ScalarOp::Div:
        return b_.CreateFDiv(a, b);
      case ScalarOp::Tdiv:
        return intrinsic(llvm::Intrinsic::trunc, b_.CreateFDiv(a, b));
      case ScalarOp::Min:
        // In this form x86 has an instruction for the inner one.
        return b_.CreateSelect(b_.CreateFCmpUNO(a, a), a, b_.CreateSelect(b_.CreateFCmpOLT(a, b), a, b));
      case ScalarOp::Max:
        return b_.CreateSelect(b_.CreateFCmpUNO(a, a), a, b_.CreateSelect(b_.CreateFCmpOGT(a, b), a, b));
      case ScalarOp::CopySign:
        return b_.CreateBinaryIntrinsic(llvm::Intrinsic::copysign, a, b);
      case ScalarOp::Lt:
        return b_.CreateFCmpOLT(a, b);
      case ScalarOp::Le:
        return b_.CreateFCmpOLE(a, b);
      case ScalarOp::Gt:
        return b_.CreateFCmpOGT(a, b);
      case ScalarOp::Ge:
        return b_.CreateFCmpOGE(a, b);
      case ScalarOp::Eq:
        return b_.CreateFCmpOEQ(a, b);
      case ScalarOp::Ne:
        return b_.CreateFCmpUNE(a, b);
      default:
        return nullptr;
    }
  }

  // a * b + c, rounded once; without an instruction for it by the formula of device/cpu/level_math.h.
  Value* fused(Value* a, Value* b, Value* c, DType t) {
    if (options_.fma && !is_narrow(t)) return b_.CreateIntrinsic(llvm::Intrinsic::fma, {a->getType()}, {a, b, c});
    if (t != DType::F32) return nullptr;
    llvm::Type* wide = with_shape(b_.getDoubleTy(), a);
    const auto widen = [&](Value* x) { return b_.CreateFPExt(x, wide); };
    Value* addend = widen(c);
    Value* product = b_.CreateFMul(widen(a), widen(b));
    Value* sum = b_.CreateFAdd(product, addend);
    Value* part = b_.CreateFSub(sum, product);
    Value* error = b_.CreateFAdd(b_.CreateFSub(product, b_.CreateFSub(sum, part)), b_.CreateFSub(addend, part));
    Value* bits = b_.CreateBitCast(sum, with_shape(b_.getInt64Ty(), a));
    Value* away = b_.CreateICmpEQ(b_.CreateFCmpOGT(error, zero(error)), b_.CreateFCmpOGT(sum, zero(sum)));
    Value* step = b_.CreateSelect(away, whole(bits, 1), whole(bits, -1));
    Value* even = b_.CreateICmpEQ(b_.CreateAnd(bits, whole(bits, 1)), zero(bits));
    Value* to_odd = b_.CreateAnd(b_.CreateFCmpONE(error, zero(error)), even);
    Value* odd = b_.CreateBitCast(b_.CreateAdd(bits, b_.CreateSelect(to_odd, step, zero(bits))), wide);
    return b_.CreateFPTrunc(odd, a->getType());
  }

  // f16 and bf16 as bits, by the formulas of device/cpu/level_elementwise.h: not every target has instructions for
  // them.
  Value* widened(Value* h, DType from) {
    llvm::Type* word = with_shape(b_.getInt32Ty(), h);
    llvm::Type* single = with_shape(b_.getFloatTy(), h);
    Value* x = b_.CreateZExt(h, word);
    if (from == DType::BF16) return b_.CreateBitCast(b_.CreateShl(x, whole(x, 16)), single);
    Value* sign = b_.CreateShl(b_.CreateAnd(x, whole(x, 0x8000)), whole(x, 16));
    Value* body = b_.CreateShl(b_.CreateAnd(x, whole(x, 0x7fff)), whole(x, 13));
    Value* exponent = b_.CreateAnd(body, whole(x, 0x0f800000));
    Value* normal = b_.CreateAdd(body, whole(x, 0x38000000));
    Value* is_nan = b_.CreateICmpNE(b_.CreateAnd(body, whole(x, 0x007fffff)), zero(x));
    Value* special =
        b_.CreateOr(b_.CreateAdd(normal, whole(x, 0x38000000)), b_.CreateSelect(is_nan, whole(x, 0x00400000), zero(x)));
    Value* small = b_.CreateBitCast(b_.CreateAdd(body, whole(x, 0x38800000)), single);
    Value* least = b_.CreateBitCast(whole(x, 0x38800000), single);
    Value* denormal = b_.CreateBitCast(b_.CreateFSub(small, least), word);
    Value* finite = b_.CreateSelect(b_.CreateICmpEQ(exponent, zero(x)), denormal, normal);
    Value* all = b_.CreateSelect(b_.CreateICmpEQ(exponent, whole(x, 0x0f800000)), special, finite);
    return b_.CreateBitCast(b_.CreateOr(sign, all), single);
  }
  Value* narrowed(Value* a, DType to) {
    Value* all = b_.CreateBitCast(a, with_shape(b_.getInt32Ty(), a));
    llvm::Type* half = with_shape(b_.getInt16Ty(), a);
    Value* u = b_.CreateAnd(all, whole(all, 0x7fffffff));
    Value* is_nan = b_.CreateICmpUGT(u, whole(all, 0x7f800000));
    const auto odd = [&](Value* x, int at) { return b_.CreateAnd(b_.CreateLShr(x, whole(x, at)), whole(x, 1)); };
    if (to == DType::BF16) {
      Value* up = b_.CreateAdd(b_.CreateAdd(all, whole(all, 0x7fff)), odd(all, 16));
      Value* nan = b_.CreateOr(b_.CreateLShr(all, whole(all, 16)), whole(all, 0x40));
      return b_.CreateTrunc(b_.CreateSelect(is_nan, nan, b_.CreateLShr(up, whole(all, 16))), half);
    }
    Value* sign = b_.CreateAnd(b_.CreateLShr(all, whole(all, 16)), whole(all, 0x8000));
    Value* nan = b_.CreateOr(b_.CreateAnd(b_.CreateLShr(u, whole(all, 13)), whole(all, 0x3ff)), whole(all, 0x7e00));
    Value* special = b_.CreateSelect(is_nan, nan, whole(all, 0x7c00));
    Value* sum = b_.CreateFAdd(b_.CreateBitCast(u, a->getType()), real(a, 0.5));
    Value* denormal = b_.CreateSub(b_.CreateBitCast(sum, all->getType()), whole(all, 0x3f000000));
    Value* normal = b_.CreateLShr(b_.CreateAdd(b_.CreateAdd(u, whole(all, 0xc8000fff)), odd(u, 13)), whole(all, 13));
    Value* finite = b_.CreateSelect(b_.CreateICmpULT(u, whole(all, 0x38800000)), denormal, normal);
    Value* large = b_.CreateICmpUGE(u, whole(all, 0x47800000));
    return b_.CreateTrunc(b_.CreateOr(sign, b_.CreateSelect(large, special, finite)), half);
  }

  Value* cast(Value* a, DType from, DType to) {
    if (from == to) return a;
    if (to == DType::F32 && (from == DType::F16 || from == DType::BF16)) return widened(a, from);
    if (from == DType::F32 && (to == DType::F16 || to == DType::BF16)) return narrowed(a, to);
    if (is_narrow(from) || is_narrow(to) || info(from).bits < 8 || info(to).bits < 8) return nullptr;
    llvm::Type* type = with_shape(scalar_type(to), a);
    if (to == DType::Bool) return is_float(from) ? b_.CreateFCmpUNE(a, zero(a)) : b_.CreateICmpNE(a, zero(a));
    if (is_float(from) && is_float(to)) return b_.CreateFPCast(a, type);
    if (is_float(to)) return is_signed(from) ? b_.CreateSIToFP(a, type) : b_.CreateUIToFP(a, type);
    if (!is_float(from)) return b_.CreateIntCast(a, type, is_signed(from));
    // Saturates; NaN gives 0. The bound above the largest number is a power of two: exact in every float.
    const int bits = info(to).bits;
    const double high = std::ldexp(1.0, is_signed(to) ? bits - 1 : bits), low = is_signed(to) ? -high : 0.0;
    Value* above = b_.CreateFCmpOGE(a, real(a, high));
    Value* below = b_.CreateFCmpOLE(a, real(a, low));
    Value* inside = b_.CreateAnd(b_.CreateFCmpOGT(a, real(a, low)), b_.CreateFCmpOLT(a, real(a, high)));
    Value* safe = b_.CreateSelect(inside, a, zero(a));
    Value* cut = is_signed(to) ? b_.CreateFPToSI(safe, type) : b_.CreateFPToUI(safe, type);
    const auto most =
        llvm::ConstantInt::get(type, is_signed(to) ? llvm::APInt::getSignedMaxValue(static_cast<unsigned>(bits))
                                                   : llvm::APInt::getMaxValue(static_cast<unsigned>(bits)));
    const auto least =
        llvm::ConstantInt::get(type, is_signed(to) ? llvm::APInt::getSignedMinValue(static_cast<unsigned>(bits))
                                                   : llvm::APInt(static_cast<unsigned>(bits), 0));
    return b_.CreateSelect(above, most, b_.CreateSelect(below, least, cut));
  }

  // The device's own loop over the lanes.
  Value* call(const Stmt& s, Value* const* args, DType operand) {
    const std::string symbol = symbol_of(s.op, operand, s.dtype);
    auto* pointer = llvm::PointerType::get(c_, 0);
    auto* type = llvm::FunctionType::get(b_.getVoidTy(), {pointer, pointer, pointer, pointer, b_.getInt64Ty()}, false);
    llvm::FunctionCallee function = m_.getOrInsertFunction(symbol, type);
    llvm::cast<llvm::Function>(function.getCallee())->setDoesNotThrow();
    int lanes = 1;
    Value* slots[4];
    for (int a = 0; a < 3; ++a) {
      slots[a + 1] = llvm::ConstantPointerNull::get(pointer);
      if (!args[a]) continue;
      Value* v = args[a];
      if (v->getType()->isVectorTy()) lanes = width_;
      const DType t = types_[static_cast<size_t>(s.args[a])];
      if (t == DType::Bool) v = b_.CreateZExt(v, with_shape(b_.getInt8Ty(), v));
      slots[a + 1] = slot(a + 1);
      b_.CreateStore(v, slots[a + 1]);
    }
    slots[0] = slot(0);
    b_.CreateCall(function, {slots[0], slots[1], slots[2], slots[3], b_.getInt64(static_cast<uint64_t>(lanes))});
    llvm::Type* result = memory_type(s.dtype);
    if (lanes > 1) result = llvm::FixedVectorType::get(result, static_cast<unsigned>(lanes));
    return from_memory(b_.CreateLoad(result, slots[0]), s.dtype);
  }
  Value* slot(int i) {
    auto& space = slots_[i];
    if (!space) {
      llvm::IRBuilder<> at(entry_, entry_->begin());
      space = at.CreateAlloca(
          llvm::ArrayType::get(b_.getInt8Ty(), static_cast<uint64_t>(options_.lanes * options_.together) * 8));
      space->setAlignment(llvm::Align(128));
    }
    return space;
  }

  llvm::Module& m_;
  llvm::LLVMContext& c_;
  llvm::IRBuilder<> b_;
  const Kernel& k_;
  const EmitOptions& options_;
  const PrefetchPlan prefetch_;
  std::unordered_map<const int64_t*, int> slots_of_;  // of the numbers that are arguments
  std::vector<Value*> numbers_;                       // by slot, once they are loaded
  llvm::Function* f_ = nullptr;
  llvm::BasicBlock* entry_ = nullptr;
  std::vector<Value*> places_;     // of buffers and scratch
  std::vector<Value*> registers_;  // scalars, or vectors within a vec loop
  std::vector<DType> types_;
  std::vector<const Stmt*> made_by_;  // the instructions behind registers
  std::vector<Value*> loops_;
  llvm::AllocaInst* slots_[4] = {};
  std::vector<char> streamed_;  // by buffer; empty: none
  bool streaming_ = false;      // in the loop that sends them past the caches
  int32_t vec_ = -1;            // the vec loop around
  int width_ = 1;               // its lanes now
  Value* mask_ = nullptr;       // which of them count; null: all
};

}  // namespace

void emit(llvm::Module& module, const Kernel& kernel, const EmitOptions& options) {
  Emitter(module, kernel, options).run();
}

}  // namespace tenon::compiler
