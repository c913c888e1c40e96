// Named sizes: the extents of a graph's inputs that its user chooses ("batch", "seq"), and the numbers that follow.
//
// A number that depends on sizes is a polynomial with integer factors, or a multiple of such a quotient, rounded down:
// batch, 2*batch*seq + 3, (height + 1)/2, 4*((height + 1)/2). That covers reshapes, slices, padding and strided
// windows. The fit finds the simplest such expression for numbers that were seen at several sizes.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::ir {

// A size that a graph's user chooses. `example` is the one at which the graph's own numbers were taken.
struct Size {
  std::string name;  // a word: letters, digits, '_', no digit first
  int64_t example = 2;
  int64_t low = 1;
  int64_t high = std::numeric_limits<int64_t>::max();
  bool operator==(const Size&) const = default;
};
bool is_size_name(std::string_view name);

using Sizes = std::map<std::string, int64_t, std::less<>>;

struct SizeTerm {
  int64_t factor = 1;
  std::vector<std::string> names;  // their product; a repeated name is a power
  bool operator==(const SizeTerm&) const = default;
};

// scale * floor((constant + sum of terms) / divisor) + offset; scale and offset are 1 and 0 unless there is a divisor.
struct SizeExpr {
  int64_t constant = 0;
  std::vector<SizeTerm> terms;
  int64_t divisor = 1;
  int64_t scale = 1;
  int64_t offset = 0;
  bool operator==(const SizeExpr&) const = default;

  [[nodiscard]] bool is_constant() const { return terms.empty(); }
  // The name, if the expression is one name and nothing else.
  [[nodiscard]] const std::string* name() const {
    return divisor == 1 && constant == 0 && terms.size() == 1 && terms[0].factor == 1 && terms[0].names.size() == 1
               ? &terms[0].names[0]
               : nullptr;
  }
};

SizeExpr size_named(std::string name);
// "batch", "2*batch*seq + 3", "4*((height + 1)/2) - 1"
std::string to_string(const SizeExpr& expr);
// Errors: ValueError for a name without a size and for a result beyond 64 bits.
int64_t evaluate(const SizeExpr& expr, const Sizes& sizes);

// The simplest expression with these values at these sizes, in the names' order of preference; nothing if none fits.
std::optional<SizeExpr> fit(std::span<const Sizes> sizes, std::span<const int64_t> values,
                            std::span<const std::string> names);

}  // namespace tenon::ir
