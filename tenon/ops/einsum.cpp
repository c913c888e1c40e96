#include "tenon/ops/einsum.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon {
namespace ops {
namespace {

// Axes of "..." get numbers from 1000 on, aligned at the right; letters are their own code.
using Labels = std::vector<int>;
constexpr int kEllipsis = 1000, kMostAxes = 64;

struct Equation {
  std::vector<Labels> operands;
  Labels result;
};

[[noreturn]] void fail(const std::string& equation, std::string problem, std::string hint = {}) {
  throw ValueError({"einsum", fmt::format("in \"{}\": {}", equation, problem), {}, {}, std::move(hint)});
}

// The labels of one term whose operand has `rank` axes (-1: the result, where "..." has `hidden` axes).
Labels labels_of(const std::string& equation, std::string_view term, int64_t rank, int hidden) {
  Labels labels;
  const size_t dots = term.find("...");
  const auto letters =
      static_cast<int64_t>(std::count_if(term.begin(), term.end(), [](char ch) { return ch != '.' && ch != ' '; }));
  if (rank >= 0 && (dots == std::string_view::npos ? letters != rank : letters > rank))
    throw ShapeError({"einsum",
                      fmt::format("in \"{}\": the term '{}' does not fit its operand", equation, term),
                      fmt::format("{} axes", letters),
                      fmt::format("{} axes", rank),
                      {}});
  const int axes = rank >= 0 ? static_cast<int>(rank - letters) : hidden;
  for (size_t i = 0; i < term.size(); ++i) {
    const char ch = term[i];
    if (ch == ' ') continue;
    if (i == dots && dots != std::string_view::npos) {
      for (int k = 0; k < axes; ++k) labels.push_back(kEllipsis + kMostAxes - axes + k);
      i += 2;
    } else if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')) {
      labels.push_back(ch);
    } else {
      fail(equation, fmt::format("'{}' is no letter", ch));
    }
  }
  return labels;
}

Equation parse(const std::string& equation, std::span<const Tensor> in) {
  std::string left = equation, right;
  const size_t arrow = equation.find("->");
  if (arrow != std::string::npos) {
    left = equation.substr(0, arrow);
    right = equation.substr(arrow + 2);
  }
  std::vector<std::string> terms{""};
  for (char ch : left) {
    if (ch == ',') {
      terms.emplace_back();
    } else {
      terms.back() += ch;
    }
  }
  if (terms.size() != in.size()) fail(equation, fmt::format("{} terms for {} operands", terms.size(), in.size()));
  Equation e;
  int hidden = 0;
  std::map<int, int> times;
  for (size_t i = 0; i < terms.size(); ++i) {
    e.operands.push_back(labels_of(equation, terms[i], in[i].ndim(), 0));
    int here = 0;
    for (int label : e.operands.back()) {
      ++times[label];
      here += label >= kEllipsis ? 1 : 0;
    }
    hidden = std::max(hidden, here);
  }
  if (arrow != std::string::npos) {
    e.result = labels_of(equation, right, -1, hidden);
    for (size_t i = 0; i < e.result.size(); ++i) {
      if (std::find(e.result.begin(), e.result.begin() + static_cast<std::ptrdiff_t>(i), e.result[i]) !=
          e.result.begin() + static_cast<std::ptrdiff_t>(i))
        fail(equation, "the result names an axis twice");
      if (e.result[i] < kEllipsis && !times.contains(e.result[i]))
        fail(equation, fmt::format("the result's '{}' is in no operand", static_cast<char>(e.result[i])));
    }
  } else {
    for (int k = 0; k < hidden; ++k) e.result.push_back(kEllipsis + kMostAxes - hidden + k);
    for (const auto& [label, count] : times) {
      if (label < kEllipsis && count == 1) e.result.push_back(label);
    }
  }
  return e;
}

struct Operand {
  Tensor x;
  Labels labels;
  [[nodiscard]] bool has(int label) const { return std::find(labels.begin(), labels.end(), label) != labels.end(); }
  [[nodiscard]] int64_t extent(int label) const {
    return x.shape(std::find(labels.begin(), labels.end(), label) - labels.begin());
  }
};

// One axis for each label: repeated ones become their diagonal.
Operand with_single_labels(Operand o) {
  for (size_t i = 0; i < o.labels.size(); ++i) {
    for (size_t j = i + 1; j < o.labels.size(); ++j) {
      if (o.labels[i] != o.labels[j]) continue;
      const auto a = static_cast<int64_t>(i), b = static_cast<int64_t>(j);
      Tensor x = moveaxis(o.x, b, -1);
      x = diagonal(moveaxis(x, a, -2));  // the diagonal becomes the last axis
      o.x = moveaxis(x, -1, a);
      o.labels.erase(o.labels.begin() + b);
      --j;
    }
  }
  return o;
}

Operand summed_over(Operand o, const Labels& keep) {
  Ints axes;
  Labels left;
  for (size_t i = 0; i < o.labels.size(); ++i) {
    if (std::find(keep.begin(), keep.end(), o.labels[i]) == keep.end()) {
      axes.push_back(static_cast<int64_t>(i));
    } else {
      left.push_back(o.labels[i]);
    }
  }
  if (!axes.empty()) o.x = cast(sum(o.x, axes), o.x.dtype());
  o.labels = std::move(left);
  return o;
}

// The axes in the order of `labels`; ones that the operand has not get extent 1.
Tensor arranged(const Operand& o, const Labels& labels) {
  Ints order;
  Shape shape;
  for (int label : labels) {
    const auto found = std::find(o.labels.begin(), o.labels.end(), label);
    if (found == o.labels.end()) {
      shape.push_back(1);
    } else {
      order.push_back(found - o.labels.begin());
      shape.push_back(o.x.shape(found - o.labels.begin()));
    }
  }
  return reshape(permute(o.x, order), shape);
}

int64_t product(const Shape& extents) { return numel(extents); }

// One matrix product: shared labels that stay are its batch, shared ones that go are summed over.
Operand contract(const Operand& a, const Operand& b, const Labels& keep) {
  const auto stays = [&](int label) { return std::find(keep.begin(), keep.end(), label) != keep.end(); };
  Labels batch, inner, rows, columns;
  for (int label : a.labels) (b.has(label) ? (stays(label) ? batch : inner) : rows).push_back(label);
  for (int label : b.labels) {
    if (!a.has(label)) columns.push_back(label);
  }
  // An extent of 1 broadcasts, which a product's inner axis must not.
  const auto joined = [&](const Labels& labels) {
    Shape extents;
    for (int label : labels)
      extents.push_back(std::max(a.has(label) ? a.extent(label) : 1, b.has(label) ? b.extent(label) : 1));
    return extents;
  };
  const Shape batch_extents = joined(batch), inner_extents = joined(inner), row_extents = joined(rows),
              column_extents = joined(columns);
  const auto matrix = [&](const Operand& o, const Labels& first, const Shape& first_extents, const Labels& second,
                          const Shape& second_extents) {
    Labels order = batch;
    order.insert(order.end(), first.begin(), first.end());
    order.insert(order.end(), second.begin(), second.end());
    Shape full = batch_extents;
    for (int64_t d : first_extents) full.push_back(d);
    for (int64_t d : second_extents) full.push_back(d);
    Shape flat = batch_extents;
    flat.push_back(product(first_extents));
    flat.push_back(product(second_extents));
    return reshape(expand(arranged(o, order), full), flat);
  };
  const Tensor x = matrix(a, rows, row_extents, inner, inner_extents),
               y = matrix(b, inner, inner_extents, columns, column_extents);
  Operand result{matmul(x, y), batch};
  result.labels.insert(result.labels.end(), rows.begin(), rows.end());
  result.labels.insert(result.labels.end(), columns.begin(), columns.end());
  Shape shape = batch_extents;
  for (int64_t d : row_extents) shape.push_back(d);
  for (int64_t d : column_extents) shape.push_back(d);
  result.x = reshape(result.x, shape);
  return result;
}

void check_extents(const std::string& equation, const std::vector<Operand>& operands) {
  std::map<int, int64_t> extents;
  for (const auto& o : operands) {
    for (size_t i = 0; i < o.labels.size(); ++i) {
      const int64_t extent = o.x.shape(static_cast<int64_t>(i));
      auto [known, fresh] = extents.emplace(o.labels[i], extent);
      if (fresh || known->second == extent) continue;
      const bool broadcasts = known->second == 1 || extent == 1;
      if (!broadcasts)
        throw ShapeError({"einsum",
                          o.labels[i] < kEllipsis
                              ? fmt::format("in \"{}\": '{}' has two extents", equation, static_cast<char>(o.labels[i]))
                              : fmt::format("in \"{}\": axes of '...' do not broadcast", equation),
                          std::to_string(known->second),
                          std::to_string(extent),
                          {}});
      known->second = std::max(known->second, extent);
    }
  }
}

Tensors einsum_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const std::string& equation = attrs.text(0);
  const Equation e = parse(equation, in);
  std::vector<Operand> operands;
  for (size_t i = 0; i < in.size(); ++i) operands.push_back({in[i], e.operands[i]});
  check_extents(equation, operands);
  for (auto& o : operands) o = with_single_labels(std::move(o));
  const auto needed_beside = [&](size_t i, size_t j) {
    Labels keep = e.result;
    for (size_t k = 0; k < operands.size(); ++k) {
      if (k != i && k != j) keep.insert(keep.end(), operands[k].labels.begin(), operands[k].labels.end());
    }
    return keep;
  };
  for (size_t i = 0; i < operands.size(); ++i) operands[i] = summed_over(std::move(operands[i]), needed_beside(i, i));
  while (operands.size() > 1) {
    // The pair whose product is smallest, ties by order: a greedy path, good for the few operands that people write.
    size_t best_i = 0, best_j = 1;
    double best = -1;
    for (size_t i = 0; i < operands.size(); ++i) {
      for (size_t j = i + 1; j < operands.size(); ++j) {
        double cost = 1;
        Labels all = operands[i].labels;
        for (int label : operands[j].labels) {
          if (!operands[i].has(label)) all.push_back(label);
        }
        for (int label : all)
          cost *= static_cast<double>(operands[i].has(label) ? operands[i].extent(label) : operands[j].extent(label));
        if (best < 0 || cost < best) {
          best = cost;
          best_i = i;
          best_j = j;
        }
      }
    }
    Operand next = contract(operands[best_i], operands[best_j], needed_beside(best_i, best_j));
    operands.erase(operands.begin() + static_cast<std::ptrdiff_t>(best_j));
    operands[best_i] = std::move(next);
  }
  Operand last = summed_over(std::move(operands[0]), e.result);
  return {arranged(last, e.result)};
}

