// Templates to trees: pieces of text and tags first, then the tokens within tags.
#include <fmt/format.h>

#include <array>
#include <set>

#include "tenon/base/error.h"
#include "tenon/data/utf8.h"
#include "tenon/text/jinja/ast.h"

namespace tenon::text::jinja {
namespace {

constexpr int kDeepest = 100;

struct Token {
  enum class Type { Text, TagBegin, TagEnd, OutputBegin, OutputEnd, Name, String, Integer, Real, Operator, End } type;
  std::string text;
  int line = 0;
};
using Type = Token::Type;

[[noreturn]] void fail(std::string_view where, int line, std::string problem, std::string got = {}) {
  throw FormatError(
      {.where = std::string(where), .problem = fmt::format("{} in line {}", problem, line), .got = std::move(got)});
}

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view where) : source_(source), where_(where) {}

  std::vector<Token> run() {
    // As Jinja does by default, one newline at the very end is dropped.
    if (source_.ends_with('\n')) source_.remove_suffix(1);
    while (at_ < source_.size()) {
      const std::size_t tag = find_tag();
      text(tag);
      if (at_ >= source_.size()) break;
      const char kind = source_[at_ + 1];
      at_ += 2;
      if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) ++at_;
      if (kind == '#') {
        comment();
      } else {
        tag_tokens(kind == '%' ? "%}" : "}}", kind == '%');
      }
    }
    push(Type::End, "");
    return std::move(tokens_);
  }

 private:
  void push(Type type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }
  void advance(std::size_t count) {
    for (; count > 0 && at_ < source_.size(); --count) line_ += source_[at_++] == '\n' ? 1 : 0;
  }
  std::size_t find_tag() const {
    for (std::size_t i = at_; i + 1 < source_.size(); ++i)
      if (source_[i] == '{' && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) return i;
    return source_.size();
  }

  // The text up to a tag, less the white space that the tags around it take away.
  void text(std::size_t end) {
    std::string_view part = source_.substr(at_, end - at_);
    const int line = line_;
    advance(part.size());
    if (strip_next_) {
      while (!part.empty() && is_space(part.front())) part.remove_prefix(1);
    } else if (trim_newline_ && part.starts_with('\n')) {
      part.remove_prefix(1);
    }
    if (end < source_.size()) {
      const char kind = source_[end + 1], mark = end + 2 < source_.size() ? source_[end + 2] : ' ';
      if (mark == '-') {
        while (!part.empty() && is_space(part.back())) part.remove_suffix(1);
      } else if (kind != '{' && mark != '+') {
        // lstrip_blocks: blanks between the line's beginning and the tag.
        std::size_t keep = part.size();
        while (keep > 0 && (part[keep - 1] == ' ' || part[keep - 1] == '\t')) --keep;
        const bool at_line_start = keep == 0 ? at_line_start_ : part[keep - 1] == '\n';
        if (at_line_start) part = part.substr(0, keep);
      }
    }
    if (!part.empty()) tokens_.push_back({Type::Text, std::string(part), line});
    strip_next_ = trim_newline_ = at_line_start_ = false;
  }

  // What stands before the closing braces of any tag: "-" strips the white space that follows.
  void end_tag(bool block) {
    const bool strip = source_[at_] == '-', plus = source_[at_] == '+';
    advance(strip || plus ? 3 : 2);
    strip_next_ = strip;
    trim_newline_ = block && !plus;
    // A tag that took its newline along leaves the next one at the beginning of a line.
    at_line_start_ = block && !plus && at_ < source_.size() && source_[at_] == '\n' ? true : at_line_start_;
  }

  void comment() {
    std::size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) fail(where_, line_, "a comment never ends");
    const bool marked = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    advance(end - at_ - (marked ? 1 : 0));
    end_tag(true);
  }

  bool at_end(std::string_view closing) const {
    const std::string_view rest = source_.substr(at_);
    return rest.starts_with(closing) ||
           (rest.size() > 2 && (rest[0] == '-' || rest[0] == '+') && rest.substr(1).starts_with(closing));
  }

  void tag_tokens(std::string_view closing, bool block) {
    push(block ? Type::TagBegin : Type::OutputBegin, "");
    int depth = 0;  // braces of objects within
    while (true) {
      while (at_ < source_.size() && is_space(source_[at_])) advance(1);
      if (at_ >= source_.size()) fail(where_, line_, "a tag never ends");
      if (depth == 0 && at_end(closing)) break;
      token(depth);
    }
    push(block ? Type::TagEnd : Type::OutputEnd, "");
    end_tag(block);
  }

  void token(int& depth) {
    const char c = source_[at_];
    if (is_name_start(c)) {
      std::size_t end = at_;
      while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
      push(Type::Name, std::string(source_.substr(at_, end - at_)));
      at_ = end;
    } else if (is_digit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      string(c);
    } else {
      static constexpr std::array<std::string_view, 6> kTwo{"==", "!=", "<=", ">=", "//", "**"};
      for (const auto& two : kTwo)
        if (source_.substr(at_).starts_with(two)) {
          push(Type::Operator, std::string(two));
          at_ += 2;
          return;
        }
      static constexpr std::string_view kOne = "()[]{}.,:|=+-*/%~<>";
      if (kOne.find(c) == std::string_view::npos)
        fail(where_, line_, "a character that means nothing", std::string(1, c));
      depth += c == '{' ? 1 : c == '}' ? -1 : 0;
      push(Type::Operator, std::string(1, c));
      ++at_;
    }
  }

  void number() {
    std::size_t end = at_;
    bool real = false;
    while (end < source_.size() &&
           (is_digit(source_[end]) || source_[end] == '_' ||
            (source_[end] == '.' && !real && end + 1 < source_.size() && is_digit(source_[end + 1])))) {
      real |= source_[end] == '.';
      ++end;
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      std::size_t digits = end + 1;
      if (digits < source_.size() && (source_[digits] == '-' || source_[digits] == '+')) ++digits;
      if (digits < source_.size() && is_digit(source_[digits])) {
        real = true;
        for (end = digits; end < source_.size() && is_digit(source_[end]);) ++end;
      }
    }
    std::string text(source_.substr(at_, end - at_));
    std::erase(text, '_');
    if (text.size() > 18) fail(where_, line_, "a number is too long", text);
    push(real ? Type::Real : Type::Integer, text);
    at_ = end;
  }

  void string(char quote) {
    std::string text;
    std::size_t i = at_ + 1;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] != '\\' || i + 1 >= source_.size()) {
        text += source_[i];
        continue;
      }
      switch (source_[++i]) {
        case 'n':
          text += '\n';
          break;
        case 't':
          text += '\t';
          break;
        case 'r':
          text += '\r';
          break;
        case '\n':
          break;
        case '\\':
        case '\'':
        case '"':
          text += source_[i];
          break;
        case 'x':
        case 'u': {
          const std::size_t digits = source_[i] == 'x' ? 2 : 4;
          char32_t value = 0;
          for (std::size_t d = 1; d <= digits; ++d) {
            const char h = i + d < source_.size() ? source_[i + d] : 'z';
            const int v = is_digit(h)            ? h - '0'
                          : h >= 'a' && h <= 'f' ? h - 'a' + 10
                          : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                                 : -1;
            if (v < 0) fail(where_, line_, "an escape needs hexadecimal digits");
            value = value * 16 + static_cast<char32_t>(v);
          }
          if (value >= 0xd800 && value < 0xe000) fail(where_, line_, "an escape that is half a character");
          data::append_utf8(text, value);
          i += digits;
          break;
        }
        default:
          text += '\\', text += source_[i];
      }
    }
    if (i >= source_.size()) fail(where_, line_, "a text never ends");
    push(Type::String, std::move(text));
    advance(i + 1 - at_);
  }

  std::string_view source_, where_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool strip_next_ = false, trim_newline_ = false, at_line_start_ = true;
  std::vector<Token> tokens_;
};

