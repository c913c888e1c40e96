// The table of this level's loops. Included by level_*.cpp only.
#pragma once

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/level_attention.h"
#include "tenon/device/cpu/level_elementwise.h"
#include "tenon/device/cpu/level_exp.h"
#include "tenon/device/cpu/level_plane.h"
#include "tenon/device/cpu/level_pool.h"
#include "tenon/device/cpu/level_random.h"
#include "tenon/device/cpu/level_reduce.h"
#include "tenon/device/cpu/level_rows.h"
#include "tenon/device/cpu/level_tile.h"
#include "tenon/device/cpu/level_winograd.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

// The C++ type that stands for a dtype in the loops.
template <DType D>
struct TypeOf;
// clang-format off
template <> struct TypeOf<DType::Bool> { using type = Truth; };
template <> struct TypeOf<DType::U8> { using type = uint8_t; };
template <> struct TypeOf<DType::U16> { using type = uint16_t; };
template <> struct TypeOf<DType::U32> { using type = uint32_t; };
template <> struct TypeOf<DType::U64> { using type = uint64_t; };
template <> struct TypeOf<DType::I8> { using type = int8_t; };
template <> struct TypeOf<DType::I16> { using type = int16_t; };
template <> struct TypeOf<DType::I32> { using type = int32_t; };
template <> struct TypeOf<DType::I64> { using type = int64_t; };
template <> struct TypeOf<DType::F16> { using type = Half; };
template <> struct TypeOf<DType::BF16> { using type = Brain; };
template <> struct TypeOf<DType::F32> { using type = float; };
template <> struct TypeOf<DType::F64> { using type = double; };
template <> struct TypeOf<DType::F8E4M3> { using type = F8E4M3; };
template <> struct TypeOf<DType::F8E5M2> { using type = F8E5M2; };
template <> struct TypeOf<DType::I4> { using type = Int4; };
template <> struct TypeOf<DType::U4> { using type = UInt4; };
template <> struct TypeOf<DType::I2> { using type = Int2; };
// clang-format on

constexpr int at(DType t) { return static_cast<int>(t); }
constexpr int at(ir::ScalarOp op) { return static_cast<int>(op); }

template <class F, DType D>
constexpr void put1(LevelTable& t, ir::ScalarOp op) {
  using T = typename TypeOf<D>::type;
  t.loop[at(op)][at(D)] = loop1<F, T, T>;
}
template <class F, DType D>
constexpr void put2(LevelTable& t, ir::ScalarOp op) {
  using T = typename TypeOf<D>::type;
  t.loop[at(op)][at(D)] = loop2<F, T, T>;
}
template <class F, DType D>
constexpr void put_compare(LevelTable& t, ir::ScalarOp op) {
  t.loop[at(op)][at(D)] = loop2<F, uint8_t, typename TypeOf<D>::type>;
}
template <class F>
constexpr void put_float1(LevelTable& t, ir::ScalarOp op) {
  put1<F, DType::F32>(t, op);
  put1<F, DType::F64>(t, op);
}
template <class F>
constexpr void put_test(LevelTable& t, ir::ScalarOp op) {
  t.loop[at(op)][at(DType::F32)] = loop1<F, uint8_t, float>;
  t.loop[at(op)][at(DType::F64)] = loop1<F, uint8_t, double>;
}
template <class F>
constexpr void put_float2(LevelTable& t, ir::ScalarOp op) {
  put2<F, DType::F32>(t, op);
  put2<F, DType::F64>(t, op);
}

template <DType D>
constexpr void put_all_kinds(LevelTable& t) {
  using enum ir::ScalarOp;
  put2<AddOp, D>(t, Add);
  put2<MulOp, D>(t, Mul);
  put2<MinOp, D>(t, Min);
  put2<MaxOp, D>(t, Max);
  put_compare<LtOp, D>(t, Lt);
  put_compare<LeOp, D>(t, Le);
  put_compare<GtOp, D>(t, Gt);
  put_compare<GeOp, D>(t, Ge);
  put_compare<EqOp, D>(t, Eq);
  put_compare<NeOp, D>(t, Ne);
  t.loop[at(Select)][at(D)] = loop_select<typename TypeOf<D>::type>;
}
template <DType D>
constexpr void put_number(LevelTable& t) {
  using enum ir::ScalarOp;
  put_all_kinds<D>(t);
  put1<NegOp, D>(t, Neg);
  put1<AbsOp, D>(t, Abs);
  put1<SignOp, D>(t, Sign);
  put2<SubOp, D>(t, Sub);
  put2<DivOp, D>(t, Div);
  put2<RemOp, D>(t, Rem);
  put2<TdivOp, D>(t, Tdiv);
  put2<FmodOp, D>(t, Fmod);
  put2<PowOp, D>(t, Pow);
}
template <DType D>
constexpr void put_bits(LevelTable& t) {
  using enum ir::ScalarOp;
  put1<NotOp, D>(t, Not);
  put2<AndOp, D>(t, And);
  put2<OrOp, D>(t, Or);
  put2<XorOp, D>(t, Xor);
}
template <DType D>
constexpr void put_integer(LevelTable& t) {
  using enum ir::ScalarOp;
  put_number<D>(t);
  put_bits<D>(t);
  put1<PopCountOp, D>(t, PopCount);
  put2<ShlOp, D>(t, Shl);
  put2<ShrOp, D>(t, Shr);
}

