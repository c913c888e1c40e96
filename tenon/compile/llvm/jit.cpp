#include "tenon/compile/llvm/jit.h"

#include <fmt/format.h>
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/SmallVectorMemoryBuffer.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/SROA.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>

#include <charconv>
#include <cstring>
#include <mutex>

#include "tenon/base/error.h"
#include "tenon/compile/interpret.h"
#include "tenon/compile/llvm/emit.h"

namespace tenon::compiler {
namespace {

struct TargetRow {
  const char *triple, *cpu, *features;
  EmitOptions emit;
};
TargetRow row_of(ObjectTarget target) {
  constexpr const char* kLinux = "x86_64-unknown-linux-gnu";
  switch (target) {
    case ObjectTarget::X86_64_V2:
      return {kLinux, "x86-64-v2", "", {4, false}};
    case ObjectTarget::X86_64_V3:
      return {kLinux, "x86-64-v3", "", {8, false}};
    case ObjectTarget::X86_64_V4:
      return {kLinux, "x86-64-v4", "", {16, true}};
    case ObjectTarget::Aarch64Linux:
      return {"aarch64-unknown-linux-gnu", "generic", "", {4, false}};
    case ObjectTarget::Wasm32:
      return {"wasm32-unknown-unknown", "generic", "+simd128", {4, false}};
  }
  throw InternalError("unknown target");
}

void initialize_targets() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
    LLVMInitializeWebAssemblyTargetInfo();
    LLVMInitializeWebAssemblyTarget();
    LLVMInitializeWebAssemblyTargetMC();
    LLVMInitializeWebAssemblyAsmPrinter();
  });
}

std::unique_ptr<llvm::TargetMachine> machine_for(const TargetRow& row) {
  initialize_targets();
  std::string error;
  const llvm::Target* target = llvm::TargetRegistry::lookupTarget(row.triple, error);
  if (!target)
    throw UnsupportedError({"compile", "this LLVM cannot make code for " + std::string(row.triple), {}, error, {}});
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;  // nothing is contracted
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      row.triple, row.cpu, row.features, options, llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Default));
}

// A short list: vectors, trees and unrolling are in the loop IR already.
void optimize(llvm::Module& module, llvm::TargetMachine& machine) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);
  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
  passes.addPass(llvm::EarlyCSEPass(true));
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), true));
  for (auto& function : module) {
    if (!function.isDeclaration()) passes.run(function, functions);
  }
}

llvm::SmallVector<char, 0> object_of(std::span<const Kernel> kernels, const TargetRow& row,
                                     llvm::TargetMachine& machine, std::set<std::string>& symbols, std::string* text) {
  llvm::LLVMContext context;
  llvm::Module module("tenon", context);
  module.setTargetTriple(row.triple);
  module.setDataLayout(machine.createDataLayout());
  for (const Kernel& kernel : kernels) emit(module, kernel, row.emit, symbols);
  std::string problem;
  llvm::raw_string_ostream problems(problem);
  if (llvm::verifyModule(module, &problems)) throw InternalError("LLVM rejects a kernel: " + problem);
  optimize(module, machine);
  if (text) {
    llvm::raw_string_ostream stream(*text);
    module.print(stream, nullptr);
  }
  llvm::SmallVector<char, 0> object;
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager codegen;
  if (machine.addPassesToEmitFile(codegen, stream, nullptr, llvm::CodeGenFileType::ObjectFile))
    throw InternalError("LLVM cannot write object files for this target");
  codegen.run(module);
  return object;
}

// The loop behind a name that symbol_of made.
cpu::LoopFn loop_named(const cpu::LevelTable& level, std::string_view symbol) {
  int numbers[3] = {};
  const char* at = symbol.data() + std::strlen("tenon.loop.");
  for (int& number : numbers) at = std::from_chars(at, symbol.data() + symbol.size(), number).ptr + 1;
  const cpu::LoopFn fn = loop_of(level, static_cast<ir::ScalarOp>(numbers[0]), static_cast<DType>(numbers[1]),
                                 static_cast<DType>(numbers[2]));
  if (fn == nullptr) throw InternalError("no loop for " + std::string(symbol));
  return fn;
}

[[noreturn]] void fail(const char* what, llvm::Error error) {
  throw InternalError(fmt::format("{}: {}", what, llvm::toString(std::move(error))));
}

}  // namespace

struct Jit::State {
  TargetRow row;
  const cpu::LevelTable& level;
  std::unique_ptr<llvm::TargetMachine> machine;
  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::set<std::string> defined;
  size_t bytes = 0;
};

Jit::Jit(int level) {
  if (level < 2 || level > 4) throw InternalError("no such CPU level");
#if !defined(__x86_64__)
  throw UnsupportedError({"compile", "code in this process is made for x86-64 only so far", {}, {}, {}});
#endif
  constexpr ObjectTarget kTargets[] = {ObjectTarget::X86_64_V2, ObjectTarget::X86_64_V3, ObjectTarget::X86_64_V4};
  const TargetRow row = row_of(kTargets[level - 2]);
  auto machine = machine_for(row);
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit) fail("the JIT does not start", jit.takeError());
  state_ = std::make_unique<State>(State{row, cpu::level_table(level), std::move(machine), std::move(*jit), {}, 0});
}
Jit::~Jit() = default;

size_t Jit::code_bytes() const { return state_->bytes; }

std::vector<KernelFunction> Jit::compile(std::span<const Kernel> kernels) {
  if (kernels.empty()) return {};
  std::set<std::string> symbols;
  auto object = object_of(kernels, state_->row, *state_->machine, symbols, nullptr);
  state_->bytes += object.size();
  auto& jit = *state_->jit;
  llvm::orc::SymbolMap absolute;
  const auto define = [&](const std::string& name, void* address) {
    if (!state_->defined.insert(name).second) return;
    absolute[jit.mangleAndIntern(name)] = {llvm::orc::ExecutorAddr::fromPtr(address),
                                           llvm::JITSymbolFlags::Exported | llvm::JITSymbolFlags::Callable};
  };
  for (const std::string& name : symbols) define(name, reinterpret_cast<void*>(loop_named(state_->level, name)));
  // What code generation itself may call.
  define("memcpy", reinterpret_cast<void*>(&std::memcpy));
  define("memset", reinterpret_cast<void*>(&std::memset));
  define("memmove", reinterpret_cast<void*>(&std::memmove));
  if (!absolute.empty()) {
    if (auto error = jit.getMainJITDylib().define(llvm::orc::absoluteSymbols(std::move(absolute))))
      fail("symbols", std::move(error));
  }
  if (auto error = jit.addObjectFile(std::make_unique<llvm::SmallVectorMemoryBuffer>(std::move(object), false)))
    fail("adding code", std::move(error));
  std::vector<KernelFunction> functions;
  for (const Kernel& kernel : kernels) {
    auto address = jit.lookup(kernel.name);
    if (!address) fail("linking code", address.takeError());
    functions.push_back(address->toPtr<KernelFunction>());
  }
  return functions;
}

std::vector<std::byte> emit_object(std::span<const Kernel> kernels, ObjectTarget target, std::string* llvm_text) {
  const TargetRow row = row_of(target);
  const auto machine = machine_for(row);
  std::set<std::string> symbols;
  const auto object = object_of(kernels, row, *machine, symbols, llvm_text);
  const auto* bytes = reinterpret_cast<const std::byte*>(object.data());
  return {bytes, bytes + object.size()};
}

}  // namespace tenon::compiler