class Parser {
 public:
  Parser(std::vector<Token> tokens, std::string_view where) : tokens_(std::move(tokens)), where_(where) {}

  NodePtr run() {
    NodePtr root = block({});
    if (peek().type != Type::End) fail("a tag that closes nothing");
    return root;
  }

 private:
  struct Deeper {
    explicit Deeper(Parser& parser) : p(parser) {
      if (++p.depth_ > kDeepest) p.fail("the template is nested too deeply");
    }
    ~Deeper() { --p.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Parser& p;
  };

  [[noreturn]] void fail(std::string problem) const {
    jinja::fail(where_, peek().line, std::move(problem), peek().text);
  }
  [[nodiscard]] const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const Token& next() { return tokens_[std::min(at_++, tokens_.size() - 1)]; }
  [[nodiscard]] bool is(std::string_view op) const { return peek().type == Type::Operator && peek().text == op; }
  [[nodiscard]] bool is_word(std::string_view word) const { return peek().type == Type::Name && peek().text == word; }
  bool accept(std::string_view op) { return is(op) ? (next(), true) : false; }
  bool accept_word(std::string_view word) { return is_word(word) ? (next(), true) : false; }
  void expect(std::string_view op) {
    if (!accept(op)) fail(fmt::format("'{}' is missing", op));
  }
  std::string name() {
    if (peek().type != Type::Name) fail("a name is missing");
    return next().text;
  }
  void end_of_tag() {
    if (peek().type != Type::TagEnd) fail("the tag should end");
    next();
  }
  NodePtr make(Kind kind) const {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = peek().line;
    return node;
  }
  NodePtr make(Kind kind, NodePtr child) const {
    auto node = make(kind);
    node->children.push_back(std::move(child));
    return node;
  }

