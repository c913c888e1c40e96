# Flags that every target of the project shares.
#  - No contraction of a*b+c and no fast-math: the same program gives the same bits everywhere.
#  - Warnings are errors in the project's own builds.
find_program(TENON_CCACHE ccache)
if(TENON_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness is what ccache asks for before it keeps results that used a precompiled header (cmake/rooms.cmake).
  # A result is known by the bytes of all files it was made from ("depend"). ccache's other way, the preprocessor's
  # output, leaves comments out; but g++ knows the headers in a precompiled one by their bytes, and where a comment
  # differs it reads them a second time ("redefinition of ...").
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_DEPEND=1
      "${TENON_CCACHE}")
endif()
find_program(TENON_MOLD mold)
if(TENON_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# Kernels ask for -O3 themselves (tenon/device); elsewhere it only makes builds slower.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

add_library(tenon_flags INTERFACE)
target_compile_options(tenon_flags INTERFACE -Wall -Wextra -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # A false alarm in std::string's operator+ (https://gcc.gnu.org/PR105651).
  target_compile_options(tenon_flags INTERFACE -Wno-restrict)
  # A false alarm where a temporary vector is moved (https://gcc.gnu.org/PR104475 and its relatives).
  target_compile_options(tenon_flags INTERFACE -Wno-free-nonheap-object)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # libstdc++ 12's own std::stable_sort uses what it declares deprecated, and clang blames the caller.
  # A loop that a sanitizer build does not vectorise is no mistake.
  target_compile_options(tenon_flags INTERFACE -Wno-deprecated-declarations -Wno-pass-failed)
endif()
if(TENON_WERROR)
  target_compile_options(tenon_flags INTERFACE -Werror)
endif()
if(TENON_SANITIZE)
  add_compile_options(-fsanitize=${TENON_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TENON_SANITIZE})
  if(TENON_SANITIZE MATCHES "undefined" AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # Before a call it reads the type that stands in front of a function; nothing stands there in code made at run time.
    add_compile_options(-fno-sanitize=function)
  endif()
endif()
