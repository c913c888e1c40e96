# LLVM 19 is the compiler's, and optional: without it everything but tenon_compile is built. Statically linked, because
# the shared library costs every process 50 ms and 54 MB.
find_package(LLVM 19.1 CONFIG QUIET PATHS /usr/lib/llvm-19)
if(LLVM_FOUND AND LLVM_VERSION_MAJOR EQUAL 19)
  llvm_map_components_to_libnames(TENON_LLVM orcjit passes x86codegen x86desc x86info aarch64codegen aarch64desc
    aarch64info webassemblycodegen webassemblydesc webassemblyinfo)
endif()
