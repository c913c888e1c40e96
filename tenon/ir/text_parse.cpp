#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"
#include "tenon/ir/text.h"
#include "tenon/ir/varying.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::ir {
namespace {

constexpr int kDeepest = 64;  // graphs within graphs

bool starts_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool in_word(char c) { return starts_word(c) || is_digit(c) || c == '.'; }

// The characters of the text, with the position for errors.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  [[nodiscard]] size_t position() const { return at_; }
  void back_to(size_t position) { at_ = position; }

  [[noreturn]] void fail(size_t where, std::string problem, std::string expected = {}, std::string got = {},
                         std::string hint = {}) const {
    const std::string_view before = text_.substr(0, where);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t last = before.rfind('\n');
    const size_t column = last == std::string_view::npos ? where + 1 : where - last;
    throw FormatError({.where = "graph text",
                       .problem = fmt::format("line {}, column {}: {}", line, column, problem),
                       .expected = std::move(expected),
                       .got = std::move(got),
                       .hint = std::move(hint)});
  }

  char peek() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
        ++at_;
      } else {
        return c;
      }
    }
    return '\0';
  }
  [[nodiscard]] bool at_end() { return peek() == '\0' && at_ >= text_.size(); }

  bool take(std::string_view symbol) {
    peek();
    if (!text_.substr(at_).starts_with(symbol)) return false;
    const bool word = starts_word(symbol.front());
    const size_t after = at_ + symbol.size();
    if (word && after < text_.size() && in_word(text_[after])) return false;
    at_ = after;
    return true;
  }
  void expect(std::string_view symbol) {
    if (!take(symbol)) fail(at_, "unexpected text", fmt::format("'{}'", symbol), rest());
  }

  // Whether this word stands here.
  [[nodiscard]] bool ahead(std::string_view word) {
    peek();
    const size_t after = at_ + word.size();
    return text_.substr(at_).starts_with(word) && (after >= text_.size() || !in_word(text_[after]));
  }

  // An op's or attribute's name, a dtype.
  std::string_view word(std::string_view what) {
    if (!starts_word(peek())) fail(at_, "unexpected text", std::string(what), rest());
    const size_t first = at_;
    while (at_ < text_.size() && in_word(text_[at_])) ++at_;
    return text_.substr(first, at_ - first);
  }

  // Everything up to the next separator: a number in any notation.
  std::string_view number_text(std::string_view what) {
    peek();
    const size_t first = at_;
    while (at_ < text_.size() && (in_word(text_[at_]) || text_[at_] == '-' || text_[at_] == '+')) ++at_;
    if (at_ > first && at_ < text_.size() && text_[at_] == '(') {  // nan(bits)
      at_ = text_.find(')', at_);
      if (at_ == std::string_view::npos) fail(at_ = first, "a bracket is not closed");
      ++at_;
    }
    if (at_ == first) fail(at_, "unexpected text", std::string(what), rest());
    return text_.substr(first, at_ - first);
  }

  int64_t integer(std::string_view what) {
    peek();
    const size_t first = at_;
    return integer_in(number_text(what), first, what);
  }
  [[nodiscard]] int64_t integer_in(std::string_view token, size_t where, std::string_view what) const {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
    if (error != std::errc() || end != token.data() + token.size()) {
      fail(where, "not an integer of 64 bits", std::string(what), shown(token));
    }
    return value;
  }

  template <class Real, class Bits>
  Real real() {
    peek();
    const size_t first = at_;
    const std::string_view token = number_text("a number");
    Real value = 0;
    const char* last = token.data() + token.size();
    if (token.starts_with("nan(") && token.ends_with(")")) {
      Bits bits = 0;
      const auto [end, error] = std::from_chars(token.data() + 4, last - 1, bits, 16);
      value = std::bit_cast<Real>(bits);
      if (error == std::errc() && end == last - 1 && std::isnan(value)) return value;
      fail(first, "these are not the bits of a NaN", {}, shown(token));
    }
    if (token == "nan") return std::numeric_limits<Real>::quiet_NaN();
    const auto [end, error] = std::from_chars(token.data(), last, value);
    if (error != std::errc() || end != last || std::isnan(value)) fail(first, "not a number", {}, shown(token));
    return value;
  }

  std::string quoted() {
    peek();
    const size_t first = at_;
    expect("\"");
    std::string result;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') {
        result += text_[at_];
        continue;
      }
      const std::string_view escape = text_.substr(at_ + 1, 3);
      const char kind = escape.empty() ? '\0' : escape.front();
      unsigned code = 0;
      if (kind == 'x' && escape.size() == 3 &&
          std::from_chars(escape.data() + 1, escape.data() + 3, code, 16).ptr == escape.data() + 3) {
        result += static_cast<char>(code);
        at_ += 3;
        continue;
      }
      if (kind != '"' && kind != '\\' && kind != 'n' && kind != 't') {
        fail(at_, "unknown escape", R"(one of \" \\ \n \t \xHH)", shown(text_.substr(at_, 2)));
      }
      result += kind == 'n' ? '\n' : kind == 't' ? '\t' : kind;
      ++at_;
    }
    if (at_ >= text_.size()) fail(first, "a quotation mark is not closed");
    ++at_;
    return result;
  }

  // What stands here, for messages.
  std::string rest() {
    if (at_end()) return "the end of the text";
    return shown(text_.substr(at_, std::min<size_t>(text_.find_first_of(" \n\t", at_ + 1) - at_, 24)));
  }
  static std::string shown(std::string_view token) {
    std::string clean;
    for (const char c : token.substr(0, 40)) clean += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    return "\"" + clean + "\"";
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

class Parser {
 public:
  Parser(std::string_view text, const OpCatalog& ops, std::span<const Tensor> table)
      : in_(text), ops_(ops), table_(table) {}

  Graph whole() {
    Graph g = graph(0);
    if (!in_.at_end()) in_.fail(in_.position(), "text after the end of the graph", {}, in_.rest());
    return g;
  }

 private:
  Graph graph(int depth) {
    const size_t start = in_.position();
    if (depth > kDeepest) in_.fail(start, fmt::format("graphs are nested more than {} deep", kDeepest));
    in_.expect("graph");
    Graph g;
    if (in_.peek() == '"') g.name = in_.quoted();
    if (in_.peek() == '[') sizes(g, depth);
    in_.expect("(");
    if (!in_.take(")")) {
      do g.inputs.push_back(definition(g));
      while (in_.take(","));
      in_.expect(")");
    }
    in_.expect("->");
    in_.expect("(");
    std::vector<size_t> places;
    if (!in_.take(")")) {
      do {
        in_.peek();
        places.push_back(in_.position());
        g.outputs.push_back(value());
      } while (in_.take(","));
      in_.expect(")");
    }
    in_.expect("{");
    while (!in_.take("}")) node(g, depth);
    for (size_t i = 0; i < places.size(); ++i) check_defined(g, g.outputs[i], places[i]);
    return g;
  }

  // "%3"
  ValueId value() {
    in_.peek();
    const size_t where = in_.position();
    in_.expect("%");
    const int64_t id = in_.integer("the number of a value");
    if (id < 0 || id > std::numeric_limits<ValueId>::max()) in_.fail(where, "no value has this number");
    return static_cast<ValueId>(id);
  }

  void check_defined(const Graph& g, ValueId id, size_t where) const {
    if (static_cast<size_t>(id) < g.values.size()) return;
    in_.fail(where, fmt::format("%{} is used but not defined", id),
             g.values.empty() ? "no value, because none is defined" : fmt::format("%0 to %{}", g.values.size() - 1));
  }

  // "%3 "name": f32[2]"
  ValueId definition(Graph& g) {
    in_.peek();
    const size_t where = in_.position();
    const ValueId id = value();
    if (static_cast<size_t>(id) != g.values.size()) {
      in_.fail(where, "values are numbered in the order of definition", fmt::format("%{}", g.values.size()),
               fmt::format("%{}", id));
    }
    std::string name = in_.peek() == '"' ? in_.quoted() : "";
    in_.expect(":");
    Found found;
    const ValueId added = g.add_value(type(found), std::move(name));
    place(g, found, Varying::Kind::Extent, added, 0);
    return added;
  }

  // ---- numbers that depend on sizes ----
  struct FoundAt {
    size_t element;
    std::optional<SizeExpr> expr;
  };
  using Found = std::vector<FoundAt>;  // those among a list of numbers

  static void place(Graph& g, Found& found, Varying::Kind kind, size_t index, size_t attribute) {
    for (FoundAt& f : found) {
      g.varying.push_back({kind, static_cast<int32_t>(index), static_cast<int32_t>(attribute),
                           static_cast<int32_t>(f.element), std::move(f.expr)});
    }
  }

  void sizes(Graph& g, int depth) {
    if (depth > 0) in_.fail(in_.position(), "only the outermost graph names sizes");
    in_.expect("[");
    do {
      in_.peek();
      const size_t where = in_.position();
      Size size;
      size.name = std::string(in_.word("the name of a size"));
      if (!is_size_name(size.name)) in_.fail(where, "not a name for a size", {}, Reader::shown(size.name));
      in_.expect("=");
      size.example = in_.integer("an integer");
      in_.expect("from");
      size.low = in_.integer("an integer");
      if (in_.take("to")) size.high = in_.integer("an integer");
      if (size.low < 0 || size.example < size.low || size.example > size.high)
        in_.fail(where, "the example is not within the size's range", fmt::format("{} to {}", size.low, size.high),
                 std::to_string(size.example));
      if (!sizes_.emplace(size.name, size.example).second)
        in_.fail(where, fmt::format("the size {} is named twice", size.name));
      g.sizes.push_back(std::move(size));
    } while (in_.take(","));
    in_.expect("]");
  }

  void product(SizeExpr& sum, bool minus) {
    SizeTerm term{minus ? -1 : 1, {}};
    do {
      const char c = in_.peek();
      const size_t where = in_.position();
      if (starts_word(c) && !sizes_.empty()) {
        term.names.emplace_back(in_.word("a size"));
        if (sizes_.contains(term.names.back()) && term.names.size() <= 8) continue;
        std::vector<std::string_view> names;
        for (const auto& [known, example] : sizes_) names.push_back(known);
        if (term.names.size() > 8) in_.fail(where, "a product of more than 8 sizes");
        in_.fail(where, "there is no size of this name", {}, Reader::shown(term.names.back()),
                 std::string(nearest_name(term.names.back(), names)));
      }
      if (__builtin_mul_overflow(term.factor, in_.integer("an integer"), &term.factor))
        in_.fail(where, "not an integer of 64 bits");
    } while (in_.take("*"));
    if (!term.names.empty()) {
      if (sum.terms.size() >= 64) in_.fail(in_.position(), "a sum of more than 64 products");
      sum.terms.push_back(std::move(term));
    } else if (__builtin_add_overflow(sum.constant, term.factor, &sum.constant)) {
      in_.fail(in_.position(), "not an integer of 64 bits");
    }
  }

  SizeExpr sum_of_products() {
    SizeExpr expr;
    product(expr, false);
    for (;;) {
      if (in_.take("+")) {
        product(expr, false);
      } else if (in_.take("-")) {
        product(expr, true);
      } else {
        return expr;
      }
    }
  }

  SizeExpr expression() {
    int64_t scale = 1;
    const size_t start = in_.position();
    if (is_digit(in_.peek()) || in_.peek() == '-') {  // a scale, or the first product
      scale = in_.integer("an integer");
      if (!in_.take("*") || in_.peek() != '(') {
        in_.back_to(start);
        return sum_of_products();
      }
      in_.expect("(");
    }
    const bool scaled = scale != 1;
    if (!in_.take("(")) {
      if (scaled) in_.fail(in_.position(), "unexpected text", "'('", in_.rest());
      return sum_of_products();
    }
    SizeExpr expr = sum_of_products();
    in_.expect(")");
    if (scaled ? (in_.expect("/"), true) : in_.take("/")) {
      in_.peek();
      const size_t where = in_.position();
      expr.divisor = in_.integer("an integer");
      if (expr.divisor < 1) in_.fail(where, "a divisor below 1");
      expr.scale = scale;
      if (scaled) in_.expect(")");
      if (in_.take("+")) {
        expr.offset = in_.integer("an integer");
      } else if (in_.take("-")) {
        const int64_t less = in_.integer("an integer");
        if (less < 0) in_.fail(where, "not an integer of 64 bits");
        expr.offset = -less;
      }
    }
    return expr;
  }

  int64_t value_of(const SizeExpr& expr, size_t where) const {
    try {
      return evaluate(expr, sizes_);
    } catch (const ValueError& error) {
      in_.fail(where, error.parts().problem);
    }
  }

  // An integer, or an expression's value at the examples.
  int64_t number(size_t element, Found& found) {
    in_.peek();
    const size_t where = in_.position();
    SizeExpr expr = expression();
    const int64_t result = value_of(expr, where);
    if (!expr.is_constant()) found.push_back({element, std::move(expr)});
    return result;
  }

  // Where a real stands: whether it is an expression.
  bool expression_ahead() {
    const char c = in_.peek();
    if (c == '(') return true;
    if (!starts_word(c)) return false;
    for (const auto& [known, example] : sizes_) {
      if (in_.ahead(known)) return true;
    }
    return false;
  }

  DType dtype() {
    in_.peek();
    const size_t where = in_.position();
    const std::string_view word = in_.word("a dtype");
    std::vector<std::string_view> names;
    for (const DTypeInfo& row : all_dtypes()) {
      if (row.name == word) return row.dtype;
      names.push_back(row.name);
    }
    in_.fail(where, "there is no dtype of this name", {}, Reader::shown(word), std::string(nearest_name(word, names)));
  }

  Ints integers(Found& found, bool extents = false) {
    Ints list;
    in_.expect("[");
    if (in_.take("]")) return list;
    do {
      if (extents && in_.take("~")) {
        found.push_back({list.size(), {}});
        list.push_back(in_.integer("an integer"));
      } else {
        list.push_back(number(list.size(), found));
      }
    } while (in_.take(","));
    in_.expect("]");
    return list;
  }

  TensorType type(Found& found) {
    TensorType result;
    result.dtype = dtype();
    in_.peek();
    const size_t where = in_.position();
    result.shape = integers(found, true);
    int64_t elements = 64;  // in bits: what no memory holds is refused here
    for (const int64_t extent : result.shape) {
      if (extent < 0) in_.fail(where, "negative extent", {}, to_string(result));
      if (__builtin_mul_overflow(elements, std::max<int64_t>(extent, 1), &elements)) {
        in_.fail(where, "more elements than fit in any memory", {}, to_string(result));
      }
    }
    return result;
  }

  void node(Graph& g, int depth) {
    Node n;
    const auto known = static_cast<ValueId>(g.values.size());
    do n.outputs.push_back(definition(g));
    while (in_.take(","));
    in_.expect("=");
    in_.peek();
    const size_t where = in_.position();
    if (in_.take("const")) {
      if (n.outputs.size() != 1) in_.fail(where, "a constant is one value");
      Found found;
      n.constant = constant(g.type(n.outputs.front()), found);
      place(g, found, Varying::Kind::Element, g.nodes.size(), 0);
    } else {
      call(g, n, known, depth);
    }
    if (in_.take("in")) n.path = in_.quoted();
    if (in_.take("from")) n.location = in_.quoted();
    g.nodes.push_back(std::move(n));
  }

  void call(Graph& g, Node& n, ValueId known, int depth) {
    const size_t where = in_.position();
    const std::string_view name = in_.word("an op or 'const'");
    n.op = ops_.find(name);
    if (!n.op) {
      in_.fail(where, "there is no op of this name", {}, Reader::shown(name),
               std::string(nearest_name(name, ops_.names)));
    }
    in_.expect("(");
    if (!in_.take(")")) {
      do n.inputs.push_back(operand(known));
      while (in_.take(","));
      in_.expect(")");
    }
    const OpSchema& schema = ops_.schema(*n.op);
    std::vector<AttrValue> attrs(schema.attrs.size());
    std::vector<bool> given(schema.attrs.size(), false);
    if (in_.take("{") && !in_.take("}")) {
      do attribute(g, schema, attrs, given, depth);
      while (in_.take(","));
      in_.expect("}");
    }
    for (size_t i = 0; i < given.size(); ++i) {
      if (given[i]) continue;
      in_.fail(where, fmt::format("{} needs the attribute {}, a {}", schema.name, schema.attrs[i].name,
                                  ir::name(schema.attrs[i].type)));
    }
    n.attrs = Attrs(std::move(attrs));
  }

  // Only values that the graph has defined before this node: `known` of them.
  ValueId operand(ValueId known) {
    if (in_.take("_")) return kAbsent;
    in_.peek();
    const size_t where = in_.position();
    const ValueId id = value();
    if (id >= known) {
      in_.fail(where, fmt::format("%{} is used before it is defined", id),
               known == 0 ? "no value, because none is defined" : fmt::format("%0 to %{}", known - 1));
    }
    return id;
  }

  void attribute(Graph& g, const OpSchema& schema, std::vector<AttrValue>& attrs, std::vector<bool>& given, int depth) {
    in_.peek();
    const size_t where = in_.position();
    const std::string_view key = in_.word("the name of an attribute");
    size_t i = 0;
    while (i < schema.attrs.size() && schema.attrs[i].name != key) ++i;
    if (i == schema.attrs.size()) {
      std::vector<std::string_view> names;
      for (const AttrField& field : schema.attrs) names.push_back(field.name);
      in_.fail(where, fmt::format("{} has no attribute of this name", schema.name), {}, Reader::shown(key),
               std::string(nearest_name(key, names)));
    }
    if (given[i]) in_.fail(where, fmt::format("the attribute {} is given twice", key));
    given[i] = true;
    in_.expect("=");
    Found found;
    attrs[i] = attribute_value(schema.attrs[i].type, depth, found);
    place(g, found, Varying::Kind::Attribute, g.nodes.size(), i);
  }

  AttrValue attribute_value(AttrType kind, int depth, Found& found) {
    switch (kind) {
      case AttrType::Flag:
        return flag();
      case AttrType::Int:
        return number(0, found);
      case AttrType::Real:
        if (expression_ahead()) return static_cast<double>(number(0, found));
        return in_.real<double, uint64_t>();
      case AttrType::Text:
        return in_.quoted();
      case AttrType::Dtype:
        return dtype();
      case AttrType::IntList:
        return integers(found);
      case AttrType::Subgraph:
        break;
    }
    if (in_.take("none")) return GraphPtr();
    return GraphPtr(std::make_shared<const Graph>(graph(depth + 1)));
  }

  bool flag() {
    if (in_.take("true")) return true;
    if (in_.take("false")) return false;
    in_.fail(in_.position(), "unexpected text", "true or false", in_.rest());
  }

  Tensor constant(const TensorType& type, Found& found) {
    in_.peek();
    const size_t where = in_.position();
    if (in_.take("@")) {
      const int64_t place = in_.integer("a place in the table of constants");
      if (place < 0 || static_cast<size_t>(place) >= table_.size()) {
        in_.fail(where, "the table of constants has no such entry", fmt::format("fewer than {}", table_.size()),
                 std::to_string(place));
      }
      const Tensor& value = table_[static_cast<size_t>(place)];
      if (!value.defined() || value.type() != type) {
        in_.fail(where, fmt::format("constant @{} is of another type", place), to_string(type),
                 value.defined() ? to_string(value.type()) : "no tensor");
      }
      return value;
    }
    in_.expect("{");
    if (in_.take("…")) in_.fail(where, "this text was shortened for reading; it leaves elements out");
    std::vector<double> reals;
    std::vector<int64_t> integers;
    if (!in_.take("}")) {
      do {
        const bool expr = type.dtype != DType::Bool && expression_ahead();
        if (is_float(type.dtype)) {
          reals.push_back(expr ? static_cast<double>(number(reals.size(), found)) : real_element(type.dtype));
        } else {
          integers.push_back(expr ? number(integers.size(), found) : integer_element(type.dtype));
        }
      } while (in_.take(","));
      in_.expect("}");
    }
    const size_t count = reals.size() + integers.size();
    if (count != static_cast<size_t>(numel(type.shape))) {
      in_.fail(where, "the number of elements is not the type's",
               fmt::format("{} for {}", numel(type.shape), to_string(type)), std::to_string(count));
    }
    Tensor value = empty(type.shape, type.dtype);
    const View to = mutable_view(value);
    for (size_t i = 0; i < reals.size(); ++i) store_real(to, static_cast<int64_t>(i), reals[i]);
    for (size_t i = 0; i < integers.size(); ++i) store_integer(to, static_cast<int64_t>(i), integers[i]);
    return value;
  }

  // f64 by its bits; f32 through float, in which its shortest form was written.
  double real_element(DType dtype) {
    if (dtype == DType::F64) return in_.real<double, uint64_t>();
    return in_.real<float, uint32_t>();
  }

  int64_t integer_element(DType dtype) {
    if (dtype == DType::Bool) return flag() ? 1 : 0;
    in_.peek();
    const size_t where = in_.position();
    const std::string_view token = in_.number_text("an integer");
    if (dtype == DType::U64) {
      uint64_t value = 0;
      const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
      if (error == std::errc() && end == token.data() + token.size()) return static_cast<int64_t>(value);
      in_.fail(where, "not a u64", {}, Reader::shown(token));
    }
    const int64_t value = in_.integer_in(token, where, fmt::format("a {}", name(dtype)));
    if (wrap_integer(dtype, value) != value) {
      in_.fail(where, fmt::format("the number does not fit in {}", name(dtype)), {}, Reader::shown(token));
    }
    return value;
  }

  Reader in_;
  const OpCatalog& ops_;
  std::span<const Tensor> table_;
  Sizes sizes_;  // the examples
};

}  // namespace

Graph parse(std::string_view text, const OpCatalog& ops, std::span<const Tensor> table) {
  return Parser(text, ops, table).whole();
}

}  // namespace tenon::ir
