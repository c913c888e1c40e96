// Walks a model: every Variable and Mode in it, with its path, in order of declaration.
//
// A model is any value: a struct whose members are public (an aggregate), a class with a Members line (members.h), and
// the standard containers of those. Path parts: a member's name; the index in vector, array, deque, list and tuple;
// the key in a map with string keys (in sorted order). optional, variant, unique_ptr, shared_ptr and
// reference_wrapper add nothing to the path, and what is empty is skipped. Members that can hold no state are
// skipped: numbers, enums, strings, functions, Tensors (a Tensor is a constant; state is a Variable), std:: classes.
// To teach it a container: one branch in visit_value, one bad snippet in tests/nn/must_fail.
#pragma once

#include <concepts>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

#include "tenon/nn/members.h"
#include "tenon/nn/mode.h"
#include "tenon/nn/reflect/names.h"
#include "tenon/tensor/variable.h"

namespace tenon::nn {

// What a walk calls. `path` is dotted and empty for the model itself.
class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void variable(const std::string& path, Variable& variable) = 0;
  virtual void mode(const std::string& /*path*/, Mode& /*mode*/) {}
  // Around the members of each struct or class.
  virtual void enter(const std::string& /*path*/, std::string_view /*type*/) {}
  virtual void leave() {}
  // A shared_ptr's target may be replaced (clone does): returns the new one, made by `copy`, or null to keep the old.
  using Copy = std::function<std::shared_ptr<void>()>;
  virtual std::shared_ptr<void> replace(const void* /*target*/, const Copy& /*copy*/) { return nullptr; }
};

