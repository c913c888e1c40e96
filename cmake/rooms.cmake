# A room is one folder below tenon/ and one object library. Its DEPENDS list is the list of rooms
# that it may include from; tools/check_rooms.py compares the includes with it.
#
#   tenon_room(NAME [DEPENDS room...] [LIBRARIES outside-target...])
#
# Sources are every .cpp directly in the folder and in its sub-folders.
set_property(GLOBAL PROPERTY TENON_ROOMS "")
function(tenon_room name)
  cmake_parse_arguments(ROOM "" "" "DEPENDS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp")
  if(NOT sources)
    add_library(tenon_${name} INTERFACE)
    return()
  endif()
  add_library(tenon_${name} OBJECT ${sources})
  target_include_directories(tenon_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(tenon_${name} PRIVATE tenon_flags ${ROOM_LIBRARIES})
  foreach(room IN LISTS ROOM_DEPENDS)
    if(NOT TARGET tenon_${room})
      message(FATAL_ERROR "room ${name} depends on ${room}, which is not above it")
    endif()
  endforeach()
  set_property(TARGET tenon_${name} PROPERTY TENON_ROOM_DEPENDS "${ROOM_DEPENDS}")
  set_property(GLOBAL APPEND PROPERTY TENON_ROOMS ${name})
  set_property(GLOBAL APPEND PROPERTY TENON_LIBRARIES ${ROOM_LIBRARIES})
endfunction()