// The C library's functions with C++ linkage, so that they can be template arguments.
#define TENON_LIBRARY(name)                                    \
  inline float name##_single(float x) { return ::name##f(x); } \
  inline double name##_double(double x) { return ::name(x); }
TENON_LIBRARY(cbrt)
TENON_LIBRARY(exp)
TENON_LIBRARY(exp2)
TENON_LIBRARY(expm1)
TENON_LIBRARY(log)
TENON_LIBRARY(log2)
TENON_LIBRARY(log10)
TENON_LIBRARY(log1p)
TENON_LIBRARY(sin)
TENON_LIBRARY(cos)
TENON_LIBRARY(tan)
TENON_LIBRARY(asin)
TENON_LIBRARY(acos)
TENON_LIBRARY(atan)
TENON_LIBRARY(sinh)
TENON_LIBRARY(cosh)
TENON_LIBRARY(tanh)
TENON_LIBRARY(asinh)
TENON_LIBRARY(acosh)
TENON_LIBRARY(atanh)
TENON_LIBRARY(erf)
TENON_LIBRARY(erfc)
#undef TENON_LIBRARY
inline double lgamma_double(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}
inline float lgamma_single(float x) { return static_cast<float>(lgamma_double(x)); }
inline float digamma_single(float x) { return static_cast<float>(digamma_f64(x)); }

constexpr void put_math(LevelTable& t) {
  using enum ir::ScalarOp;
  put_float1<FloorOp>(t, Floor);
  put_float1<CeilOp>(t, Ceil);
  put_float1<RoundOp>(t, Round);
  put_float1<TruncOp>(t, Trunc);
  put_float1<SqrtOp>(t, Sqrt);
  put_float1<Math1<cbrt_single, cbrt_double>>(t, Cbrt);
  put_float1<Math1<exp_f32, exp_double>>(t, Exp);
  put_float1<Math1<exp2_f32, exp2_double>>(t, Exp2);
  put_float1<Math1<expm1_f32, expm1_double>>(t, Expm1);
  put_float1<Math1<log_f32, log_double>>(t, Log);
  put_float1<Math1<log2_f32, log2_double>>(t, Log2);
  put_float1<Math1<log10_f32, log10_double>>(t, Log10);
  put_float1<Math1<log1p_f32, log1p_double>>(t, Log1p);
  put_float1<Math1<sin_f32, sin_double>>(t, Sin);
  put_float1<Math1<cos_f32, cos_double>>(t, Cos);
  t.loop[at(Sin)][at(DType::F32)] = loop_trig<sin_f32, library_sin>;
  t.loop[at(Cos)][at(DType::F32)] = loop_trig<cos_f32, library_cos>;
  put_float1<Math1<tan_single, tan_double>>(t, Tan);
  put_float1<Math1<asin_single, asin_double>>(t, Asin);
  put_float1<Math1<acos_single, acos_double>>(t, Acos);
  put_float1<Math1<atan_single, atan_double>>(t, Atan);
  put_float1<Math1<sinh_f32, sinh_double>>(t, Sinh);
  put_float1<Math1<cosh_f32, cosh_double>>(t, Cosh);
  put_float1<Math1<tanh_f32, tanh_double>>(t, Tanh);
  put_float1<Math1<asinh_single, asinh_double>>(t, Asinh);
  put_float1<Math1<acosh_single, acosh_double>>(t, Acosh);
  put_float1<Math1<atanh_single, atanh_double>>(t, Atanh);
  put_float1<Math1<erf_f32, erf_double>>(t, Erf);
  put_float1<Math1<erfc_single, erfc_double>>(t, Erfc);
  put_float1<Math1<erfinv_f32, erfinv_f64>>(t, Erfinv);
  put_float1<Math1<lgamma_single, lgamma_double>>(t, Lgamma);
  put_float1<Math1<digamma_single, digamma_f64>>(t, Digamma);
  put_test<IsNanOp>(t, IsNan);
  put_test<IsInfOp>(t, IsInf);
  put_test<IsFiniteOp>(t, IsFinite);
  put_test<SignBitOp>(t, SignBit);
  put_float2<Atan2Op>(t, Atan2);
  put_float2<NextAfterOp>(t, NextAfter);
  put_float2<CopySignOp>(t, CopySign);
  t.loop[at(Fma)][at(DType::F32)] = loop_fma<float, fma_f32>;
  t.loop[at(Fma)][at(DType::F64)] = loop_fma<double, fma_f64>;
}

