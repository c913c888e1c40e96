#include "tenon/ir/size.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "tenon/base/error.h"

namespace tenon::ir {
namespace {

using Wide = __int128;

Wide floor_divide(Wide a, Wide b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0) ? 1 : 0); }

int64_t size_of(const Sizes& sizes, const std::string& name) {
  const auto found = sizes.find(name);
  if (found == sizes.end()) throw ValueError({"size", fmt::format("the size '{}' is not known", name), {}, {}, {}});
  return found->second;
}

[[noreturn]] void too_large(const SizeExpr& expr) {
  throw ValueError({"size", fmt::format("{} does not fit in 64 bits", to_string(expr)), {}, {}, {}});
}

// ---- fitting -------------------------------------------------------------------------------
using Monomial = std::vector<std::string>;

Wide value_of(const Monomial& names, const Sizes& sizes) {
  Wide product = 1;
  for (const auto& name : names) product *= size_of(sizes, name);
  return product;
}

std::optional<int64_t> narrow(Wide value) {
  const auto result = static_cast<int64_t>(value);
  if (result != value) return {};
  return result;
}

struct Samples {
  std::span<const Sizes> sizes;
  std::span<const int64_t> values;

  [[nodiscard]] bool agree(const SizeExpr& expr) const {
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (evaluate(expr, sizes[i]) != values[i]) return false;
    }
    return true;
  }
};

// factor * monomial + constant, from two samples at which the monomial differs.
std::optional<SizeExpr> fit_line(const Samples& samples, const Monomial& names) {
  const Wide x0 = value_of(names, samples.sizes[0]);
  for (size_t i = 1; i < samples.sizes.size(); ++i) {
    const Wide x1 = value_of(names, samples.sizes[i]);
    if (x1 == x0) continue;
    const Wide rise = Wide(samples.values[i]) - samples.values[0];
    if (rise == 0 || rise % (x1 - x0) != 0) return {};
    const auto factor = narrow(rise / (x1 - x0));
    if (!factor) return {};
    const auto constant = narrow(samples.values[0] - Wide(*factor) * x0);
    if (!constant) return {};
    SizeExpr expr{*constant, {{*factor, names}}, 1};
    if (samples.agree(expr)) return expr;
    return {};
  }
  return {};
}

// scale * floor((factor * name + constant) / divisor) + offset: the scale divides all differences; each sample bounds
// the constant from both sides.
std::optional<SizeExpr> fit_quotient(const Samples& samples, const std::string& name) {
  int64_t scale = 0;
  for (const int64_t value : samples.values) scale = std::gcd(scale, value - samples.values[0]);
  const int64_t offset = samples.values[0] % scale;
  for (const int64_t divisor : {2, 4, 8, 16, 32, 64, 3, 5, 6, 7, 9, 10, 12}) {
    for (int64_t factor = 1; factor <= 4; ++factor) {
      if (factor % divisor == 0) continue;
      Wide low = -(Wide(1) << 62), high = Wide(1) << 62;
      for (size_t i = 0; i < samples.sizes.size(); ++i) {
        const Wide base =
            Wide((samples.values[i] - offset) / scale) * divisor - Wide(factor) * size_of(samples.sizes[i], name);
        low = std::max(low, base);
        high = std::min(high, base + divisor - 1);
      }
      if (low > high) continue;
      // Of the constants that fit, the one nearest to 0, so that height/2 stays height/2.
      const auto constant = narrow(std::clamp(Wide(0), low, high));
      if (!constant) continue;
      SizeExpr expr{*constant, {{factor, {name}}}, divisor, scale, offset};
      if (samples.agree(expr)) return expr;
    }
  }
  return {};
}

// All products of up to `degree` names, shortest first.
std::vector<Monomial> monomials(std::span<const std::string> names, size_t degree) {
  std::vector<Monomial> all{{}};
  for (size_t begin = 0, d = 1; d <= degree; ++d) {
    const size_t end = all.size();
    for (size_t m = begin; m < end; ++m) {
      for (const auto& name : names) {
        if (!all[m].empty() && name < all[m].back()) continue;
        Monomial longer = all[m];
        longer.push_back(name);
        if (std::find(all.begin(), all.end(), longer) == all.end()) all.push_back(std::move(longer));
      }
    }
    begin = end;
  }
  return all;
}