std::vector<Sample> einsum_samples() {
  const auto row = [](std::vector<Shape> shapes, std::string equation) {
    Sample s;
    for (auto& shape : shapes) s.inputs.push_back({.shape = std::move(shape)});
    s.attrs = {std::move(equation)};
    return s;
  };
  return {row({{2, 3}, {3, 4}}, "ij,jk->ik"),
          row({{2, 3, 4}, {2, 4, 2}}, "bij,bjk->bik"),
          row({{3, 3}}, "ii->i"),
          row({{3, 3}}, "ii"),
          row({{2, 3}}, "ij->ji"),
          row({{2, 3}}, "ij->"),
          row({{2, 3, 4}, {4}}, "...j,j"),
          row({{2, 1, 3}, {4, 3}}, "...i,...i->..."),
          row({{2, 3}, {3, 4}, {4, 2}}, "ij,jk,kl->il"),
          row({{3}, {2}}, "i,j->ij"),
          row({{2, 3}, {2, 3}}, "ij,ij->j")};
}
std::vector<InvalidSample> einsum_invalid() {
  return {{{{{2, 3}}, {{4, 5}}}, {std::string("ij,jk->ik")}, "'j' has two extents"},
          {{{{2, 3}}}, {std::string("ij,jk->ik")}, "2 terms for 1 operands"},
          {{{{2, 3}}}, {std::string("ijk->i")}, "does not fit its operand"},
          {{{{2, 3}}}, {std::string("ij->k")}, "is in no operand"},
          {{{{2, 3}}}, {std::string("i1->i")}, "is no letter"}};
}

}  // namespace

const OpDef& einsum_op() {
  static const OpDef def{
      .name = "einsum",
      .doc =
          "A sum of products by index letters (numpy.einsum): letters that the result does not name are summed over. "
          "`equation` is one term for each operand, separated by commas, and perhaps -> and the result's letters.",
      .inputs = {{"operands", kNumbers, ArgKind::Variadic}},
      .attrs = {{"equation", 1, ir::AttrType::Text, "\"ij,jk->ik\""}},
      .promote = kPromoteAll,
      .autocast = AutocastRule::Lower,
      .meaning = Composite{einsum_body},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples = einsum_samples,
      .invalid_samples = einsum_invalid,
      .tolerance = {16, 1e-5},
  };
  return def;
}

std::vector<const OpDef*> einsum_ops() { return {&einsum_op()}; }

}  // namespace ops

Tensor einsum(const std::string& equation, const Tensors& operands) {
  if (operands.empty()) throw ValueError({"einsum", "no operands", {}, {}, {}});
  return ops::call1(ops::einsum_op(), operands, {equation});
}

}  // namespace tenon