template <DType From, DType To>
constexpr void put_cast(LevelTable& t) {
  using F = typename TypeOf<From>::type;
  using T = typename TypeOf<To>::type;
  t.cast[at(From)][at(To)] = loop1<CastOp<F, T>, T, F>;
}
template <DType From>
constexpr void put_casts_to_computed(LevelTable& t) {
  put_cast<From, DType::Bool>(t);
  put_cast<From, DType::U8>(t);
  put_cast<From, DType::U16>(t);
  put_cast<From, DType::U32>(t);
  put_cast<From, DType::U64>(t);
  put_cast<From, DType::I8>(t);
  put_cast<From, DType::I16>(t);
  put_cast<From, DType::I32>(t);
  put_cast<From, DType::I64>(t);
  put_cast<From, DType::F32>(t);
  put_cast<From, DType::F64>(t);
  put_cast<From, DType::I4>(t);
  put_cast<From, DType::U4>(t);
  put_cast<From, DType::I2>(t);
}
template <DType Narrow>
constexpr void put_narrow_float(LevelTable& t) {
  put_cast<Narrow, Narrow>(t);
  put_cast<Narrow, DType::F32>(t);
  put_cast<DType::F32, Narrow>(t);
  put_cast<DType::F64, Narrow>(t);
}

template <Fold K, class Op, DType D, DType Acc>
constexpr void put_fold(LevelTable& t) {
  using T = typename TypeOf<D>::type;
  using A = typename TypeOf<Acc>::type;
  t.fold[static_cast<int>(K)][at(D)] = fold_run<Op, A, T>;
  t.fold_row[static_cast<int>(K)][at(D)] = fold_row<Op, A, T>;
}
template <DType D, DType Acc>
constexpr void put_folds(LevelTable& t) {
  put_fold<Fold::Sum, AddOp, D, Acc>(t);
  put_fold<Fold::Prod, MulOp, D, Acc>(t);
  put_fold<Fold::Max, MaxOp, D, D>(t);
  put_fold<Fold::Min, MinOp, D, D>(t);
}

template <DType... D>
constexpr void put_integers(LevelTable& t) {
  (put_integer<D>(t), ...);
  (put_casts_to_computed<D>(t), ...);
  (put_folds<D, DType::U64>(t), ...);
}

constexpr LevelTable make_table(const char* name) {
  LevelTable t{};
  t.name = name;
  put_integers<DType::U8, DType::U16, DType::U32, DType::U64, DType::I8, DType::I16, DType::I32, DType::I64>(t);
  put_all_kinds<DType::Bool>(t);
  put_bits<DType::Bool>(t);
  put_casts_to_computed<DType::Bool>(t);
  put_folds<DType::Bool, DType::U64>(t);
  put_number<DType::F32>(t);
  put_number<DType::F64>(t);
  put_math(t);
  put_casts_to_computed<DType::F32>(t);
  put_casts_to_computed<DType::F64>(t);
  put_folds<DType::F32, DType::F32>(t);
  put_folds<DType::F64, DType::F64>(t);
  put_narrow_float<DType::F16>(t);
#if defined(__F16C__)
  t.cast[at(DType::F16)][at(DType::F32)] = widen_halves;
  t.cast[at(DType::F32)][at(DType::F16)] = round_to_halves;
#endif
  put_narrow_float<DType::BF16>(t);
  put_narrow_float<DType::F8E4M3>(t);
  put_narrow_float<DType::F8E5M2>(t);
  put_casts_to_computed<DType::I4>(t);
  put_casts_to_computed<DType::U4>(t);
  put_casts_to_computed<DType::I2>(t);
  t.rows_f32 = Rows<float>::loops();
#ifdef TENON_EXP_SUMS
  t.exp_sums = exp_sums;
#endif
  t.rows_f64 = Rows<double>::loops();
  t.tiles = tile_loops();
  t.planes = plane_loops();
  t.winograd = winograd_loops();
  t.largest = largest;
  t.attention = {attention_product, attention_softmax, attention_gradient};
  t.random_words = random_words;
  return t;
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
