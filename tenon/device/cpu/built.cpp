#include "tenon/device/cpu/built.h"

#include <algorithm>
#include <bit>
#include <set>

#include "tenon/device/cpu/nest.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/table.h"

namespace tenon::cpu {
namespace {

constexpr DType kCommon[] = {DType::F32, DType::F64, DType::BF16, DType::F16, DType::I32, DType::I64, DType::Bool};

// Dtypes of the inputs when as many of them as may be are `dtype`; empty if none may.
std::vector<DType> dtypes_of(const ops::OpDef& op, DType dtype) {
  std::vector<DType> in;
  bool any = false;
  for (const ops::Arg& arg : op.inputs) {
    any = any || arg.dtypes.has(dtype);
    DType t = dtype;
    if (!arg.dtypes.has(t)) {
      const auto* first = std::ranges::find_if(kCommon, [&](DType c) { return arg.dtypes.has(c); });
      if (first == std::end(kCommon)) return {};
      t = *first;
    }
    in.push_back(t);
  }
  return any ? in : std::vector<DType>{};
}

std::vector<ir::Attrs> attrs_of(const ops::OpDef& op) {
  if (!op.attr_samples.empty()) return op.attr_samples;
  if (op.attrs.empty()) return {ir::Attrs{}};
  std::vector<ir::Attrs> attrs;
  if (op.samples != nullptr) {
    for (const ops::Sample& sample : op.samples()) attrs.push_back(sample.attrs);
  }
  return attrs;
}

void add(const ops::OpDef& op, DType dtype, std::set<Hash128>& seen, std::vector<ir::ScalarProgram>& programs) {
  const std::vector<DType> in = dtypes_of(op, dtype);
  if (in.empty() || in.size() > kMostBuiltInputs) return;
  for (const ir::Attrs& attrs : attrs_of(op)) {
    std::vector<TensorType> types;
    for (DType t : in) types.push_back({t, {2}});
    const InlineVector<bool, 8> present(in.size(), true);
    const auto result = ops::infer_types({op, types, std::span(present.data(), present.size()), attrs});
    ir::ScalarProgram program = ops::build_program(op, in, attrs, result[0].dtype);
    size_t constants = 0;
    bool packed = false;
    for (const ir::ScalarInstr& i : program.code) {
      constants += i.op == ir::ScalarOp::Const ? 1 : 0;
      packed = packed || (info(i.dtype).bits < 8 && i.dtype != DType::Bool);
    }
    if (packed || constants > kMostBuiltConstants || program.inputs != static_cast<int>(in.size())) continue;
    if (seen.insert(structure_of(program)).second) programs.push_back(std::move(program));
  }
}

constexpr int64_t kChunk = kMostFlat;  // elements of one part of a parallel run, about
constexpr int64_t kShortRow = 8;       // rows so short go block by block, many at once

// The numbers of a kernel; `strides` of the inputs, then of the output, from row to row.
class Numbers {
 public:
  Numbers(std::span<const int64_t> constants, const int64_t* strides, size_t inputs) {
    size_t at = 1;
    const auto stride = [&](size_t k) {
      values_[at++] = 0;
      values_[at++] = strides[k];
    };
    for (size_t k = 0; k < inputs; ++k) stride(k);
    for (int64_t constant : constants) values_[at++] = constant;
    stride(inputs);
  }
  const int64_t* of_rows(int64_t n) {
    values_[0] = n;
    return values_;
  }