namespace reflect {

template <class T, template <class...> class Template>
inline constexpr bool is_a = false;
template <class... A, template <class...> class Template>
inline constexpr bool is_a<Template<A...>, Template> = true;

template <class T>
concept Iterable = requires(T& t) {
  t.begin();
  t.end();
  typename T::value_type;
};
template <class T>
concept StringMap = Iterable<T> && requires(T& t) {
  typename T::mapped_type;
  requires std::convertible_to<typename T::key_type, std::string>;
};
template <class T>
concept TupleLike = is_a<T, std::tuple> || is_a<T, std::pair>;

template <class T>
constexpr bool in_std() {
  return type_name<T>().starts_with("std::");
}

template <class T>
constexpr bool stateless();

// Is T a raw pointer to something that a walk would look into?
template <class T>
constexpr bool points_at_layer() {
  using Target = std::remove_cv_t<std::remove_pointer_t<T>>;
  if constexpr (std::is_pointer_v<T> && std::is_class_v<Target>) {
    if constexpr (requires { sizeof(Target); }) {
      return !stateless<Target>() &&
             (std::is_same_v<Target, Variable> || HasMembers<Target> || std::is_aggregate_v<Target>);
    }
  }
  return false;
}

// Holds no state, whatever its value: not looked into.
template <class T>
constexpr bool stateless() {
  if constexpr (is_configuration<T> || !(std::is_class_v<T> || std::is_array_v<T>)) {
    return true;  // numbers, enums, unions, functions; pointers are checked apart
  } else if constexpr (std::is_same_v<T, Variable> || std::is_same_v<T, Mode> || HasMembers<T> || std::is_array_v<T> ||
                       is_a<T, Inline> || is_a<T, std::optional> || is_a<T, std::variant> || is_a<T, std::unique_ptr> ||
                       is_a<T, std::shared_ptr> || is_a<T, std::reference_wrapper> || TupleLike<T>) {
    return false;
  } else if constexpr (in_std<T>()) {
    if constexpr (Iterable<T>) {
      return !StringMap<T> && !std::is_class_v<typename T::value_type> && !points_at_layer<typename T::value_type>();
    } else {
      return true;
    }
  } else {
    return std::is_same_v<T, Tensor> || std::is_same_v<T, Shape> || std::is_empty_v<T>;
  }
}

// A walk in progress: the path so far, and the shared targets that are being walked (a cycle ends there).
struct Walk {
  Visitor& visitor;
  std::string path = {};
  std::vector<const void*> open = {};
};

template <class T>
void visit_value(Walk& walk, T& value);

template <class T>
void visit_named(Walk& walk, std::string_view name, T& value) {
  if constexpr (is_a<T, Inline>) {
    visit_value(walk, value.value);
    return;
  }
  const size_t length = walk.path.size();
  if (length != 0) walk.path += '.';
  walk.path += name;
  visit_value(walk, value);
  walk.path.resize(length);
}

template <class T, auto... Pointers>
void visit_members(Walk& walk, T& value, Members<Pointers...>) {
  static_assert(members_are_own<T>(Members<Pointers...>{}),
                "tenon: this class inherits the Members line of its base and adds members that the line does not list; "
                "give the class its own: using Members = nn::Members<&Class::member, ...>;");
  (visit_named(walk, pointer_name<Pointers>, value.*Pointers), ...);
}

template <class T>
constexpr bool is_lambda() {
  return type_name<T>().find("lambda") != std::string_view::npos;
}

template <class T>
void visit_aggregate(Walk& walk, T& value) {
  if constexpr (!std::is_aggregate_v<T> && is_lambda<T>()) {
    static_assert(std::is_aggregate_v<T>,
                  "tenon: a lambda that captures may hide Variables, which nobody could find; write a struct with "
                  "operator() instead, or wrap it in a std::function if it captures configuration only");
  } else if constexpr (!std::is_aggregate_v<T>) {
    static_assert(std::is_aggregate_v<T>,
                  "tenon: the members of this class cannot be found, because it has a constructor, private members or "
                  "virtual functions; add one line to it: using Members = nn::Members<&Class::member, ...>; "
                  "(or using Members = nn::Members<>; if it holds no Variables)");
  } else if constexpr (aggregate_has_base<T>()) {
    static_assert(!aggregate_has_base<T>(),
                  "tenon: this struct has a base class, so its members cannot be found; hold the base as a member "
                  "instead, or add one line to the struct: using Members = nn::Members<&Struct::member, ...>;");
  } else if constexpr (arity<T> == kUncountable) {
    static_assert(arity<T> != kUncountable,
                  "tenon: the members of this struct cannot be counted: it has a reference member, more than 128 "
                  "members, or a member that cannot be initialised; add one line to it: "
                  "using Members = nn::Members<&Struct::member, ...>;");
  } else {
    with_members<arity<T>>(value, [&walk](auto&... member) {
      size_t i = 0;
      (visit_named(walk, member_names<T>[i++], member), ...);
    });
  }
}

template <class T>
void visit_shared(Walk& walk, std::shared_ptr<T>& pointer) {
  if (!pointer) return;
  for (const void* open : walk.open) {
    if (open == pointer.get()) return;
  }
  using Target = std::remove_const_t<T>;
  if constexpr (std::copy_constructible<Target>) {
    const auto copy = [&pointer]() -> std::shared_ptr<void> { return std::make_shared<Target>(*pointer); };
    if (std::shared_ptr<void> fresh = walk.visitor.replace(pointer.get(), copy)) {
      pointer = std::static_pointer_cast<Target>(fresh);
    }
  }
  walk.open.push_back(pointer.get());
  visit_value(walk, const_cast<Target&>(*pointer));
  walk.open.pop_back();
}

template <class T>
void visit_container(Walk& walk, T& container) {
  if constexpr (StringMap<T>) {
    std::map<std::string, typename T::mapped_type*> sorted;
    for (auto& [key, value] : container) sorted.emplace(key, &value);
    for (auto& [key, value] : sorted) visit_named(walk, key, *value);
  } else {
    size_t i = 0;
    for (auto& item : container) visit_named(walk, std::to_string(i++), item);
  }
}

template <class T>
void visit_pointed(Walk& walk, T& holder) {  // what *holder gives, if there is something
  if (holder) visit_value(walk, *holder);
}

template <class T>
void visit_value(Walk& walk, T& value) {
  if constexpr (std::is_const_v<T>) {
    visit_value(walk, const_cast<std::remove_const_t<T>&>(value));
  } else if constexpr (std::is_pointer_v<T>) {
    static_assert(!points_at_layer<T>(),
                  "tenon: a raw pointer to a layer does not say who owns it; hold the layer itself, a std::shared_ptr "
                  "to it, or the same Variable in both places");
  } else if constexpr (stateless<T>()) {
  } else if constexpr (std::is_same_v<T, Variable>) {
    walk.visitor.variable(walk.path, value);
  } else if constexpr (std::is_same_v<T, Mode>) {
    walk.visitor.mode(walk.path, value);
  } else if constexpr (HasMembers<T>) {
    walk.visitor.enter(walk.path, short_type_name<T>());
    visit_members(walk, value, typename T::Members{});
    walk.visitor.leave();
  } else if constexpr (is_a<T, std::shared_ptr>) {
    visit_shared(walk, value);
  } else if constexpr (is_a<T, Inline>) {
    visit_value(walk, value.value);
  } else if constexpr (is_a<T, std::optional> || is_a<T, std::unique_ptr>) {
    visit_pointed(walk, value);
  } else if constexpr (is_a<T, std::reference_wrapper>) {
    visit_value(walk, value.get());
  } else if constexpr (is_a<T, std::variant>) {
    if (!value.valueless_by_exception()) std::visit([&walk](auto& held) { visit_value(walk, held); }, value);
  } else if constexpr (TupleLike<T>) {
    [&]<size_t... I>(std::index_sequence<I...>) {
      (visit_named(walk, std::to_string(I), std::get<I>(value)), ...);
    }(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (std::is_array_v<T>) {
    for (size_t i = 0; i < std::extent_v<T>; ++i) visit_named(walk, std::to_string(i), value[i]);
  } else if constexpr (Iterable<T> && in_std<T>()) {
    visit_container(walk, value);
  } else {
    walk.visitor.enter(walk.path, short_type_name<T>());
    visit_aggregate(walk, value);
    walk.visitor.leave();
  }
}

}  // namespace reflect

// Walks `model`. Variables come as they are held, so a shared one comes once for each place.
template <class Model>
void visit(const Model& model, Visitor& visitor) {
  reflect::Walk walk{visitor};
  reflect::visit_value(walk, const_cast<Model&>(model));
}

}  // namespace tenon::nn
