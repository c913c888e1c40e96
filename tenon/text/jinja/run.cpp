#include <fmt/format.h>

#include <map>
#include <ranges>

#include "tenon/base/error.h"
#include "tenon/text/jinja/ast.h"
#include "tenon/text/jinja/builtins.h"

namespace tenon::text::jinja {
namespace {

constexpr std::int64_t kMostSteps = 5'000'000;
constexpr std::size_t kLongestOutput = std::size_t{1} << 26;
constexpr int kDeepestCall = 64;

enum class Flow { Normal, Break, Continue };

class Runner {
 public:
  Runner(const Value& context, std::string_view where) : where_(where) {
    scopes_.emplace_back();
    if (context.is_object())
      for (const auto& [name, value] : context.object()) scopes_[0][name] = value;
  }

  std::string run(const Node& root) {
    std::string out;
    try {
      execute(root, out);
    } catch (const Mistake& mistake) {
      throw ValueError({.where = std::string(where_), .problem = fmt::format("{} (line {})", mistake.text, line_)});
    }
    return out;
  }

 private:
  using Scope = std::map<std::string, Value, std::less<>>;

  [[noreturn]] static void fail(std::string text) { throw Mistake{std::move(text)}; }
  void step(const Node& node) {
    if (node.line > 0) line_ = node.line;
    if (++steps_ > kMostSteps) fail("the template takes too many steps");
  }

  Flow execute(const Node& node, std::string& out) {
    step(node);
    switch (node.kind) {
      case Kind::Block:
        for (const auto& child : node.children)
          if (const Flow flow = execute(*child, out); flow != Flow::Normal) return flow;
        return Flow::Normal;
      case Kind::Text:
        out += node.value.string();
        break;
      case Kind::Output:
        out += to_text(evaluate(*node.children[0]));
        break;
      case Kind::If:
        if (truth(evaluate(*node.children[0]))) return execute(*node.children[1], out);
        return node.otherwise ? execute(*node.otherwise, out) : Flow::Normal;
      case Kind::For:
        loop(node, out);
        break;
      case Kind::Set:
        assign(node, evaluate(*node.children[0]));
        break;
      case Kind::SetBlock: {
        std::string text;
        execute(*node.body, text);
        assign(node, Value(std::move(text)));
        break;
      }
      case Kind::Macro:
        macros_[node.name] = &node;
        break;
      case Kind::Filter: {
        std::string text;
        execute(*node.body, text);
        const Node& call = *node.children[0];
        out += to_text(apply_filter(call.name, Value(std::move(text)), arguments(call, 1)));
        break;
      }
      case Kind::Break:
        return Flow::Break;
      case Kind::Continue:
        return Flow::Continue;
      default:
        throw InternalError("an expression stands where a statement should");
    }
    if (out.size() > kLongestOutput) fail("the text became too long");
    return Flow::Normal;
  }

  void assign(const Node& node, Value value) {
    if (!node.name.empty()) {
      const Value* space = find(node.names[0]);
      if (space == nullptr || !space->is_object()) fail(fmt::format("'{}' is not a namespace", node.names[0]));
      space->set(node.name, std::move(value));
    } else {
      bind(node.names, std::move(value));
    }
  }
  void bind(const std::vector<std::string>& names, Value value) {
    if (names.size() == 1) {
      scopes_.back()[names[0]] = std::move(value);
      return;
    }
    const List parts = iterate(value);
    if (parts.size() != names.size()) fail(fmt::format("{} values for {} names", parts.size(), names.size()));
    for (std::size_t i = 0; i < names.size(); ++i) scopes_.back()[names[i]] = parts[i];
  }

  void loop(const Node& node, std::string& out) {
    List all = iterate(evaluate(*node.children[0]));
    const Node* condition = node.children.size() > 2 ? node.children[2].get() : nullptr;
    scopes_.emplace_back();
    if (condition != nullptr) {
      List kept;
      for (const auto& value : all) {
        bind(node.names, value);
        if (truth(evaluate(*condition))) kept.push_back(value);
      }
      all = std::move(kept);
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
      scopes_.back().clear();
      bind(node.names, all[i]);
      const auto count = static_cast<std::int64_t>(all.size()), at = static_cast<std::int64_t>(i);
      scopes_.back()["loop"] = Value(Object{{"index", at + 1},
                                            {"index0", at},
                                            {"first", at == 0},
                                            {"last", at + 1 == count},
                                            {"length", count},
                                            {"revindex", count - at},
                                            {"revindex0", count - at - 1},
                                            {"previtem", i > 0 ? all[i - 1] : Value()},
                                            {"nextitem", i + 1 < all.size() ? all[i + 1] : Value()}});
      if (execute(*node.children[1], out) == Flow::Break) break;
    }
    scopes_.pop_back();
    if (all.empty() && node.otherwise) execute(*node.otherwise, out);
  }

