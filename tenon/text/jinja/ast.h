// What a template is made of. One kind of node for statements and expressions: `kind` says which fields mean something.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tenon/text/value.h"

namespace tenon::text::jinja {

enum class Kind {
  // statements
  Block,     // children in order
  Text,      // value
  Output,    // children[0]
  If,        // children: condition, then; otherwise
  For,       // names; children: iterable, body, [condition]; otherwise
  Set,       // names, or `name` of the namespace names[0]; children[0]
  SetBlock,  // names[0]; body
  Macro,     // name, names = parameters, named = defaults; body
  Filter,    // filter block: children[0] is the filter's call, body
  Break,
  Continue,
  // expressions
  Constant,   // value
  Name,       // name
  List,       // children
  Object,     // children: key, value, key, value, …
  Attribute,  // children[0], name
  Item,       // children[0], children[1]
  Slice,      // children[0], start, stop, step (null: left out)
  Call,       // children[0], then arguments; named
  Pipe,       // children[0], name, then arguments; named
  Test,       // children[0], name, then arguments
  Unary,      // name; children[0]
  Binary,     // name; children[0], children[1]
  Choice,     // children: value, condition, [otherwise]
};

struct Node;
using NodePtr = std::unique_ptr<Node>;

struct Node {
  Kind kind = Kind::Block;
  int line = 0;
  std::string name;
  Value value;
  std::vector<std::string> names;
  std::vector<NodePtr> children;
  std::vector<std::pair<std::string, NodePtr>> named;
  NodePtr body, otherwise;
};

// Errors: FormatError naming `where` and the line.
NodePtr parse(std::string_view source, std::string_view where);

// The text of a template. Errors: ValueError.
std::string run(const Node& root, const Value& context, std::string_view where);

}  // namespace tenon::text::jinja
