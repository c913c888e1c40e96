// How many members an aggregate has, found at compile time.
//
// T{any, any, …} is tried with more and more initialisers, where `any` converts to everything. A C array takes one
// initialiser for each element; a second look with nested braces tells such arrays from members, so `Layer l[3]`
// counts once. Limits: kMaxMembers initialisers; a C array whose elements have no default constructor may have
// kGap elements (std::array has no such limit).
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace tenon::nn::reflect {

inline constexpr size_t kMaxMembers = 128;
inline constexpr size_t kGap = 16;
inline constexpr size_t kUncountable = static_cast<size_t>(-1);

// Never called: only its type is used, inside requires-expressions. The operators have bodies because clang asks for
// them where U has no linkage.
struct Any {
  explicit Any(size_t);
  template <class U>
  operator U() const noexcept {  // NOLINT(google-explicit-constructor)
    __builtin_unreachable();
  }
};
// Converts to base classes of T only.
template <class T>
struct AnyBase {
  template <class U>
    requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T>)
  operator U() const noexcept {  // NOLINT(google-explicit-constructor)
    __builtin_unreachable();
  }
};

template <class T, size_t N>
constexpr bool takes() {
  return
      []<size_t... I>(std::index_sequence<I...>) { return requires { T{Any(I)...}; }; }(std::make_index_sequence<N>{});
}

// T{any × Before, {any × Inside}, any × After}
template <class T, size_t Before, size_t Inside, size_t After>
constexpr bool takes_nested() {
  return []<size_t... B, size_t... I, size_t... A>(std::index_sequence<B...>, std::index_sequence<I...>,
                                                   std::index_sequence<A...>) {
    return requires { T{Any(B)..., {Any(I)...}, Any(A)...}; };
  }(std::make_index_sequence<Before>{}, std::make_index_sequence<Inside>{}, std::make_index_sequence<After>{});
}

// The largest number of initialisers. Gaps (members and array elements that must not be left out) are stepped over.
template <class T, size_t N = 0, size_t Best = kUncountable, size_t Misses = 0>
constexpr size_t initializers() {
  constexpr size_t patience = Best == kUncountable ? kMaxMembers + 1 : kGap;
  if constexpr (N > kMaxMembers || Misses > patience) {
    return Best;
  } else if constexpr (takes<T, N>()) {
    return initializers<T, N + 1, N, 0>();
  } else {
    return initializers<T, N + 1, Best, Misses + 1>();
  }
}

// Initialisers that the member starting at initialiser I of Total takes: more than one only for a C array.
template <class T, size_t I, size_t Total, size_t Inside = 0>
constexpr size_t taken_by() {
  if constexpr (Inside > Total - I) {
    return 1;
  } else if constexpr (takes_nested<T, I, Inside, Total - I - 1>()) {
    return 1;
  } else if constexpr (Inside > 1 && takes_nested<T, I, Inside, Total - I - Inside>()) {
    return Inside;
  } else {
    return taken_by<T, I, Total, Inside + 1>();
  }
}

template <class T, size_t I, size_t Total>
constexpr size_t members_from() {
  if constexpr (I >= Total) {
    return 0;
  } else {
    return 1 + members_from<T, I + taken_by<T, I, Total>(), Total>();
  }
}

// The number of members, or kUncountable.
template <class T>
constexpr size_t count_members() {
  constexpr size_t total = initializers<T>();
  if constexpr (total == kUncountable) {
    return kUncountable;
  } else {
    return members_from<T, 0, total>();
  }
}
template <class T>
inline constexpr size_t arity = count_members<T>();

// Does the aggregate T have a base class? (A base counts as its first initialiser.)
template <class T>
constexpr bool aggregate_has_base() {
  constexpr size_t total = initializers<T>();
  if constexpr (total == 0 || total == kUncountable) {
    return false;
  } else {
    return []<size_t... I>(std::index_sequence<I...>) {
      return requires { T{AnyBase<T>{}, Any(I)...}; };
    }(std::make_index_sequence<total - 1>{});
  }
}

}  // namespace tenon::nn::reflect
