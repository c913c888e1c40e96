# Every outside library, found once. Each is explained in docs/dependencies.md.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)            # text formatting (sources only)
find_package(nlohmann_json REQUIRED)  # JSON (sources only)
find_package(ZLIB REQUIRED)           # gzip and zip members
find_package(PNG REQUIRED)
find_package(JPEG REQUIRED)
# oneDNN: matmul and convolution. Not by find_package: its configuration asks for OpenCL headers that nothing here uses.
find_library(TENON_ONEDNN dnnl REQUIRED)
find_library(TENON_LAPACKE lapacke REQUIRED)
find_library(TENON_OPENBLAS NAMES openblas PATHS /usr/lib/x86_64-linux-gnu/openblas-serial NO_DEFAULT_PATH)
if(NOT TENON_OPENBLAS)
  find_library(TENON_OPENBLAS NAMES openblas REQUIRED)
endif()
