// Stage one of the build: machine code for eager elementwise calls (tenon/device/cpu/built.h says what and why).
//
//   make_kernels FOLDER
//
// Writes FOLDER/kernels_v2.o, kernels_v3.o, kernels_v4.o and their index FOLDER/kernels.cpp, which become a part of
// libtenon. When the
// kernels and the code generator are those of the last time, nothing is written and nothing is linked anew.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <future>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/compile/eager_kernel.h"
#include "tenon/compile/kernel_store.h"
#include "tenon/compile/llvm/jit.h"
#include "tenon/device/cpu/built.h"

namespace {

using namespace tenon;

struct Entry {
  Hash128 program;
  uint32_t layout;
  compiler::Kernel kernel;
};

std::vector<Entry> entries() {
  std::vector<Entry> list;
  for (const ir::ScalarProgram& program : cpu::common_programs()) {
    for (uint32_t layout : cpu::built_layouts(program)) {
      Entry e{cpu::structure_of(program), layout, compiler::eager_kernel(program, layout)};
      e.kernel.name = fmt::format("tenon_{}_{}", to_string(e.program), layout);
      list.push_back(std::move(e));
    }
  }
  std::ranges::sort(list, {}, [](const Entry& e) { return std::pair(e.program, e.layout); });
  return list;
}

struct Level {
  int number;
  compiler::ObjectTarget target;
};
constexpr Level kLevels[] = {{2, compiler::ObjectTarget::X86_64_V2},
                             {3, compiler::ObjectTarget::X86_64_V3},
                             {4, compiler::ObjectTarget::X86_64_V4}};

// Symbols of the levels are told apart by an ending.
compiler::StandaloneObject object_for(const std::vector<Entry>& list, const Level& level) {
  std::vector<compiler::Kernel> kernels;
  for (const Entry& e : list) {
    kernels.push_back(e.kernel);
    kernels.back().name += fmt::format("_v{}", level.number);
  }
  return compiler::emit_standalone(kernels, level.target);
}

std::string index_of(const std::vector<Entry>& list, const std::vector<compiler::StandaloneObject>& objects) {
  std::string declarations, rows;
  for (size_t i = 0; i < list.size(); ++i) {
    const Entry& e = list[i];
    std::string levels;
    bool any = false;
    for (size_t l = 0; l < objects.size(); ++l) {
      const std::string name = fmt::format("{}_v{}", e.kernel.name, kLevels[l].number);
      any = any || objects[l].present[i];
      levels += objects[l].present[i] ? name + ", " : "nullptr, ";
      if (objects[l].present[i])
        declarations += fmt::format("void {}(std::byte* const*, const int64_t*, int64_t, int64_t);\n", name);
    }
    if (any)
      rows +=
          fmt::format("    {{{{{:#x}ULL, {:#x}ULL}}, {}, {{{}}}}},\n", e.program.low, e.program.high, e.layout, levels);
  }
  return fmt::format(
      "// Made by tools/make_kernels.cpp.\n#include \"tenon/device/cpu/built.h\"\n\nextern \"C\" {{\n{}}}\n\n"
      "namespace tenon::cpu {{\nstd::span<const BuiltRow> built_kernels() {{\n  static const BuiltRow kRows[] = {{\n{} "
      " }};\n"
      "  return kRows;\n}}\n}}  // namespace tenon::cpu\n",
      declarations, rows);
}

void make(const std::filesystem::path& folder) {
  const std::vector<Entry> list = entries();
  std::string texts;
  for (const Entry& e : list) texts += compiler::to_text(e.kernel);
  const std::string stamp = to_string(compiler::KernelStore::key_of(texts));
  const auto path = [&](const std::string& name) { return (folder / name).string(); };
  std::filesystem::create_directories(folder);
  bool there = std::filesystem::exists(path("kernels.cpp")) && std::filesystem::exists(path("stamp")) &&
               read_text_file(path("stamp")) == stamp;
  for (const Level& level : kLevels)
    there = there && std::filesystem::exists(path(fmt::format("kernels_v{}.o", level.number)));
  if (there) return;
  std::vector<std::future<compiler::StandaloneObject>> waiting;
  for (const Level& level : kLevels)
    waiting.push_back(std::async(std::launch::async, [&list, level] { return object_for(list, level); }));
  std::vector<compiler::StandaloneObject> objects;
  for (auto& w : waiting) objects.push_back(w.get());
  for (size_t l = 0; l < objects.size(); ++l)
    write_file_atomic(path(fmt::format("kernels_v{}.o", kLevels[l].number)), objects[l].bytes);
  const std::string index = index_of(list, objects);
  write_file_atomic(path("kernels.cpp"), index);
  write_file_atomic(path("stamp"), stamp);
  size_t present = 0;
  for (size_t i = 0; i < list.size(); ++i) present += objects[2].present[i] ? 1 : 0;
  fmt::print("{} eager kernels for each of 3 CPU levels\n", present);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: make_kernels FOLDER\n");
    return 2;
  }
  try {
    make(argv[1]);
  } catch (const std::exception& e) {
    fmt::print(stderr, "make_kernels: {}\n", e.what());
    return 1;
  }
  return 0;
}
