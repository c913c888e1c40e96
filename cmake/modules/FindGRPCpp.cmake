# gRPC for C++: GRPCpp::grpcpp. (The distribution's own configuration also asks for what only code generators need.)
include(FindPackageHandleStandardArgs)
find_path(GRPCpp_INCLUDE_DIR grpcpp/grpcpp.h)
find_library(GRPCpp_LIBRARY grpc++)
find_library(GRPCpp_CORE_LIBRARY grpc)
find_library(GRPCpp_PLATFORM_LIBRARY gpr)
# gRPC's headers call Abseil's mutex themselves.
find_library(GRPCpp_MUTEX_LIBRARY absl_synchronization)
mark_as_advanced(GRPCpp_MUTEX_LIBRARY GRPCpp_INCLUDE_DIR GRPCpp_LIBRARY GRPCpp_CORE_LIBRARY GRPCpp_PLATFORM_LIBRARY)
find_package_handle_standard_args(GRPCpp REQUIRED_VARS GRPCpp_LIBRARY GRPCpp_CORE_LIBRARY GRPCpp_PLATFORM_LIBRARY
  GRPCpp_MUTEX_LIBRARY GRPCpp_INCLUDE_DIR)
if(GRPCpp_FOUND AND NOT TARGET GRPCpp::grpcpp)
  add_library(GRPCpp::grpcpp UNKNOWN IMPORTED)
  set_target_properties(GRPCpp::grpcpp PROPERTIES IMPORTED_LOCATION "${GRPCpp_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${GRPCpp_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "${GRPCpp_CORE_LIBRARY};${GRPCpp_PLATFORM_LIBRARY};${GRPCpp_MUTEX_LIBRARY}")
endif()
