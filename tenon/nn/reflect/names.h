// Names of types and members, taken at compile time from the compiler's own spelling of a template argument.
//
// The argument for a member of an aggregate is the address of that member in an object that is declared and never
// defined, so the type needs no constructor. Works for local and unnamed-namespace structs too.
#pragma once

#include <array>
#include <string_view>
#include <tuple>

#include "tenon/nn/reflect/arity.h"
#include "tenon/nn/reflect/ladder.h"

namespace tenon::nn::reflect {

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-var-template"
#pragma clang diagnostic ignored "-Wundefined-internal"
#endif

template <class T>
struct Imaginary {
  const T value;
  static const Imaginary never_defined;
};
// A pointer inside a class-type template argument: clang prints the member's name only then.
template <class P>
struct Address {
  P pointer;
};
template <class P>
Address(P) -> Address<P>;

template <auto Value>
constexpr auto spelling() {
  return std::string_view(__PRETTY_FUNCTION__);
}
template <class T>
constexpr auto type_spelling() {
  return std::string_view(__PRETTY_FUNCTION__);
}

constexpr bool in_identifier(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
// The last identifier in the text: "… [with auto Value = &Net::fc1]" gives "fc1".
constexpr std::string_view last_identifier(std::string_view text) {
  size_t end = text.size();
  while (end > 0 && !in_identifier(text[end - 1])) --end;
  size_t begin = end;
  while (begin > 0 && in_identifier(text[begin - 1])) --begin;
  return text.substr(begin, end - begin);
}
// Private members are written `weight_`; their key is "weight".
constexpr std::string_view without_trailing_underscore(std::string_view name) {
  while (name.size() > 1 && name.back() == '_') name.remove_suffix(1);
  return name;
}

// The name of the member that a pointer to member points at.
template <auto Pointer>
inline constexpr std::string_view pointer_name = without_trailing_underscore(last_identifier(spelling<Pointer>()));

template <class T>
constexpr auto find_member_names() {
  constexpr size_t n = arity<T>;
  constexpr auto addresses = with_members<n>(
      Imaginary<T>::never_defined.value, [](auto&... member) { return std::tuple<decltype(&member)...>(&member...); });
  return [&]<size_t... I>(std::index_sequence<I...>) {
    return std::array<std::string_view, n>{
        without_trailing_underscore(last_identifier(spelling<Address{std::get<I>(addresses)}>()))...};
  }(std::make_index_sequence<n>{});
}
// The names of an aggregate's members, in order.
template <class T>
inline constexpr auto member_names = find_member_names<T>();

#ifdef __clang__
#pragma clang diagnostic pop
#endif

// "tenon::nn::Linear": the full name of a type, spelled as the compiler does.
template <class T>
constexpr std::string_view type_name() {
  std::string_view text = type_spelling<T>();
  const size_t begin = text.find("T = ") + 4;
  return text.substr(begin, text.size() - begin - 1);
}
// "Linear": without namespaces and template arguments, but numbers are kept: "Conv<2>".
template <class T>
constexpr std::string_view short_type_name() {
  std::string_view name = type_name<T>();
  std::string_view arguments;
  if (const size_t angle = name.find('<'); angle != std::string_view::npos) {
    arguments = name.substr(angle);
    if (arguments.find_first_not_of("<>0123456789, ") != std::string_view::npos) arguments = {};
    name = name.substr(0, angle);
  }
  const std::string_view last = last_identifier(name);
  return {last.data(), last.size() + arguments.size()};
}

}  // namespace tenon::nn::reflect