  // Statements up to one of the tags in `ends`, which is left to be read.
  NodePtr block(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(*this);
    NodePtr result = make(Kind::Block);
    while (peek().type != Type::End) {
      if (peek().type == Type::Text) {
        NodePtr text = make(Kind::Text);
        text->value = Value(next().text);
        result->children.push_back(std::move(text));
      } else if (peek().type == Type::OutputBegin) {
        next();
        result->children.push_back(make(Kind::Output, expression()));
        if (peek().type != Type::OutputEnd) fail("the output should end");
        next();
      } else if (peek().type == Type::TagBegin) {
        for (const auto& end : ends)
          if (peek(1).type == Type::Name && peek(1).text == end) return result;
        next();
        statement(*result);
      } else {
        fail("a statement is missing");
      }
    }
    if (ends.size() != 0) fail(fmt::format("'{}' is missing", *(ends.end() - 1)));
    return result;
  }
  // The tag that ends a block: {% word %}.
  std::string closing() {
    next();
    return name();
  }

  void statement(Node& into) {
    const std::string word = name();
    if (word == "if") return into.children.push_back(if_statement());
    if (word == "for") return into.children.push_back(for_statement());
    if (word == "set") return into.children.push_back(set_statement());
    if (word == "macro") return into.children.push_back(macro_statement());
    if (word == "break" || word == "continue") {
      into.children.push_back(make(word == "break" ? Kind::Break : Kind::Continue));
      return end_of_tag();
    }
    if (word == "generation") {  // marks what the assistant says; the text is the same
      end_of_tag();
      into.children.push_back(block({"endgeneration"}));
      closing();
      return end_of_tag();
    }
    if (word == "filter") {
      NodePtr node = make(Kind::Filter);
      NodePtr call = make(Kind::Pipe, make(Kind::Constant));
      call->name = name();
      if (accept("(")) arguments(*call);
      node->children.push_back(std::move(call));
      end_of_tag();
      node->body = block({"endfilter"});
      closing(), end_of_tag();
      into.children.push_back(std::move(node));
      return;
    }
    fail(fmt::format("there is no statement '{}'", word));
  }

  NodePtr if_statement() {
    const Deeper deeper(*this);
    NodePtr node = make(Kind::If, expression());
    end_of_tag();
    node->children.push_back(block({"elif", "else", "endif"}));
    const std::string end = closing();
    if (end == "elif") {
      node->otherwise = if_statement();
      return node;
    }
    if (end == "else") {
      end_of_tag();
      node->otherwise = block({"endif"});
      closing();
    }
    end_of_tag();
    return node;
  }

  std::vector<std::string> targets() {
    std::vector<std::string> names;
    const bool parenthesised = accept("(");
    do names.push_back(name());
    while (accept(","));
    if (parenthesised) expect(")");
    return names;
  }

  NodePtr for_statement() {
    NodePtr node = make(Kind::For);
    node->names = targets();
    if (!accept_word("in")) fail("'in' is missing");
    node->children.push_back(choice_free_expression());
    NodePtr condition;
    if (accept_word("if")) condition = expression();
    accept_word("recursive");
    end_of_tag();
    node->children.push_back(block({"else", "endfor"}));
    if (condition) node->children.push_back(std::move(condition));
    if (closing() == "else") {
      end_of_tag();
      node->otherwise = block({"endfor"});
      closing();
    }
    end_of_tag();
    return node;
  }

