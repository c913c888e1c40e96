// The text form of graphs: what packages hold, what people read, what tests compare.
//
//   graph "mlp" (%0 "x": f32[2, 3], %1: f32[3]) -> (%5, %4) {
//     %2: f32[] = const {0.5}
//     %3: f32[2, 3] = mul(%0, %1) in "blocks.0.norm" from "model.cpp:12"
//     %4: f32[2], %5 "y": i64[2] = topk(%3, _) {k = 1, axes = [-1], body = graph (…) -> (…) {…}}
//   }
//
//   graph   = "graph" [text] [sizes] "(" [input {"," input}] ")" "->" "(" [value {"," value}] ")" "{" {node} "}"
//   sizes   = "[" size {"," size} "]"                    of the outermost graph only
//   size    = name "=" integer "from" integer ["to" integer]      an example, the least and the largest
//   input   = value [text] ":" type                      text: the name of the value
//   node    = input {"," input} "=" (constant | call) ["in" text] ["from" text]
//   constant= "const" ("{" [number {"," number}] "}" | "@" integer)
//   call    = op "(" [operand {"," operand}] ")" ["{" op-attribute "=" attribute {"," …} "}"]
//   operand = value | "_"                                "_": an optional operand that is absent
//   value   = "%" integer                                numbered from 0 in the order of definition
//   type    = dtype "[" [extent {"," extent}] "]"
//   extent  = integer | expr | "~" integer               "~": depends on the sizes as the op's rule says
//   expr    = sum | "(" sum ")" | quotient | integer "*" "(" quotient ")", the last two with [("+" | "-") integer]
//   quotient= "(" sum ")" "/" integer                    rounds down
//   sum     = product {("+" | "-") product};  product = (integer | name) {"*" (integer | name)}
//   attribute: true, false | -3 | 0.5 | "text" | f32 | [1, 2] | graph … | none, by the op's declaration; an expr may
//   stand for an integer, and for a real or an element of a constant if it is a name or in brackets
//   text: "…" with \" \\ \n \t \xHH; numbers in their shortest exact decimal form, inf, -inf, nan, nan(bits);
//   "#" starts a comment that ends with the line; blanks and line ends separate and mean nothing else.
//
// Printing is canonical: parse(print(g)) prints the same text again, and is the same graph up to unused
// values. Constants carry all their elements, or stand as "@i": the i-th tensor of a table kept elsewhere.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "tenon/ir/schema.h"

namespace tenon::ir {

struct TextOptions {
  // Constants of more elements than `inline_elements` are appended here (each tensor once) and printed as "@i".
  Tensors* table = nullptr;
  int64_t inline_elements = 16;
  // Constants that go to the table however few elements they have.
  std::function<bool(const Tensor&)> in_table = {};
  // For reading only: without a table, long constants print as "const {…}", which does not parse.
  bool shorten = false;
};

std::string to_text(const Graph& graph, const OpCatalog& ops, const TextOptions& options = {});
// One node as a line, with the value numbers that it carries; also of malformed graphs, for messages.
std::string node_to_text(const Graph& graph, const Node& node, const OpCatalog& ops);

// Errors: FormatError with line and column. Types are read, not inferred: call verify() afterwards. Any bytes may
// be given: memory and time are in proportion to the text.
Graph parse(std::string_view text, const OpCatalog& ops, std::span<const Tensor> table = {});

}  // namespace tenon::ir