 private:
  int64_t values_[1 + 2 * (kMostBuiltInputs + 1) + kMostBuiltConstants];
};

}  // namespace

bool run_built(const BuiltProgram& built, std::span<const ConstView> in, const View& out, ThreadPool& pool) {
  constexpr size_t kMost = kMostBuiltInputs + 1;
  const size_t count = in.size() + 1;
  if (count > kMost || built.by_layout[(1U << in.size()) - 1] == nullptr) return false;
  std::array<const Shape*, kMost> given{&out.strides};
  for (size_t k = 0; k < in.size(); ++k) given[k + 1] = &in[k].strides;
  const Nest nest = make_nest(out.shape, std::span(given).first(count));
  const int64_t n = nest.inner(), rows = nest.rows();
  if ((n < kShortRow && rows > 1) || (nest.strides[0].back() != 1 && n > 1)) return false;
  const size_t axes = nest.shape.size();
  uint32_t layout = 0;
  int64_t strides[kMost] = {}, bytes[kMost] = {};
  std::byte* base[kMost] = {};
  for (size_t k = 0; k < count; ++k) {  // in the order of the kernel: the output comes last
    const size_t operand = (k + 1) % count;
    const Shape& s = nest.strides[operand];
    if (s.back() != 0 && s.back() != 1 && n > 1) return false;
    const ConstView& view = operand == 0 ? ConstView(out) : in[k];
    if (operand != 0 && (s.back() != 0 || n == 1)) layout |= 1U << k;
    strides[k] = axes > 1 ? s[axes - 2] : 0;
    bytes[k] = std::max(1, element_size(view.dtype));
    base[k] = const_cast<std::byte*>(view.data) + view.offset * bytes[k];
  }
  const BuiltFn run = built.by_layout[layout];
  if (run == nullptr) return false;
  // Elements [from, from + length) of the rows [row, last), of which those of one turn of the outer loops go together.
  const int64_t together = axes > 1 ? nest.shape[axes - 2] : 1;
  const auto part = [&](int64_t row, int64_t last, int64_t from, int64_t length) {
    Numbers numbers(built.constants, strides, in.size());
    while (row < last) {
      const int64_t begin = row % together, end = std::min(together, begin + last - row);
      std::byte* buffers[kMost];
      for (size_t k = 0; k < count; ++k) {
        const Shape& s = nest.strides[(k + 1) % count];
        int64_t at = s.back() == 0 ? 0 : from;
        for (size_t d = axes - std::min<size_t>(axes, 2), outer = static_cast<size_t>(row / together); d-- > 0;) {
          const auto extent = static_cast<size_t>(nest.shape[d]);
          at += static_cast<int64_t>(outer % extent) * s[d];
          outer /= extent;
        }
        buffers[k] = base[k] + at * bytes[k];
      }
      run(buffers, numbers.of_rows(length), begin, end);
      row += end - begin;
    }
  };
  if (n >= kChunk) {
    const int64_t pieces = (n + kChunk - 1) / kChunk;
    pool.run(rows * pieces, [&](int64_t unit) {
      const int64_t from = unit % pieces * kChunk;
      part(unit / pieces, unit / pieces + 1, from, std::min(kChunk, n - from));
    });
    return true;
  }
  const int64_t group = std::max<int64_t>(1, kChunk / n), parts = (rows + group - 1) / group;
  if (parts == 1) {
    part(0, rows, 0, n);
  } else {
    pool.run(parts, [&](int64_t p) { part(p * group, std::min(rows, (p + 1) * group), 0, n); });
  }
  return true;
}

Hash128 structure_of(const ir::ScalarProgram& program) {
  Hasher h;
  h.number(program.inputs);
  for (const ir::ScalarInstr& i : program.code) {
    h.number(static_cast<int>(i.op));
    h.number(static_cast<int>(i.dtype));
    for (int32_t a : i.args) h.number(a);
  }
  return h.finish();
}

int64_t constant_bits(const ir::ScalarInstr& constant) {
  return is_float(constant.dtype) ? std::bit_cast<int64_t>(constant.real) : constant.integer;
}

std::vector<ir::ScalarProgram> common_programs() {
  std::set<Hash128> seen;
  std::vector<ir::ScalarProgram> programs;
  for (const ops::OpDef* op : ops::table()) {
    if (!std::holds_alternative<ops::Elementwise>(op->meaning)) continue;
    for (DType dtype : kCommon) add(*op, dtype, seen, programs);
  }
  for (ir::ScalarProgram& program : std::array{exp_shift_program(), exp_affine_program(), shift_twice_program()}) {
    if (seen.insert(structure_of(program)).second) programs.push_back(std::move(program));
  }
  return programs;
}

ir::ScalarProgram exp_shift_program() {
  ir::ScalarBuilder b;
  const ir::Scalar x = b.input(DType::F32), shift = b.input(DType::F32);
  return b.finish(ir::apply_op(ir::ScalarOp::Exp, std::array{x - shift}), DType::F32);
}

ir::ScalarProgram exp_affine_program() {
  // Four different numbers: equal ones would be one constant.
  ir::ScalarBuilder b;
  const ir::Scalar x = b.input(DType::F32);
  const ir::Scalar e = ir::apply_op(ir::ScalarOp::Exp, std::array{(x - 2.0) - 3.0});
  return b.finish(e * 4.0 + 5.0, DType::F32);
}

ir::ScalarProgram shift_twice_program() {
  ir::ScalarBuilder b;
  return b.finish((b.input(DType::F32) - 2.0) - 3.0, DType::F32);
}

std::vector<uint32_t> built_layouts(const ir::ScalarProgram& program) {
  const uint32_t all = (1U << program.inputs) - 1;
  std::vector<uint32_t> layouts;
  for (uint32_t layout = 1; layout <= all; ++layout) {
    // Of three operands at most one stays where it is.
    if (program.inputs == 3 && std::popcount(layout) < 2) continue;
    layouts.push_back(layout);
  }
  return layouts;
}

BuiltProgram find_built(const ir::ScalarProgram& program, int level) {
  BuiltProgram built;
  if (program.inputs > kMostBuiltInputs) return built;
  for (const ir::ScalarInstr& i : program.code) {
    if (i.op == ir::ScalarOp::Const) built.constants.push_back(constant_bits(i));
  }
  if (built.constants.size() > kMostBuiltConstants) return built;
  const Hash128 key = structure_of(program);
  const auto rows = built_kernels();
  auto row = std::ranges::lower_bound(rows, key, {}, &BuiltRow::program);
  for (; row != rows.end() && row->program == key; ++row) built.by_layout[row->layout] = row->levels[level - 2];
  return built;
}

}  // namespace tenon::cpu