  NodePtr set_statement() {
    NodePtr node = make(Kind::Set);
    node->names = targets();
    if (accept(".")) node->name = name();
    if (accept("=")) {
      NodePtr value = expression();
      if (is(",")) value = tuple(std::move(value));
      node->children.push_back(std::move(value));
      end_of_tag();
      return node;
    }
    node->kind = Kind::SetBlock;
    end_of_tag();
    node->body = block({"endset"});
    closing(), end_of_tag();
    return node;
  }

  NodePtr macro_statement() {
    NodePtr node = make(Kind::Macro);
    node->name = name();
    expect("(");
    while (!accept(")")) {
      node->names.push_back(name());
      if (accept("=")) node->named.emplace_back(node->names.back(), expression());
      if (!is(")")) expect(",");
    }
    end_of_tag();
    node->body = block({"endmacro"});
    closing();
    if (peek().type == Type::Name) next();
    end_of_tag();
    return node;
  }

  NodePtr tuple(NodePtr first) {
    NodePtr list = make(Kind::List, std::move(first));
    while (accept(",") && peek().type != Type::TagEnd && !is(")")) list->children.push_back(expression());
    return list;
  }

  NodePtr expression() {
    const Deeper deeper(*this);
    NodePtr value = choice_free_expression();
    while (accept_word("if")) {
      NodePtr node = make(Kind::Choice, std::move(value));
      node->children.push_back(choice_free_expression());
      if (accept_word("else")) node->children.push_back(expression());
      value = std::move(node);
    }
    return value;
  }

  NodePtr binary(std::string op, NodePtr left, NodePtr right) const {
    NodePtr node = make(Kind::Binary, std::move(left));
    node->children.push_back(std::move(right));
    node->name = std::move(op);
    return node;
  }
  NodePtr unary(std::string op, NodePtr operand) const {
    NodePtr node = make(Kind::Unary, std::move(operand));
    node->name = std::move(op);
    return node;
  }

  NodePtr choice_free_expression() {
    NodePtr left = and_expression();
    while (accept_word("or")) left = binary("or", std::move(left), and_expression());
    return left;
  }
  NodePtr and_expression() {
    NodePtr left = not_expression();
    while (accept_word("and")) left = binary("and", std::move(left), not_expression());
    return left;
  }
  NodePtr not_expression() {
    const Deeper deeper(*this);
    if (accept_word("not")) return unary("not", not_expression());
    return comparison();
  }
  NodePtr comparison() {
    NodePtr left = sum();
    while (true) {
      std::string op;
      if (peek().type == Type::Operator && (is("==") || is("!=") || is("<") || is(">") || is("<=") || is(">="))) {
        op = next().text;
      } else if (is_word("in")) {
        op = next().text;
      } else if (is_word("not") && peek(1).type == Type::Name && peek(1).text == "in") {
        next(), next();
        op = "not in";
      } else {
        return left;
      }
      left = binary(op, std::move(left), sum());
    }
  }
  NodePtr sum() {
    NodePtr left = join();
    while (is("+") || is("-")) {
      const std::string op = next().text;
      left = binary(op, std::move(left), join());
    }
    return left;
  }
  NodePtr join() {
    NodePtr left = product();
    while (accept("~")) left = binary("~", std::move(left), product());
    return left;
  }
  NodePtr product() {
    NodePtr left = power();
    while (is("*") || is("/") || is("//") || is("%")) {
      const std::string op = next().text;
      left = binary(op, std::move(left), power());
    }
    return left;
  }
  NodePtr power() {
    NodePtr left = signed_expression(true);
    while (accept("**")) left = binary("**", std::move(left), signed_expression(true));
    return left;
  }
  NodePtr signed_expression(bool with_filters) {
    const Deeper deeper(*this);
    NodePtr value;
    if (is("-") || is("+")) {
      const std::string op = next().text;
      value = unary(op, signed_expression(false));
    } else {
      value = primary();
    }
    value = postfix(std::move(value));
    return with_filters ? filters(std::move(value)) : std::move(value);
  }

