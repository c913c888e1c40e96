# `cmake --install` as a package for find_package(Tenon): library, headers, command and CMake files.
# tests/install builds an outside project with it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/Tenon")
# Before 1.0 every minor version may change the interface.
set_target_properties(tenon PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
install(TARGETS tenon EXPORT TenonTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/tenon" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")
# The compiler is a component of its own: who does not ask for it needs no LLVM.
if(TARGET tenon_compile)
  set_target_properties(tenon_compile PROPERTIES EXPORT_NAME compile)
  target_include_directories(tenon_compile INTERFACE $<INSTALL_INTERFACE:include>)
  install(TARGETS tenon_compile EXPORT TenonCompileTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  install(EXPORT TenonCompileTargets NAMESPACE Tenon:: DESTINATION "${package_dir}")
  install(FILES "${PROJECT_SOURCE_DIR}/cmake/llvm.cmake" DESTINATION "${package_dir}")
endif()
get_property(programs GLOBAL PROPERTY TENON_PROGRAMS)
if(programs)
  set_target_properties(${programs} PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS ${programs} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()

# What an operator needs: the pages, and the files that run the server, the unit where systemd looks.
set(pages "${CMAKE_INSTALL_DATADIR}/doc/tenon")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/docs/" DESTINATION "${pages}" COMPONENT documentation)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/deploy" DESTINATION "${pages}" COMPONENT documentation)
install(FILES "${PROJECT_SOURCE_DIR}/deploy/tenon.service" DESTINATION lib/systemd/system COMPONENT documentation)

install(EXPORT TenonTargets NAMESPACE Tenon:: DESTINATION "${package_dir}")
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/TenonConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/package/TenonConfig.cmake" INSTALL_DESTINATION "${package_dir}"
  NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/TenonConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/package/TenonConfig.cmake"
  "${PROJECT_BINARY_DIR}/package/TenonConfigVersion.cmake" "${PROJECT_SOURCE_DIR}/cmake/dependencies.cmake"
  DESTINATION "${package_dir}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/cmake/modules" DESTINATION "${package_dir}")
