// Code and numbers: which parts of a kernel machine code is made from, and which it is given when it is called.
#include <bit>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {
namespace {

// Indices into scratch this small are known, so that it can become registers.
constexpr int64_t kRegisters = 64;

// number(an integer) or constant(the statement) for each, in order.
template <class S, class F, class G>
void walk(S& s, const Kernel& k, const F& number, const G& constant) {
  if (s.kind == StmtKind::For) {
    if (!s.parallel && !s.unroll) number(s.extent);
    for (auto& inner : s.body) walk(inner, k, number, constant);
  } else if (s.kind == StmtKind::Load || s.kind == StmtKind::Store) {
    if (static_cast<size_t>(s.buffer) >= k.buffers.size() && k.buffer(s.buffer).size <= kRegisters) return;
    number(s.index.constant);
    for (auto& term : s.index.terms) {
      if (term.factor != 1) number(term.factor);
    }
  } else if (s.number) {
    constant(s);
  }
}

}  // namespace

std::vector<const int64_t*> number_places(const Kernel& kernel) {
  std::vector<const int64_t*> places;
  walk(
      kernel.root, kernel, [&](const int64_t& n) { places.push_back(&n); },
      [&](const Stmt& s) { places.push_back(&s.integer); });
  places.push_back(&kernel.streams);
  return places;
}

std::vector<int64_t> numbers_of(const Kernel& kernel) {
  std::vector<int64_t> numbers;
  walk(
      kernel.root, kernel, [&](const int64_t& n) { numbers.push_back(n); },
      [&](const Stmt& s) { numbers.push_back(is_float(s.dtype) ? std::bit_cast<int64_t>(s.real) : s.integer); });
  numbers.push_back(kernel.streams);
  return numbers;
}

Kernel without_numbers(const Kernel& kernel) {
  Kernel k = kernel;
  k.name.clear();
  for (auto& b : k.buffers) b.size = 0;
  walk(
      k.root, k, [](int64_t& n) { n = 2; },
      [](Stmt& s) {
        s.real = 0;
        s.integer = 0;
      });
  k.root.extent = 2;
  return k;
}

}  // namespace tenon::compiler
