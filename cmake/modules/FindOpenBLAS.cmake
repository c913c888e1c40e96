# OpenBLAS as the target OpenBLAS::OpenBLAS; the serial build first, because Tenon has its own threads.
find_library(OpenBLAS_LIBRARY NAMES openblas PATH_SUFFIXES openblas-serial)
find_path(OpenBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas-serial)
mark_as_advanced(OpenBLAS_LIBRARY OpenBLAS_INCLUDE_DIR)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenBLAS REQUIRED_VARS OpenBLAS_LIBRARY OpenBLAS_INCLUDE_DIR)
if(OpenBLAS_FOUND AND NOT TARGET OpenBLAS::OpenBLAS)
  add_library(OpenBLAS::OpenBLAS UNKNOWN IMPORTED)
  set_target_properties(OpenBLAS::OpenBLAS PROPERTIES
    IMPORTED_LOCATION "${OpenBLAS_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${OpenBLAS_INCLUDE_DIR}")
endif()
