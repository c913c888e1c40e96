#include "tenon/compile/llvm/jit.h"

#include <fmt/format.h>
#include <llvm/Config/llvm-config.h>
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Support/MemoryBuffer.h>
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
#include <utility>

#include "tenon/base/error.h"
#include "tenon/compile/interpret.h"
#include "tenon/compile/llvm/emit.h"

namespace tenon::compiler {
namespace {

struct TargetRow {
  const char *triple = nullptr, *cpu = nullptr, *features = nullptr;
  EmitOptions emit;
};
TargetRow row_of(ObjectTarget target) {
  constexpr const char* kLinux = "x86_64-unknown-linux-gnu";
  switch (target) {
    case ObjectTarget::X86_64_V2:
      return {kLinux, "x86-64-v2", "", {.lanes = 4, .together = 4}};
    case ObjectTarget::X86_64_V3:
      return {kLinux, "x86-64-v3", "+prfchw", {.lanes = 8, .masked_bits = 32, .together = 4, .fma = true}};
    case ObjectTarget::X86_64_V4:
      return {kLinux,
              "x86-64-v4",
              "+prfchw",
              {.lanes = 16, .wide = true, .masked_bits = 8, .together = 4, .scale_by_power = true, .fma = true}};
    case ObjectTarget::Aarch64Linux:
      return {"aarch64-unknown-linux-gnu", "generic", "", {.lanes = 4, .fma = true}};
    case ObjectTarget::Wasm32:
      return {"wasm32-unknown-unknown", "generic", "+simd128", {.lanes = 4}};
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
    // Loop strength reduction takes a quarter of the time of code generation, and makes loops whose addresses are one
    // register and one index no faster. LLVM has this switch only as an option of its command line.
    auto& options = llvm::cl::getRegisteredOptions();
    if (const auto found = options.find("disable-lsr"); found != options.end())
      static_cast<llvm::cl::opt<bool>*>(found->second)->setValue(true);
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

constexpr std::string_view kLoopPrefix = "tenon.loop.";

// Removes a kernel that calls loops of the device, and says whether it did.
bool drop_if_it_calls(llvm::Module& module, llvm::StringRef name) {
  std::vector<llvm::Function*> loops;
  for (auto& f : module) {
    if (f.isDeclaration() && f.getName().starts_with(kLoopPrefix)) loops.push_back(&f);
  }
  if (loops.empty()) return false;
  module.getFunction(name)->eraseFromParent();
  for (auto* f : loops) f->eraseFromParent();
  return true;
}

// `present`, if given, gets whether each kernel is there: those that call anything are left out.
std::vector<std::byte> object_of(std::span<const Kernel> kernels, const TargetRow& row, llvm::TargetMachine& machine,
                                 bool verify, std::string* text, std::vector<bool>* present = nullptr) {
  llvm::LLVMContext context;
  llvm::Module module("tenon", context);
  module.setTargetTriple(row.triple);
  module.setDataLayout(machine.createDataLayout());
  for (const Kernel& kernel : kernels) {
    emit(module, kernel, row.emit);
    if (present) present->push_back(!drop_if_it_calls(module, kernel.name));
  }
  std::string problem;
  llvm::raw_string_ostream problems(problem);
  if (verify && llvm::verifyModule(module, &problems)) throw InternalError("LLVM rejects a kernel: " + problem);
  optimize(module, machine);
  if (text) {
    llvm::raw_string_ostream stream(*text);
    module.print(stream, nullptr);
  }
  llvm::SmallVector<char, 0> object;
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager codegen;
  if (machine.addPassesToEmitFile(codegen, stream, nullptr, llvm::CodeGenFileType::ObjectFile, !verify))
    throw InternalError("LLVM cannot write object files for this target");
  codegen.run(module);
  const auto* bytes = reinterpret_cast<const std::byte*>(object.data());
  return {bytes, bytes + object.size()};
}

// The loop behind a name that symbol_of made; null if it is none.
cpu::LoopFn loop_named(const cpu::LevelTable& level, std::string_view symbol) {
  if (!symbol.starts_with(kLoopPrefix)) return nullptr;
  int numbers[3] = {};
  const char *at = symbol.data() + kLoopPrefix.size(), *end = symbol.data() + symbol.size();
  for (int& number : numbers) {
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc()) return nullptr;
    at = next == end ? end : next + 1;
  }
  const auto is_dtype = [](int t) { return t >= 0 && static_cast<size_t>(t) < all_dtypes().size(); };
  if (numbers[0] < 0 || numbers[0] >= static_cast<int>(ir::kScalarOpCount) || !is_dtype(numbers[1]) ||
      !is_dtype(numbers[2]))
    return nullptr;
  return loop_of(level, static_cast<ir::ScalarOp>(numbers[0]), static_cast<DType>(numbers[1]),
                 static_cast<DType>(numbers[2]));
}

[[noreturn]] void fail(const char* what, llvm::Error error) {
  throw InternalError(fmt::format("{}: {}", what, llvm::toString(std::move(error))));
}

// All that code may call, and nothing else of the process: the device's loops, and what code generation itself uses.
class Callable final : public llvm::orc::DefinitionGenerator {
 public:
  explicit Callable(const cpu::LevelTable& level) : level_(level) {}
  llvm::Error tryToGenerate(llvm::orc::LookupState& /*state*/, llvm::orc::LookupKind /*kind*/,
                            llvm::orc::JITDylib& library, llvm::orc::JITDylibLookupFlags /*flags*/,
                            const llvm::orc::SymbolLookupSet& wanted) override {
    llvm::orc::SymbolMap found;
    for (const auto& [name, unused] : wanted) {
      if (void* address = address_of(*name)) {
        found[name] = {llvm::orc::ExecutorAddr::fromPtr(address),
                       llvm::JITSymbolFlags::Exported | llvm::JITSymbolFlags::Callable};
      }
    }
    return found.empty() ? llvm::Error::success() : library.define(llvm::orc::absoluteSymbols(std::move(found)));
  }

 private:
  void* address_of(llvm::StringRef name) const {
    if (name == "memcpy") return reinterpret_cast<void*>(&std::memcpy);
    if (name == "memset") return reinterpret_cast<void*>(&std::memset);
    if (name == "memmove") return reinterpret_cast<void*>(&std::memmove);
    return reinterpret_cast<void*>(loop_named(level_, {name.data(), name.size()}));
  }
  const cpu::LevelTable& level_;
};

}  // namespace

struct Jit::State {
  TargetRow row;
  std::string reported;  // by parts of the JIT that return no error; before `jit`, which may report while it ends
  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::mutex mutex;                                            // of what is above and below
  std::vector<std::unique_ptr<llvm::TargetMachine>> machines;  // idle; each is one thread's at a time
};

Jit::Jit(int level, bool streams) {
  if (level < 2 || level > 4) throw InternalError("no such CPU level");
#if !defined(__x86_64__)
  throw UnsupportedError({"compile", "code in this process is made for x86-64 only so far", {}, {}, {}});
#endif
  constexpr ObjectTarget kTargets[] = {ObjectTarget::X86_64_V2, ObjectTarget::X86_64_V3, ObjectTarget::X86_64_V4};
  state_ = std::make_unique<State>();
  state_->row = row_of(kTargets[level - 2]);
  state_->row.emit.streams = streams;
  initialize_targets();
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit) fail("the JIT does not start", jit.takeError());
  state_->jit = std::move(*jit);
  // The default prints.
  state_->jit->getExecutionSession().setErrorReporter([state = state_.get()](llvm::Error error) {
    const std::lock_guard lock(state->mutex);
    state->reported += llvm::toString(std::move(error)) + "; ";
  });
  state_->jit->getMainJITDylib().addGenerator(std::make_unique<Callable>(cpu::level_table(level)));
}
Jit::~Jit() = default;

std::string Jit::target() const {
  const TargetRow& row = state_->row;
  return fmt::format("{} {} {}{} LLVM {}", row.triple, row.cpu, row.features, row.emit.streams ? " streams" : "",
                     LLVM_VERSION_STRING);
}

KernelObject Jit::object_of(const Kernel& kernel, bool verify) const {
  std::unique_ptr<llvm::TargetMachine> machine;
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->machines.empty()) {
      machine = std::move(state_->machines.back());
      state_->machines.pop_back();
    }
  }
  if (!machine) machine = machine_for(state_->row);
  KernelObject object{kernel.name, compiler::object_of(std::span(&kernel, 1), state_->row, *machine, verify, nullptr)};
  const std::lock_guard lock(state_->mutex);
  state_->machines.push_back(std::move(machine));
  return object;
}

