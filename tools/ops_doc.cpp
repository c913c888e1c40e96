// Writes docs/ops.md from the table of ops.
//
//   ops_doc            prints the page
//   ops_doc --check F  says whether F is that page (the test docs.ops)
//
// What an op's section says comes from the slots of its OpDef (tenon/ops/opdef.h); to say more: a slot, a line here.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/ops/table.h"

namespace {

using namespace tenon;
using ops::OpDef;

std::string dtypes_text(ops::DTypeSet set) {
  struct Known {
    ops::DTypeSet set;
    const char* text;
  };
  static const Known known[] = {
      {ops::kAny, "any dtype"},      {ops::kCompute, "any dtype but the storage types"},
      {ops::kNumbers, "any number"}, {ops::kFloats, "f16, bf16, f32, f64"},
      {ops::kInts, "any integer"},
  };
  for (const auto& row : known)
    if (row.set.bits == set.bits) return row.text;
  std::string text;
  for (const auto& row : all_dtypes())
    if (set.has(row.dtype)) text += fmt::format("{}{}", text.empty() ? "" : ", ", row.name);
  return text;
}

std::string meaning_text(const OpDef& op) {
  return std::visit(ops::Overloaded{
                        [](const ops::Elementwise&) { return "elementwise; inputs broadcast"; },
                        [](const ops::Reduction&) { return "reduction"; },
                        [](const ops::Relayout&) { return "moves the window; the result shares the buffer"; },
                        [](const ops::Primitive&) { return "primitive"; },
                        [](const ops::Composite&) { return "composite: a body of other ops"; },
                        [](const ops::ControlFlow&) { return "control flow: runs the graphs in its attributes"; },
                        [](const ops::DataDependent&) { return "the result's shape depends on values: eager only"; },
                    },
                    op.meaning);
}

std::string gradient_text(const OpDef& op) {
  return std::visit(ops::Overloaded{
                        [](const ops::Vjp&) { return std::string("a rule of its own"); },
                        [](const ops::GradientOfBody&) { return std::string("that of its body"); },
                        [](const ops::NoGradient& g) { return fmt::format("none: {}", g.reason); },
                        [](const ops::NotDifferentiable& g) { return fmt::format("an error: {}", g.reason); },
                    },
                    op.gradient);
}

std::string batching_text(const OpDef& op) {
  return std::visit(ops::Overloaded{
                        [](const ops::Broadcasts&) { return std::string("broadcasts"); },
                        [](const ops::LeadingAxes&) { return std::string("one more leading axis"); },
                        [](const ops::BatchRule&) { return std::string("a rule of its own"); },
                        [](const ops::BatchBody&) { return std::string("that of its body"); },
                        [](const ops::Unrolled& b) { return fmt::format("one call for each example: {}", b.reason); },
                        [](const ops::NoBatching& b) { return fmt::format("an error: {}", b.reason); },
                    },
                    op.batching);
}

std::string promotion_text(const OpDef& op) {
  if (op.promote.mask == 0) return {};
  return op.promote.to_float ? "; brought to one dtype, integers become f32" : "; brought to one dtype";
}

std::string autocast_text(const OpDef& op) {
  switch (op.autocast) {
    case ops::AutocastRule::Lower:
      return "- autocast: the scope's dtype\n";
    case ops::AutocastRule::Full:
      return "- autocast: f32\n";
    case ops::AutocastRule::Keep:
      break;
  }
  return {};
}

std::string section(const OpDef& op) {
  std::string text = fmt::format("### {}\n\n{}\n\n", op.name, op.doc);
  for (const auto& input : op.inputs) {
    const char* kind = input.kind == ops::ArgKind::Optional   ? ", optional"
                       : input.kind == ops::ArgKind::Variadic ? ", any number of them"
                                                              : "";
    text += fmt::format("- `{}`: {}{}{}\n", input.name, dtypes_text(input.dtypes), kind,
                        input.doc.empty() ? "" : fmt::format(". {}", input.doc));
  }
  for (const auto& attr : op.attrs)
    text += fmt::format("- attribute `{}` ({}, field {}){}\n", attr.name, ir::name(attr.type), attr.field,
                        attr.doc.empty() ? "" : fmt::format(": {}", attr.doc));
  text += fmt::format("- {}{}\n", meaning_text(op), promotion_text(op)) + autocast_text(op);
  return text + fmt::format("- gradient: {}\n- vmap: {}\n\n", gradient_text(op), batching_text(op));
}

std::string page() {
  std::vector<const OpDef*> all(ops::table().begin(), ops::table().end());
  std::ranges::sort(all, {}, [](const OpDef* op) { return op->name; });
  std::string text = fmt::format(
      "# Ops\n\nThe {} ops of the table, as their definitions say. Made by `build/release/bin/ops_doc > docs/ops.md`; "
      "a "
      "test\nchecks that the page is current. The functions that users call are declared in `tenon/ops/*.h`; an op "
      "whose "
      "name\nends in `_grad` or `_gradient` is a part of another op's derivative. What the slots mean is in\n"
      "[architecture.md](architecture.md#an-op-is-defined-once).\n\n",
      all.size());
  for (const OpDef* op : all) text += section(*op);
  text.pop_back();
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string text = page();
  if (argc == 3 && std::string(argv[1]) == "--check") {
    try {
      if (read_text_file(argv[2]) == text) return 0;
    } catch (const tenon::Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 1;
    }
    std::fprintf(stderr, "%s is not what the table of ops says; write it anew: %s > docs/ops.md\n", argv[2], argv[0]);
    return 1;
  }
  std::fputs(text.c_str(), stdout);
  return 0;
}