  // | filter and `is test`.
  NodePtr filters(NodePtr value) {
    while (true) {
      if (accept("|")) {
        NodePtr node = make(Kind::Pipe, std::move(value));
        node->name = name();
        if (accept("(")) arguments(*node);
        value = postfix(std::move(node));
      } else if (accept_word("is")) {
        const bool negated = accept_word("not");
        NodePtr node = make(Kind::Test, std::move(value));
        node->name = name();
        if (accept("(")) {
          arguments(*node);
        } else if (takes_argument(node->name)) {
          node->children.push_back(postfix(primary()));
        }
        value = negated ? unary("not", std::move(node)) : std::move(node);
      } else {
        return value;
      }
    }
  }
  static bool takes_argument(const std::string& test) {
    static const std::set<std::string> names{"equalto", "eq", "ne",          "lt", "gt",
                                             "le",      "ge", "divisibleby", "in", "sameas"};
    return names.contains(test);
  }

  void arguments(Node& call) {
    while (!accept(")")) {
      if (peek().type == Type::Name && peek(1).type == Type::Operator && peek(1).text == "=") {
        std::string argument = name();
        next();
        call.named.emplace_back(std::move(argument), expression());
      } else {
        call.children.push_back(expression());
      }
      if (!is(")")) expect(",");
    }
  }

  NodePtr postfix(NodePtr value) {
    while (true) {
      if (accept(".")) {
        NodePtr node = make(Kind::Attribute, std::move(value));
        node->name = peek().type == Type::Integer ? next().text : name();
        value = std::move(node);
      } else if (accept("[")) {
        value = subscript(std::move(value));
      } else if (accept("(")) {
        NodePtr node = make(Kind::Call, std::move(value));
        arguments(*node);
        value = std::move(node);
      } else {
        return value;
      }
    }
  }

  NodePtr subscript(NodePtr value) {
    NodePtr parts[3];
    int count = 0;
    bool slice = false;
    while (!is("]")) {
      if (accept(":")) {
        slice = true;
        if (++count > 2) fail("a slice has three parts");
      } else {
        parts[count] = expression();
      }
    }
    expect("]");
    NodePtr node = make(slice ? Kind::Slice : Kind::Item, std::move(value));
    if (!slice && !parts[0]) fail("an index is missing");
    for (int i = 0; i < (slice ? 3 : 1); ++i) node->children.push_back(std::move(parts[i]));
    return node;
  }

  NodePtr constant(Value value) const {
    NodePtr node = make(Kind::Constant);
    node->value = std::move(value);
    return node;
  }

  NodePtr primary() {
    const Deeper deeper(*this);
    const Token& token = peek();
    switch (token.type) {
      case Type::String: {
        std::string text;
        while (peek().type == Type::String) text += next().text;
        return constant(Value(std::move(text)));
      }
      case Type::Integer:
        return constant(Value(std::int64_t{std::stoll(next().text)}));
      case Type::Real:
        return constant(Value(std::strtod(next().text.c_str(), nullptr)));
      case Type::Name: {
        const std::string text = next().text;
        if (text == "true" || text == "True") return constant(true);
        if (text == "false" || text == "False") return constant(false);
        if (text == "none" || text == "None") return constant(Null{});
        NodePtr node = make(Kind::Name);
        node->name = text;
        return node;
      }
      default:
        break;
    }
    if (accept("(")) {
      if (accept(")")) return make(Kind::List);
      NodePtr value = expression();
      if (is(",")) value = tuple(std::move(value));
      expect(")");
      return value;
    }
    if (accept("[")) {
      NodePtr list = make(Kind::List);
      while (!accept("]")) {
        list->children.push_back(expression());
        if (!is("]")) expect(",");
      }
      return list;
    }
    if (accept("{")) {
      NodePtr object = make(Kind::Object);
      while (!accept("}")) {
        object->children.push_back(expression());
        expect(":");
        object->children.push_back(expression());
        if (!is("}")) expect(",");
      }
      return object;
    }
    fail("an expression is missing");
  }

  std::vector<Token> tokens_;
  std::string_view where_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

NodePtr parse(std::string_view source, std::string_view where) {
  data::require_utf8(source, where);
  return Parser(Lexer(source, where).run(), where).run();
}

}  // namespace tenon::text::jinja
