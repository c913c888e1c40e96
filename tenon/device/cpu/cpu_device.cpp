#include "tenon/device/cpu/cpu_device.h"

#include "tenon/device/cpu/built.h"
#include "tenon/device/cpu/claims.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/elementwise.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/reduce.h"

namespace tenon {
namespace {

class CpuElementwise final : public ElementwiseKernel {
 public:
  CpuElementwise(const cpu::LevelTable& level, ir::ScalarProgram program, cpu::BuiltProgram built)
      : level_(level), program_(std::move(program)), built_(std::move(built)) {}
  void run(std::span<const ConstView> in, const View& out, ThreadPool& pool) const override {
    if (!run_built(built_, in, out, pool)) elementwise(level_, program_, in, out, pool);
  }
  bool run_flat(std::span<const std::byte* const> in, uint32_t along, std::byte* out, int64_t n) const override {
    return run_built_flat(built_, built_.constants, in, along, out, n);
  }

 private:
  const cpu::LevelTable& level_;
  ir::ScalarProgram program_;
  cpu::BuiltProgram built_;
};

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuOptions& options)
      : best_(cpu::best_level(options.max_level)),
        built_(options.built_kernels),
        level_(cpu::level_table(best_)),
        claims_(cpu::cpu_claims()) {}
  [[nodiscard]] std::unique_ptr<ElementwiseKernel> prepare(const ir::ScalarProgram& program) const override {
    return std::make_unique<CpuElementwise>(level_, program,
                                            built_ ? cpu::find_built(program, best_) : cpu::BuiltProgram{});
  }

  [[nodiscard]] std::string_view name() const override { return "cpu"; }
  void reduce(ops::ReduceKind kind, const ConstView& in, const Ints& axes, const View& out, ThreadPool& pool) override {
    cpu::reduce(level_, kind, in, axes, out, pool);
  }
  void copy(const ConstView& in, const View& out, ThreadPool& pool) override { cpu::copy(in, out, pool); }
  [[nodiscard]] const Claim* claim(const ops::OpDef& op, std::span<const TensorType> inputs,
                                   const ir::Attrs& attrs) const override {
    for (const Claim& row : claims_) {
      if (row.op == &op && (row.accepts == nullptr || row.accepts(inputs, attrs))) return &row;
    }
    return nullptr;
  }

 private:
  int best_;
  bool built_;
  const cpu::LevelTable& level_;
  std::span<const Claim> claims_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(const CpuOptions& options) { return std::make_unique<CpuDevice>(options); }

}  // namespace tenon
