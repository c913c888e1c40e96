# libbacktrace, which GCC brings: file and line of a place in the program, for anomaly detection's messages.
# Optional: without it the target is empty and messages name functions only.
find_program(TENON_GCC NAMES gcc g++)
mark_as_advanced(TENON_GCC)
set(Libbacktrace_LIBRARY "")
if(TENON_GCC)
  execute_process(COMMAND "${TENON_GCC}" -print-file-name=libbacktrace.a OUTPUT_VARIABLE Libbacktrace_LIBRARY
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
set(Libbacktrace_FOUND TRUE)
if(NOT TARGET Libbacktrace::Libbacktrace)
  add_library(Libbacktrace::Libbacktrace INTERFACE IMPORTED)
  if(IS_ABSOLUTE "${Libbacktrace_LIBRARY}")
    target_link_libraries(Libbacktrace::Libbacktrace INTERFACE "${Libbacktrace_LIBRARY}")
    target_compile_definitions(Libbacktrace::Libbacktrace INTERFACE TENON_HAS_LIBBACKTRACE)
  endif()
endif()
