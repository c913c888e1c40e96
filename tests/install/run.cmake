# The test install.find_package: install, configure the outside project, build it, run it. The build must be complete.
set(prefix "${SCRATCH}/prefix")
file(REMOVE_RECURSE "${prefix}" "${SCRATCH}/consumer-build")

set(flags "")
if(SANITIZE)
  set(flags "-fsanitize=${SANITIZE}")
endif()

execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${prefix}" COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
execute_process(COMMAND "${CMAKE_COMMAND}" -S "${CONSUMER}" -B "${SCRATCH}/consumer-build" -G "${GENERATOR}"
  "-DCMAKE_PREFIX_PATH=${prefix}" "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_BUILD_TYPE=${TYPE}"
  "-DCMAKE_CXX_FLAGS=${flags}" "-DTENON_EXPECTED_VERSION=${VERSION}" "-DTENON_WITH_COMPILER=${WITH_COMPILER}" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${SCRATCH}/consumer-build" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${SCRATCH}/consumer-build/consumer" COMMAND_ERROR_IS_FATAL ANY)
if(WITH_COMPILER)
  execute_process(COMMAND "${SCRATCH}/consumer-build/compiled" COMMAND_ERROR_IS_FATAL ANY)
endif()
# The unit lies where systemd looks, and the page that it names is there.
set(unit "${prefix}/lib/systemd/system/tenon.service")
file(STRINGS "${unit}" page REGEX "^Documentation=")
string(REPLACE "Documentation=file:/usr" "${prefix}" page "${page}")
foreach(file "${page}" "${prefix}/share/doc/tenon/deploy/kubernetes.yaml" "${prefix}/share/doc/tenon/console.png")
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "${file} is not installed")
  endif()
endforeach()
if(EXISTS "${prefix}/bin/tenon")
  execute_process(COMMAND "${prefix}/bin/tenon" --help COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
endif()