  const Value* find(std::string_view name) const {
    for (const auto& scope : scopes_ | std::views::reverse)
      if (const auto found = scope.find(name); found != scope.end()) return &found->second;
    return nullptr;
  }

  Arguments arguments(const Node& call, std::size_t first) {
    Arguments a;
    for (std::size_t i = first; i < call.children.size(); ++i) a.positional.push_back(evaluate(*call.children[i]));
    for (const auto& [name, value] : call.named) a.named.emplace_back(name, evaluate(*value));
    return a;
  }

  Value call_macro(const Node& macro, const Arguments& a) {
    if (++depth_ > kDeepestCall) fail("macros call each other too deeply");
    Scope scope;
    for (std::size_t i = 0; i < macro.names.size(); ++i) {
      Value value = a.get(i, macro.names[i]);
      if (value.is_undefined())
        for (const auto& [name, fallback] : macro.named)
          if (name == macro.names[i]) value = evaluate(*fallback);
      scope[macro.names[i]] = std::move(value);
    }
    // A macro sees its arguments and what stands at the top of the template.
    std::vector<Scope> outer(std::make_move_iterator(scopes_.begin() + 1), std::make_move_iterator(scopes_.end()));
    scopes_.resize(1);
    scopes_.push_back(std::move(scope));
    std::string text;
    execute(*macro.body, text);
    scopes_.resize(1);
    scopes_.insert(scopes_.end(), std::make_move_iterator(outer.begin()), std::make_move_iterator(outer.end()));
    --depth_;
    return Value(std::move(text));
  }

  Value call(const Node& node) {
    const Node& callee = *node.children[0];
    const Arguments a = arguments(node, 1);
    if (callee.kind == Kind::Name) {
      if (const auto macro = macros_.find(callee.name); macro != macros_.end()) return call_macro(*macro->second, a);
      if (is_function(callee.name)) return call_function(callee.name, a);
      fail(fmt::format("there is no function '{}'", callee.name));
    }
    if (callee.kind != Kind::Attribute) fail("what is called is no function");
    return call_method(evaluate(*callee.children[0]), callee.name, a);
  }

  Value evaluate(const Node& node) {
    step(node);
    const auto child = [&](std::size_t i) { return evaluate(*node.children[i]); };
    const auto optional = [&](std::size_t i) { return node.children[i] ? child(i) : Value(); };
    switch (node.kind) {
      case Kind::Constant:
        return node.value;
      case Kind::Name: {
        const Value* found = find(node.name);
        return found == nullptr ? Value() : *found;
      }
      case Kind::List: {
        List list;
        for (const auto& part : node.children) list.push_back(evaluate(*part));
        return Value(std::move(list));
      }
      case Kind::Object: {
        const Value object{Object{}};
        for (std::size_t i = 0; i + 1 < node.children.size(); i += 2) object.set(to_text(child(i)), child(i + 1));
        return object;
      }
      case Kind::Attribute:
        return item(child(0), Value(node.name));
      case Kind::Item:
        return item(child(0), child(1));
      case Kind::Slice:
        return slice(child(0), optional(1), optional(2), optional(3));
      case Kind::Call:
        return call(node);
      case Kind::Pipe:
        return apply_filter(node.name, child(0), arguments(node, 1));
      case Kind::Test: {
        const Node& what = *node.children[0];
        const bool known = what.kind == Kind::Name && (macros_.contains(what.name) || is_function(what.name));
        if (known && (node.name == "defined" || node.name == "callable")) return Value(true);
        if (known && node.name == "undefined") return Value(false);
        return Value(apply_test(node.name, child(0), arguments(node, 1)));
      }
      case Kind::Unary: {
        const Value value = child(0);
        if (node.name == "not") return Value(!truth(value));
        return node.name == "-" ? binary("-", Value(0), value) : binary("+", Value(0), value);
      }
      case Kind::Binary: {
        if (node.name == "and" || node.name == "or") {
          Value left = child(0);
          return truth(left) == (node.name == "or") ? left : child(1);
        }
        const Value left = child(0);
        return binary(node.name, left, child(1));
      }
      case Kind::Choice:
        if (truth(child(1))) return child(0);
        return node.children.size() > 2 ? child(2) : Value();
      default:
        throw InternalError("a statement stands where an expression should");
    }
  }

  std::string_view where_;
  std::vector<Scope> scopes_;
  std::map<std::string, const Node*, std::less<>> macros_;
  std::int64_t steps_ = 0;
  int depth_ = 0, line_ = 1;
};

}  // namespace

std::string run(const Node& root, const Value& context, std::string_view where) {
  return Runner(context, where).run(root);
}

}  // namespace tenon::text::jinja
