#include "tenon/device/cpu/cpu_device.h"

#include "tenon/device/cpu/claims.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/elementwise.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/reduce.h"

namespace tenon {
namespace {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuOptions& options)
      : level_(cpu::level_table(cpu::best_level(options.max_level))), claims_(cpu::cpu_claims()) {}

  [[nodiscard]] std::string_view name() const override { return "cpu"; }
  void elementwise(const ir::ScalarProgram& program, std::span<const ConstView> in, const View& out,
                   ThreadPool& pool) override {
    cpu::elementwise(level_, program, in, out, pool);
  }
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
  const cpu::LevelTable& level_;
  std::span<const Claim> claims_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(const CpuOptions& options) { return std::make_unique<CpuDevice>(options); }

}  // namespace tenon
