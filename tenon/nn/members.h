// The one line by which a class that is not an aggregate (it has a constructor or private members) shows its members:
//
//   class Net {
//    public:
//     explicit Net(int64_t width);
//    private:
//     nn::Linear in_, out_;
//
//    public:
//     using Members = nn::Members<&Net::in_, &Net::out_>;  // public, and after the members
//   };
//
// Names are the members' own, without a trailing underscore: "in.weight", "out.weight". Members that hold no state may
// be left out. An empty list, nn::Members<>, says that a type is configuration only.
#pragma once

#include <type_traits>

namespace tenon::nn {

template <auto... Pointers>
struct Members {};

// For a foreign type that cannot be given the line: it holds no state, skip it.
//   template <> inline constexpr bool tenon::nn::is_configuration<Foreign> = true;
template <class T>
inline constexpr bool is_configuration = false;

// A member whose parts appear under the owner's path, without a name of their own: the layers of a Sequential are "0",
// "1", …, not "layers.0".
template <class T>
struct Inline {
  T value = {};
};

namespace reflect {

template <class T>
concept HasMembers = requires { typename T::Members; };

template <class T>
struct ClassOf;
template <class C, class M>
struct ClassOf<M C::*> {
  using type = C;
};

// False where Members is only inherited and T adds members of its own, which would be missed.
template <class T, auto... Pointers>
constexpr bool members_are_own(Members<Pointers...>) {
  if constexpr (sizeof...(Pointers) == 0) {
    return true;
  } else {
    return ((std::is_same_v<typename ClassOf<decltype(Pointers)>::type, T> ||
             sizeof(typename ClassOf<decltype(Pointers)>::type) == sizeof(T)) ||
            ...);
  }
}

}  // namespace reflect
}  // namespace tenon::nn
