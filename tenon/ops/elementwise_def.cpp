#include "tenon/ops/elementwise_def.h"

namespace tenon::ops {
namespace {

DType bool_result(std::span<const DType>, const ir::Attrs&) { return DType::Bool; }

OpDef base(const ElementwiseSpec& spec, std::span<const std::string_view> names) {
  OpDef def;
  def.name = spec.name;
  def.doc = spec.doc;
  def.inputs = spec.inputs;
  if (def.inputs.empty()) {
    for (std::string_view name : names) def.inputs.push_back({name, spec.dtypes});
  }
  def.attrs = spec.attrs;
  def.promote = spec.promote;
  def.autocast = spec.autocast;
  def.meaning = Elementwise{spec.expression, spec.gives_bool ? bool_result : nullptr};
  def.takes = (1u << def.inputs.size()) - 1u;
  def.gradient = spec.gradient;
  def.batching = Broadcasts{};
  def.samples = spec.samples;
  def.invalid_samples = spec.invalid_samples;
  def.tolerance = spec.tolerance;
  def.sample_low = spec.low;
  def.sample_high = spec.high;
  def.attr_samples = spec.attr_samples;
  return def;
}

}  // namespace

OpDef unary_def(const ElementwiseSpec& spec) {
  static constexpr std::string_view kNames[] = {"x"};
  return base(spec, kNames);
}
OpDef binary_def(const ElementwiseSpec& spec) {
  static constexpr std::string_view kNames[] = {"a", "b"};
  return base(spec, kNames);
}

}  // namespace tenon::ops
