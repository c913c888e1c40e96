#include "tenon/trace/call_site.h"

#include <cxxabi.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string_view>

#ifdef TENON_HAS_LIBBACKTRACE
// The library's documented interface. Its header lies among GCC's own headers, where other compilers must not look.
extern "C" {
struct backtrace_state;
using backtrace_error_callback = void (*)(void* data, const char* message, int number);
using backtrace_full_callback = int (*)(void* data, std::uintptr_t pc, const char* file, int line,
                                        const char* function);
using backtrace_syminfo_callback = void (*)(void* data, std::uintptr_t pc, const char* name, std::uintptr_t value,
                                            std::uintptr_t size);
backtrace_state* backtrace_create_state(const char* program, int threaded, backtrace_error_callback on_error,
                                        void* data);
int backtrace_full(backtrace_state* state, int skip, backtrace_full_callback on_frame,
                   backtrace_error_callback on_error, void* data);
int backtrace_syminfo(backtrace_state* state, std::uintptr_t pc, backtrace_syminfo_callback on_symbol,
                      backtrace_error_callback on_error, void* data);
}
#endif

namespace tenon::trace {
#ifdef TENON_HAS_LIBBACKTRACE
namespace {

// The folders of Tenon's own sources. Compilers name files by absolute or by relative paths, so the end must tell.
constexpr std::array kOwnFolders{"tenon/base/", "tenon/tensor/",  "tenon/ir/",    "tenon/ops/",    "tenon/device/",
                                 "tenon/exec/", "tenon/trace/",   "tenon/nn/",    "tenon/optim/",  "tenon/models/",
                                 "tenon/data/", "tenon/formats/", "tenon/train/", "tenon/compile/"};

std::string demangled(const char* name) {
  if (!name) return {};
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free);
  return status == 0 && text ? text.get() : name;
}

// The function's own name is what stands before its parameters.
bool is_library_function(std::string_view name) {
  name = name.substr(0, name.find('('));
  return name.empty() || name.find("tenon::") != std::string_view::npos || name.find("std::") != std::string_view::npos;
}

bool is_library_file(std::string_view file) {
  const std::string normal = "/" + std::filesystem::path(file).lexically_normal().string();
  if (normal.starts_with("//usr/")) return true;
  return std::any_of(kOwnFolders.begin(), kOwnFolders.end(),
                     [&](const char* folder) { return normal.find(std::string("/") + folder) != std::string::npos; });
}

void ignore_error(void*, const char*, int) {}
void take_name(void* data, std::uintptr_t, const char* name, std::uintptr_t, std::uintptr_t) {
  if (name) *static_cast<std::string*>(data) = demangled(name);
}

backtrace_state* debug_information() {
  static backtrace_state* const state = backtrace_create_state(nullptr, 1, ignore_error, nullptr);
  return state;
}

std::string function_name(std::uintptr_t pc, const char* function) {
  std::string name = demangled(function);
  // Line tables alone carry no names or unqualified ones; the symbol table has the whole.
  if (name.find(':') == std::string::npos) backtrace_syminfo(debug_information(), pc, take_name, ignore_error, &name);
  return name;
}

// Ends the walk (by returning 1) at the first frame of the user's.
int look_at_frame(void* data, std::uintptr_t pc, const char* file, int line, const char* function) {
  auto& site = *static_cast<std::string*>(data);
  if (file && line > 0) {
    // Some compilers' line tables leave the folder out: then the function's name must tell.
    const bool bare = std::string_view(file).find('/') == std::string_view::npos;
    if (bare ? is_library_function(function_name(pc, function)) : is_library_file(file)) return 0;
    site = std::filesystem::path(file).filename().string() + ":" + std::to_string(line);
    return 1;
  }
  std::string name = function_name(pc, function);
  if (is_library_function(name)) return 0;
  site = std::move(name);
  return 1;
}

}  // namespace

std::string call_site() {
  std::string site;
  if (debug_information()) backtrace_full(debug_information(), 1, look_at_frame, ignore_error, &site);
  return site;
}
#else
std::string call_site() { return {}; }
#endif

}  // namespace tenon::trace
