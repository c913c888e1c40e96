#!/usr/bin/env python3
"""Writes tenon/nn/reflect/ladder.h: one structured binding for each number of members.

    tools/make_reflection_ladder.py [COUNT] > tenon/nn/reflect/ladder.h

C++20 has no structured binding with a variable number of names, so there is one line for each number up to COUNT
(128, which is kMaxMembers in arity.h). Run it again only to raise that limit.
"""

import sys

count = int(sys.argv[1]) if len(sys.argv) > 1 else 128
print("""// Calls f(member, member, …) with the members of an aggregate, in order of declaration.
// Made by tools/make_reflection_ladder.py: one line for each number of members.
// clang-format off
#pragma once

#include <cstddef>

namespace tenon::nn::reflect {

template <size_t N, class T, class F>
constexpr decltype(auto) with_members([[maybe_unused]] T& t, F&& f) {
  if constexpr (N == 0) { return f(); }""")
for n in range(1, count + 1):
    names = ",".join(f"m{i}" for i in range(n))
    print(f"  else if constexpr (N == {n}) {{ auto& [{names}] = t; return f({names}); }}")
print("""  else { static_assert(N == 0, "too many members"); }
}

}  // namespace tenon::nn::reflect""")
