// The text form of the loop IR, written and read.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "tenon/base/error.h"
#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {

int64_t Index::factor(int32_t loop) const {
  for (const auto& term : terms) {
    if (term.loop == loop) return term.factor;
  }
  return 0;
}

void Index::add(int32_t loop, int64_t factor) {
  if (factor == 0) return;
  auto at = terms.begin();
  while (at != terms.end() && at->loop < loop) ++at;
  if (at == terms.end() || at->loop != loop) {
    terms.insert(at, {loop, factor});
  } else {
    at->factor += factor;
    if (at->factor == 0) terms.erase(at);
  }
}

namespace {

std::string buffer_name(const Kernel& k, int32_t i) {
  const auto inputs = static_cast<int32_t>(k.buffers.size());
  return i < inputs ? fmt::format("b{}", i) : fmt::format("s{}", i - inputs);
}

std::string index_text(const Index& index) {
  std::string text;
  for (const auto& term : index.terms) {
    const char* sign = term.factor < 0 ? (text.empty() ? "-" : " - ") : (text.empty() ? "" : " + ");
    const uint64_t size = term.factor < 0 ? 0 - static_cast<uint64_t>(term.factor) : static_cast<uint64_t>(term.factor);
    text += sign;
    text += size == 1 ? fmt::format("i{}", term.loop) : fmt::format("{}*i{}", size, term.loop);
  }
  if (text.empty()) return std::to_string(index.constant);
  if (index.constant > 0) text += fmt::format(" + {}", index.constant);
  if (index.constant < 0) text += fmt::format(" - {}", 0 - static_cast<uint64_t>(index.constant));
  return text;
}

void print(const Kernel& k, const Stmt& s, int depth, std::string& out) {
  out.append(2 * static_cast<size_t>(depth), ' ');
  switch (s.kind) {
    case StmtKind::For:
      out += fmt::format("for i{} in {}{}{}{} {{\n", s.loop, s.extent, s.parallel ? " parallel" : "",
                         s.vec ? " vec" : "", s.unroll ? " unroll" : "");
      for (const Stmt& inner : s.body) print(k, inner, depth + 1, out);
      out.append(2 * static_cast<size_t>(depth), ' ');
      out += "}\n";
      return;
    case StmtKind::Load:
      out += fmt::format("%{}: {} = load {}[{}]\n", s.result, name(s.dtype), buffer_name(k, s.buffer),
                         index_text(s.index));
      return;
    case StmtKind::Store:
      out += fmt::format("store {}[{}], %{}\n", buffer_name(k, s.buffer), index_text(s.index), s.args[0]);
      return;
    case StmtKind::Scalar:
      break;
  }
  out += fmt::format("%{}: {} = {}", s.result, name(s.dtype), s.number ? "number" : info(s.op).name);
  if (s.op == ir::ScalarOp::Const) {
    if (!is_float(s.dtype)) {
      out += fmt::format(" {}", s.integer);
    } else if (std::isnan(s.real)) {
      out += " nan";
    } else if (s.dtype == DType::F32) {
      out += fmt::format(" {}", static_cast<float>(s.real));
    } else {
      out += fmt::format(" {}", s.real);
    }
  }
  for (int a = 0; a < info(s.op).arity; ++a) out += fmt::format("{}%{}", a == 0 ? " " : ", ", s.args[a]);
  out += '\n';
}

void print_buffers(const std::vector<LoopBuffer>& list, char prefix, std::string& out) {
  for (size_t i = 0; i < list.size(); ++i) {
    out += fmt::format("{}{}{}{}: {}[{}]", i == 0 ? "" : ", ", list[i].output ? "out " : "", prefix, i,
                       name(list[i].dtype), list[i].size);
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Kernel parse() {
    word("kernel");
    kernel_.name = quoted();
    buffers('b', kernel_.buffers);
    if (try_word("scratch")) buffers('s', kernel_.scratch);
    if (try_word("streams")) kernel_.streams = 1;
    expect('{');
    Stmt root = statement();
    if (root.kind != StmtKind::For) fail("a kernel is one loop");
    kernel_.root = std::move(root);
    expect('}');
    skip();
    if (at_ != text_.size()) fail("text after the kernel");
    return std::move(kernel_);
  }

 private:
  [[noreturn]] void fail(const std::string& problem) {
    const auto line = std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n') + 1;
    throw FormatError({fmt::format("loop IR, line {}", line), problem, {}, {}, {}});
  }
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }
  bool try_char(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!try_char(c)) fail(fmt::format("'{}' is missing", c));
  }
  std::string_view token() {
    skip();
    const size_t begin = at_;
    const auto part = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.';
    };
    while (at_ < text_.size() && part(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  bool try_word(std::string_view wanted) {
    const size_t before = at_;
    if (token() == wanted) return true;
    at_ = before;
    return false;
  }
  void word(std::string_view wanted) {
    if (!try_word(wanted)) fail(fmt::format("'{}' is missing", wanted));
  }
  std::string quoted() {
    expect('"');
    const size_t end = text_.find('"', at_);
    if (end == std::string_view::npos) fail("the name has no end");
    std::string name(text_.substr(at_, end - at_));
    at_ = end + 1;
    return name;
  }
  template <class T>
  T number() {
    skip();
    T value{};
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc{}) fail("a number is missing");
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }
  int32_t small(int32_t limit = 1 << 20) {
    const auto value = number<int64_t>();
    if (value < 0 || value >= limit) fail("a number out of range");
    return static_cast<int32_t>(value);
  }
  int32_t numbered(char prefix) {
    expect(prefix);
    return small();
  }
  DType dtype() {
    const std::string_view text = token();
    for (const auto& row : all_dtypes()) {
      if (row.name == text) return row.dtype;
    }
    fail("not a dtype");
  }
  void buffers(char prefix, std::vector<LoopBuffer>& list) {
    expect('(');
    while (!try_char(')')) {
      if (!list.empty()) expect(',');
      LoopBuffer buffer;
      buffer.output = try_word("out");
      if (numbered(prefix) != static_cast<int32_t>(list.size())) fail("buffers are not in order");
      expect(':');
      buffer.dtype = dtype();
      expect('[');
      buffer.size = number<int64_t>();
      expect(']');
      list.push_back(buffer);
    }
  }
  int32_t reg() {
    const int32_t r = numbered('%');
    kernel_.registers = std::max(kernel_.registers, r + 1);
    return r;
  }
  int32_t buffer() {
    skip();
    const bool scratch = at_ < text_.size() && text_[at_] == 's';
    const int32_t i = numbered(scratch ? 's' : 'b');
    if (static_cast<size_t>(i) >= (scratch ? kernel_.scratch : kernel_.buffers).size()) fail("no such buffer");
    return scratch ? i + static_cast<int32_t>(kernel_.buffers.size()) : i;
  }
  Index index() {
    Index result;
    expect('[');
    bool minus = try_char('-');
    while (true) {
      skip();
      int64_t value = 1;
      bool term = at_ < text_.size() && text_[at_] == 'i';
      if (!term) {
        value = number<int64_t>();
        term = try_char('*');
      }
      if (minus) value = -value;
      if (term) {
        result.add(numbered('i'), value);
      } else {
        result.constant += value;
      }
      if (try_char(']')) return result;
      minus = try_char('-');
      if (!minus) expect('+');
    }
  }
  Stmt statement() {
    if (depth_ > 64) fail("loops too deep");
    Stmt s;
    if (try_word("for")) {
      s.kind = StmtKind::For;
      s.loop = numbered('i');
      kernel_.loops = std::max(kernel_.loops, s.loop + 1);
      word("in");
      s.extent = number<int64_t>();
      s.parallel = try_word("parallel");
      s.vec = try_word("vec");
      s.unroll = try_word("unroll");
      expect('{');
      ++depth_;
      while (!try_char('}')) s.body.push_back(statement());
      --depth_;
      return s;
    }
    if (try_word("store")) {
      s.kind = StmtKind::Store;
      s.buffer = buffer();
      s.index = index();
      expect(',');
      s.args[0] = reg();
      s.dtype = kernel_.buffer(s.buffer).dtype;
      return s;
    }
    s.result = reg();
    expect(':');
    s.dtype = dtype();
    expect('=');
    const std::string_view what = token();
    if (what == "load") {
      s.kind = StmtKind::Load;
      s.buffer = buffer();
      s.index = index();
      return s;
    }
    s.number = what == "number";
    for (int op = s.number ? static_cast<int>(ir::ScalarOp::Const) : 1; !s.number; ++op) {
      if (op == ir::kScalarOpCount) fail(fmt::format("no instruction '{}'", what));
      s.op = static_cast<ir::ScalarOp>(op);
      if (info(s.op).name == what) break;
    }
    if (s.op == ir::ScalarOp::Const) constant(s);
    for (int a = 0; a < info(s.op).arity; ++a) {
      if (a > 0) expect(',');
      s.args[a] = reg();
    }
    return s;
  }
  void constant(Stmt& s) {
    if (!is_float(s.dtype)) {
      s.integer = number<int64_t>();
    } else if (s.dtype == DType::F32) {
      s.real = static_cast<double>(number<float>());
    } else {
      s.real = number<double>();
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  Kernel kernel_;
};

void feed(Hasher& h, const Stmt& s) {
  h.number(static_cast<int>(s.kind));
  if (s.kind == StmtKind::For) {
    h.number(s.loop);
    h.number(s.extent);
    h.number((s.parallel ? 1 : 0) + (s.vec ? 2 : 0) + (s.unroll ? 4 : 0));
    h.number(s.body.size());
    for (const Stmt& inner : s.body) feed(h, inner);
    return;
  }
  h.number(static_cast<int>(s.op) * 64 + static_cast<int>(s.dtype));
  h.number(s.result);
  for (int32_t a : s.args) h.number(a);
  h.real(s.real);
  h.number(s.integer);
  h.number(s.number ? 1 : 0);
  h.number(s.buffer);
  h.number(s.index.constant);
  for (const auto& term : s.index.terms) {
    h.number(term.loop);
    h.number(term.factor);
  }
}

}  // namespace

std::string to_text(const Kernel& k) {
  std::string out = fmt::format("kernel \"{}\" (", k.name);
  print_buffers(k.buffers, 'b', out);
  out += ')';
  if (!k.scratch.empty()) {
    out += " scratch (";
    print_buffers(k.scratch, 's', out);
    out += ')';
  }
  if (k.streams != 0) out += " streams";
  out += " {\n";
  print(k, k.root, 1, out);
  out += "}\n";
  return out;
}

Kernel parse_kernel(std::string_view text) { return Parser(text).parse(); }

Hash128 hash(const Kernel& k) {
  Hasher h;
  for (const auto* list : {&k.buffers, &k.scratch}) {
    h.number(list->size());
    for (const auto& b : *list) {
      h.number(static_cast<int>(b.dtype) * 2 + (b.output ? 1 : 0));
      h.number(b.size);
    }
  }
  h.number(k.streams);
  feed(h, k.root);
  return h.finish();
}

}  // namespace tenon::compiler
