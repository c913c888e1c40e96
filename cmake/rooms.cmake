# A room is one folder below tenon/ and one object library. Its DEPENDS list is the list of rooms
# that it may include from; tools/check_rooms.py compares the includes with it.
#
#   tenon_room(NAME [DEPENDS room...] [LIBRARIES outside-target...] [PROGRAM name] [SEPARATE] [TRAINING source...])
#
# Sources are every .cpp directly in the folder and in its sub-folders. Every room is a part of libtenon, except one
# with PROGRAM: that is an executable of that name, linked with libtenon and installed beside it. All of it but
# main.cpp is the library tenon_NAME_parts, so that tests reach it. A SEPARATE room is the library tenon_NAME beside
# libtenon: who does not ask for it does not carry what it links. A program links such a room, and the parts of another
# program, if it depends on it. Rooms in TENON_ABSENT_ROOMS cannot be built here; who depends on one does without.
#
# The program that trains waits for less than the whole library: it is linked with tenon_training, the rooms that take
# part in training, and of a room with TRAINING these sources only (tenon/CMakeLists.txt).

# What nearly every source of a room reads, parsed once. Only with g++; the builds with clang go without, so that a source
# that forgets an include is found there.
option(TENON_PRECOMPILED_HEADERS "Parse the common headers of a room once (g++ only)" ON)
set(standard_headers <algorithm> <cmath> <functional> <map> <memory> <optional> <span> <string> <string_view> <variant>
  <vector>)
#   tenon_precompile(TARGET [header...])  or  tenon_precompile(TARGET FROM other-target)
function(tenon_precompile target)
  cmake_parse_arguments(HEADERS "" "FROM" "" ${ARGN})
  if(TENON_PRECOMPILED_HEADERS AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT TENON_SANITIZE)
    if(HEADERS_FROM)
      target_precompile_headers(${target} REUSE_FROM ${HEADERS_FROM})
    else()
      target_precompile_headers(${target} PRIVATE ${standard_headers} <fmt/format.h> ${HEADERS_UNPARSED_ARGUMENTS})
    endif()
    target_compile_options(${target} PRIVATE -fpch-preprocess)  # for ccache
    if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
      # False alarms in std::string's insides, which are no system header's any more when they come precompiled. What they
      # look for is found by the builds with clang and by asan.
      target_compile_options(${target} PRIVATE -Wno-array-bounds -Wno-stringop-overflow)
    endif()
  endif()
endfunction()

set_property(GLOBAL PROPERTY TENON_ROOMS "")
set_property(GLOBAL PROPERTY TENON_LIBRARIES "")
set_property(GLOBAL PROPERTY TENON_PROGRAMS "")
set_property(GLOBAL PROPERTY TENON_SEPARATE "")
function(tenon_room name)
  cmake_parse_arguments(ROOM "SEPARATE" "PROGRAM" "DEPENDS;LIBRARIES;TRAINING" ${ARGN})
  if(ROOM_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "room ${name}: unknown arguments: ${ROOM_UNPARSED_ARGUMENTS}")
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp")
  if(NOT sources)  # headers only
    add_library(tenon_${name} INTERFACE)
  elseif(ROOM_SEPARATE)
    # Objects first: stage one of the build links the compiler's before libtenon is there.
    add_library(tenon_${name}_objects OBJECT ${sources})
    target_include_directories(tenon_${name}_objects PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
    target_link_libraries(tenon_${name}_objects PRIVATE tenon_flags ${ROOM_LIBRARIES})
    add_library(tenon_${name} STATIC $<TARGET_OBJECTS:tenon_${name}_objects>)
    target_link_libraries(tenon_${name} PUBLIC tenon)
    set_property(GLOBAL APPEND PROPERTY TENON_SEPARATE ${name})
  elseif(ROOM_PROGRAM)
    list(REMOVE_ITEM sources "${CMAKE_CURRENT_SOURCE_DIR}/${name}/main.cpp")
    add_library(tenon_${name}_parts STATIC ${sources})
    target_include_directories(tenon_${name}_parts PUBLIC "${PROJECT_SOURCE_DIR}")
    target_link_libraries(tenon_${name}_parts PRIVATE tenon_flags ${ROOM_LIBRARIES})
    add_executable(tenon_${name} "${CMAKE_CURRENT_SOURCE_DIR}/${name}/main.cpp")
    set_target_properties(tenon_${name} PROPERTIES OUTPUT_NAME ${ROOM_PROGRAM})
    target_link_libraries(tenon_${name} PRIVATE tenon_${name}_parts)
    set_property(GLOBAL APPEND PROPERTY TENON_PROGRAMS tenon_${name})
    # Who links the parts links what they call; to be compiled they wait for nothing.
    set(library tenon)
    get_property(separate GLOBAL PROPERTY TENON_SEPARATE)
    foreach(room IN LISTS ROOM_DEPENDS)
      if(room IN_LIST separate)
        list(APPEND library tenon_${room})
      elseif(TARGET tenon_${room}_parts)
        list(PREPEND library tenon_${room}_parts)
      endif()
    endforeach()
    target_link_libraries(tenon_${name}_parts INTERFACE
      "$<IF:$<BOOL:$<TARGET_PROPERTY:TENON_TRAINS>>,tenon_training,${library}>")
  else()
    if(ROOM_TRAINING)
      list(TRANSFORM ROOM_TRAINING PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/${name}/")
      list(REMOVE_ITEM sources ${ROOM_TRAINING})
      add_library(tenon_${name}_training OBJECT ${ROOM_TRAINING})
      target_include_directories(tenon_${name}_training PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
      target_link_libraries(tenon_${name}_training PRIVATE $<BUILD_INTERFACE:tenon_flags> ${ROOM_LIBRARIES})
      set_property(GLOBAL APPEND PROPERTY TENON_ROOMS ${name}_training)
    endif()
    add_library(tenon_${name} OBJECT ${sources})
    target_include_directories(tenon_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
    set_property(GLOBAL APPEND PROPERTY TENON_ROOMS ${name})
    set_property(GLOBAL APPEND PROPERTY TENON_LIBRARIES ${ROOM_LIBRARIES})
  endif()
  if(sources)
    target_link_libraries(tenon_${name} PRIVATE $<BUILD_INTERFACE:tenon_flags> ${ROOM_LIBRARIES})
  endif()
  foreach(room IN LISTS ROOM_DEPENDS)
    if(NOT TARGET tenon_${room} AND NOT room IN_LIST TENON_ABSENT_ROOMS)
      message(FATAL_ERROR "room ${name} depends on ${room}, which is not above it")
    endif()
  endforeach()
endfunction()
