// What every definition must say, and the errors of calls that are wrong.
#include "tenon/ops/table.h"

#include <algorithm>

#include "support.h"
#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/tensor/tensor_view.h"
#include "tenon/trace/capture.h"

namespace tenon::test {
namespace {

using namespace ops;

TEST_P(Conformance, Described) {
  EXPECT_FALSE(op().doc.empty()) << "op " << op().name << " has no doc";
  EXPECT_FALSE(cases(op()).empty()) << "op " << op().name << " has no samples";
  const auto expect_reason = [](std::string_view reason) {
    EXPECT_GT(reason.size(), 5u) << "op " << op().name << ": a rule is missing without a reason";
  };
  std::visit(Overloaded{[&](const ops::Vjp& rule) { EXPECT_NE(rule.fn, nullptr) << "op " << op().name; },
                        [](const GradientOfBody&) {}, [&](const NoGradient& none) { expect_reason(none.reason); },
                        [&](const NotDifferentiable& none) { expect_reason(none.reason); }},
             op().gradient);
  if (const auto* none = std::get_if<NoBatching>(&op().batching)) expect_reason(none->reason);
  if (const auto* none = std::get_if<Unrolled>(&op().batching)) expect_reason(none->reason);
  if (const auto* rule = std::get_if<BatchRule>(&op().batching)) {
    EXPECT_NE(rule->fn, nullptr) << "op " << op().name;
  }
  for (const auto& arg : op().inputs) EXPECT_NE(arg.dtypes.bits, 0u) << "op " << op().name << ", input " << arg.name;
  std::vector<int> fields;
  for (const auto& attr : op().attrs) {
    EXPECT_GT(attr.field, 0) << "op " << op().name << ", attribute " << attr.name;
    EXPECT_EQ(std::count(fields.begin(), fields.end(), attr.field), 0)
        << "op " << op().name << ", attribute " << attr.name << ": its field number is taken";
    fields.push_back(attr.field);
  }
  for (const Case& c : cases(op())) {
    EXPECT_EQ(c.sample.attrs.size(), op().attrs.size()) << where(op(), c, DType::F32);
    for (size_t i = 0; i < std::min(c.sample.attrs.size(), op().attrs.size()); ++i)
      EXPECT_EQ(ir::type_of(c.sample.attrs[i]), op().attrs[i].type)
          << where(op(), c, DType::F32) << ", attribute " << op().attrs[i].name;
    for (const auto& in : c.sample.inputs) {
      if (in.values.empty()) continue;
      EXPECT_EQ(in.values.size(), static_cast<size_t>(numel(in.shape))) << where(op(), c, DType::F32);
    }
  }
}

std::string bytes(const Tensor& x) {
  if (!x.defined()) return {};
  const auto& buffer = x.impl()->buffer;
  return {reinterpret_cast<const char*>(buffer->data()), buffer->size()};
}

TEST_P(Conformance, Invalid) {
  if (!op().invalid_samples) GTEST_SKIP() << "no invalid samples";
  size_t number = 0;
  for (const InvalidSample& s : op().invalid_samples()) {
    const Case c{number++, {s.inputs, s.attrs}};
    const std::string place = where(op(), c, DType::F32, "invalid");
    const Tensors in = make_inputs(op(), c, DType::F32);
    std::vector<std::string> before;
    for (const auto& x : in) before.push_back(bytes(x));
    for (const auto& options : {kKernels, kReference}) {
      const exec::SessionScope scope(session_with(options));
      try {
        (void)call(op(), in, s.attrs);
        ADD_FAILURE() << place << ": no error; wanted '" << s.message << "'";
      } catch (const Error& e) {
        const std::string_view text = e.what();
        EXPECT_NE(text.find(s.message), text.npos) << place << ": '" << text << "' lacks '" << s.message << "'";
        // A composite's mistake may be found by an op of its body, which then is the one named.
        const bool by_body = std::holds_alternative<Composite>(op().meaning) && find(e.parts().where) != nullptr;
        EXPECT_TRUE(by_body || text.find(op().name) != text.npos) << place << ": '" << text << "' does not name the op";
      }
    }
    for (size_t i = 0; i < in.size(); ++i) EXPECT_EQ(bytes(in[i]), before[i]) << place << ": input " << i << " changed";
  }
}

// What can be done wrong with every op, so that each has wrong calls, with or without samples of its own.
struct Mistake {
  Tensors in;
  ir::Attrs attrs;
  std::string message;
};
std::vector<Mistake> usual_mistakes(const OpDef& op) {
  const Case c = cases(op).front();
  const Tensors good = make_inputs(op, c, best_choice(op, c.sample));
  const auto arg = [&](size_t i) -> const Arg& { return op.inputs[std::min(i, op.inputs.size() - 1)]; };
  std::vector<Mistake> list;
  if (op.inputs.empty() || op.inputs.back().kind != ArgKind::Variadic) {
    list.push_back({good, c.sample.attrs, "wrong number of inputs; expected " + std::to_string(op.inputs.size())});
    list.back().in.resize(op.inputs.size() + 1);
  }
  Tensors foreign = good;
  bool refused = false;
  for (size_t i = 0; i < good.size(); ++i) {
    if (!good[i].defined()) continue;
    if (arg(i).kind != ArgKind::Optional) {
      list.push_back({good, c.sample.attrs, "input '" + std::string(arg(i).name) + "' has no value"});
      list.back().in[i] = Tensor();
    }
    if (arg(i).dtypes.has(DType::F8E4M3)) continue;
    foreign[i] = lay_out(std::vector<double>(static_cast<size_t>(good[i].size()), 1.0),
                         {DType::F8E4M3, good[i].shape()}, Layout::Contiguous);
    refused = true;
  }
  if (refused) list.push_back({foreign, c.sample.attrs, "f8e4m3"});
  if (std::holds_alternative<Elementwise>(op.meaning) && good.size() > 1) {
    Mistake m{{}, c.sample.attrs, "broadcast"};
    for (size_t i = 0; i < good.size(); ++i) {
      const Shape shape = i == 0 ? Shape{2, 3} : Shape{4};
      m.in.push_back(lay_out(std::vector<double>(static_cast<size_t>(numel(shape)), 1.0), {good[i].dtype(), shape},
                             Layout::Contiguous));
    }
    list.push_back(std::move(m));
  }
  if (std::holds_alternative<Reduction>(op.meaning)) list.push_back({good, {Ints{7}, false}, "axis"});
  return list;
}

TEST_P(Conformance, UsualMistakes) {
  const auto mistakes = usual_mistakes(op());
  EXPECT_FALSE(mistakes.empty()) << op().name;
  for (const auto& m : mistakes) {
    const Outcome got = run(kKernels, op(), m.in, m.attrs);
    EXPECT_NE(got.error, "") << op().name << ": no error; wanted '" << m.message << "'";
    EXPECT_NE(got.error.find(m.message), std::string::npos)
        << op().name << ": '" << got.error << "' lacks '" << m.message << "'";
    EXPECT_NE(got.error.find(op().name), std::string::npos) << "'" << got.error << "' does not name " << op().name;
  }
}

TEST(OpTable, NamesEveryOpOnceAndFindsIt) {
  for (const OpDef* op : table()) EXPECT_EQ(find(op->name), op) << op->name << " is in the table twice";
}

TEST(OpTable, HasAtLeastSixtyWrongCallsWithTheirTexts) {
  size_t count = 0;
  for (const OpDef* op : table()) count += op->invalid_samples ? op->invalid_samples().size() : 0;
  EXPECT_GE(count, 60U);
}

TEST(OpTable, WhatDependsOnValuesIsNotCaptured) {
  for (const OpDef* op : table()) {
    if (!std::holds_alternative<DataDependent>(op->meaning)) continue;
    for (const Case& c : cases(*op)) {
      std::vector<InputSpec> specs;
      for (const auto& x : make_inputs(*op, c, DType::F32)) specs.emplace_back("", x.type());
      EXPECT_THROW((void)capture([&](const Tensors& in) { return call(*op, in, c.sample.attrs); }, specs),
                   UnsupportedError)
          << op->name;
    }
  }
}

}  // namespace
}  // namespace tenon::test