// The polynomial over these monomials through all samples, by elimination without fractions.
std::optional<SizeExpr> fit_polynomial(const Samples& samples, const std::vector<Monomial>& basis) {
  const size_t columns = basis.size();
  if (samples.sizes.size() < columns) return {};
  std::vector<std::vector<double>> rows;
  for (size_t i = 0; i < samples.sizes.size(); ++i) {
    std::vector<double> row;
    for (const auto& m : basis) row.push_back(static_cast<double>(value_of(m, samples.sizes[i])));
    row.push_back(static_cast<double>(samples.values[i]));
    rows.push_back(std::move(row));
  }
  size_t rank = 0;
  for (size_t c = 0; c < columns; ++c) {
    size_t pivot = rank;
    for (size_t r = rank; r < rows.size(); ++r) {
      if (std::abs(rows[r][c]) > std::abs(rows[pivot][c])) pivot = r;
    }
    if (rank >= rows.size() || std::abs(rows[pivot][c]) < 1e-6) return {};
    std::swap(rows[pivot], rows[rank]);
    for (size_t r = 0; r < rows.size(); ++r) {
      if (r == rank) continue;
      const double share = rows[r][c] / rows[rank][c];
      for (size_t k = c; k <= columns; ++k) rows[r][k] -= share * rows[rank][k];
    }
    ++rank;
  }
  SizeExpr expr;
  for (size_t c = 0; c < columns; ++c) {
    const double real = rows[c][columns] / rows[c][c];
    if (!(std::abs(real) < 1e15)) return {};
    const auto factor = static_cast<int64_t>(real < 0 ? real - 0.5 : real + 0.5);
    if (factor == 0) continue;
    if (basis[c].empty()) {
      expr.constant = factor;
    } else {
      expr.terms.push_back({factor, basis[c]});
    }
  }
  if (expr.terms.empty() || !samples.agree(expr)) return {};  // exact: rounding above can only lose a fit
  return expr;
}

}  // namespace

bool is_size_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  for (const std::string_view word : {"inf", "nan", "true", "false", "none", "from", "to", "in", "const", "graph"}) {
    if (name == word) return false;  // they mean something in the text form
  }
  return !name.empty() && name.size() <= 100 && letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

SizeExpr size_named(std::string name) { return {0, {{1, {std::move(name)}}}, 1}; }

std::string to_string(const SizeExpr& expr) {
  std::string text;
  // The first part carries its sign, the others stand behind " + " or " - ".
  const auto join = [&](int64_t number, const std::string& names) {
    const bool minus = number < 0;
    const uint64_t magnitude = minus ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    text += text.empty() ? (minus ? "-" : "") : minus ? " - " : " + ";
    // A leading "-name" is written "-1*name": a sign belongs to a number.
    const bool counted = names.empty() || magnitude != 1 || text == "-";
    if (counted) text += std::to_string(magnitude);
    if (counted && !names.empty()) text += "*";
    text += names;
  };
  for (const auto& term : expr.terms) join(term.factor, fmt::format("{}", fmt::join(term.names, "*")));
  if (text.empty() || expr.constant != 0) join(expr.constant, "");
  if (expr.divisor == 1) return text;
  text = fmt::format("({})/{}", text, expr.divisor);
  if (expr.scale != 1) text = fmt::format("{}*({})", expr.scale, text);
  if (expr.offset != 0) join(expr.offset, "");
  return text;
}

int64_t evaluate(const SizeExpr& expr, const Sizes& sizes) {
  Wide sum = expr.constant;
  for (const auto& term : expr.terms) {
    Wide product = term.factor;
    for (const auto& name : term.names) {
      product *= size_of(sizes, name);
      if (!narrow(product)) too_large(expr);
    }
    sum += product;
    if (!narrow(sum)) too_large(expr);
  }
  const Wide result = floor_divide(sum, expr.divisor) * expr.scale + expr.offset;
  if (!narrow(result)) too_large(expr);
  return static_cast<int64_t>(result);
}

std::optional<SizeExpr> fit(std::span<const Sizes> sizes, std::span<const int64_t> values,
                            std::span<const std::string> names) {
  if (std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end())
    return SizeExpr{values[0], {}, 1};
  const Samples samples{sizes, values};
  for (const auto& name : names) {
    if (auto line = fit_line(samples, {name})) return line;
  }
  for (const auto& name : names) {
    if (auto quotient = fit_quotient(samples, name)) return quotient;
  }
  for (const auto& product : monomials(names, 3)) {
    if (product.size() < 2) continue;
    if (auto line = fit_line(samples, product)) return line;
  }
  if (auto plane = fit_polynomial(samples, monomials(names, 1))) return plane;
  return fit_polynomial(samples, monomials(names, 2));
}

}  // namespace tenon::ir
