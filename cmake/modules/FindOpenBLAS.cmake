# OpenBLAS as the target OpenBLAS::OpenBLAS; its OpenMP build. That one is safe to call from many
# threads (the serial build is not: its calls share scratch memory without a lock), starts no threads of its own before it
# needs them, and stays on the calling thread when OpenMP is told so (tenon/device/cpu/one_thread.h).
find_library(OpenBLAS_LIBRARY NAMES openblas PATH_SUFFIXES openblas-openmp)
find_path(OpenBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas-openmp)
# The OpenMP runtime that it uses. By the name of the runtime library itself, because the link by the plain name comes
# with g++ and clang does not look there.
find_library(OpenBLAS_OPENMP_LIBRARY NAMES libgomp.so.1 gomp)
mark_as_advanced(OpenBLAS_LIBRARY OpenBLAS_INCLUDE_DIR OpenBLAS_OPENMP_LIBRARY)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenBLAS REQUIRED_VARS OpenBLAS_LIBRARY OpenBLAS_INCLUDE_DIR OpenBLAS_OPENMP_LIBRARY)
if(OpenBLAS_FOUND AND NOT TARGET OpenBLAS::OpenBLAS)
  add_library(OpenBLAS::OpenBLAS UNKNOWN IMPORTED)
  set_target_properties(OpenBLAS::OpenBLAS PROPERTIES
    IMPORTED_LOCATION "${OpenBLAS_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${OpenBLAS_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "${OpenBLAS_OPENMP_LIBRARY}")
endif()