std::vector<KernelFunction> Jit::link(std::span<const KernelObject> objects) {
  if (objects.empty()) return {};
  auto& jit = *state_->jit;
  llvm::orc::SymbolLookupSet wanted;
  std::vector<llvm::orc::SymbolStringPtr> names;
  for (const KernelObject& object : objects) {
    const auto* bytes = reinterpret_cast<const char*>(object.bytes.data());
    auto copy = llvm::MemoryBuffer::getMemBufferCopy({bytes, object.bytes.size()}, object.symbol);
    if (auto error = jit.addObjectFile(std::move(copy))) fail("adding code", std::move(error));
    names.push_back(jit.mangleAndIntern(object.symbol));
    wanted.add(names.back());
  }
  // All at once: one by one each would be linked alone.
  auto found = jit.getExecutionSession().lookup(llvm::orc::makeJITDylibSearchOrder(&jit.getMainJITDylib()), wanted);
  if (!found) {
    const std::lock_guard lock(state_->mutex);
    throw InternalError("linking code: " + std::exchange(state_->reported, {}) + llvm::toString(found.takeError()));
  }
  std::vector<KernelFunction> functions;
  for (const auto& name : names) functions.push_back((*found)[name].getAddress().toPtr<KernelFunction>());
  return functions;
}

std::vector<KernelFunction> Jit::compile(std::span<const Kernel> kernels) {
  std::vector<KernelObject> objects;
  for (const Kernel& kernel : kernels) objects.push_back(object_of(kernel, true));
  return link(objects);
}

StandaloneObject emit_standalone(std::span<const Kernel> kernels, ObjectTarget target) {
  const TargetRow row = row_of(target);
  const auto machine = machine_for(row);
  StandaloneObject object;
  object.bytes = object_of(kernels, row, *machine, false, nullptr, &object.present);
  return object;
}

std::vector<std::byte> emit_object(std::span<const Kernel> kernels, ObjectTarget target, std::string* llvm_text) {
  const TargetRow row = row_of(target);
  const auto machine = machine_for(row);
  return object_of(kernels, row, *machine, true, llvm_text);
}

}  // namespace tenon::compiler
