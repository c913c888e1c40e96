# Every outside library: the one list. The project's own build finds each of them, and so does the installed package
# (cmake/TenonConfig.cmake.in), because a static libtenon leaves them to the final link.
# Each is explained in docs/dependencies.md; the modules in cmake/modules find those that bring no usable configuration.
set(TENON_DEPENDENCIES
  Threads
  fmt            # text formatting (sources only)
  nlohmann_json  # JSON (sources only)
  ZLIB           # gzip and zip members
  PNG
  JPEG
  LibZip         # NPZ archives
  OpenBLAS       # products in f64, LAPACK
  PCRE2          # regular expressions of tokenizers
  Utf8proc       # Unicode tables: normal forms, categories
  Libbacktrace   # file and line of the user's code in messages; comes with GCC, optional
)
# Only the server's (tenon/serve), a library of its own that the installed package does not offer.
set(TENON_SERVE_DEPENDENCIES
  Boost          # Beast and Asio: HTTP (headers)
  Nghttp2        # HTTP/2: the gRPC front end
  GRPCpp         # gRPC: the load generator's client
  OpenSSL        # TLS of HTTP
)

# The names that the rooms' LIBRARIES lists use for the last of them.
set(TENON_OPENBLAS OpenBLAS::OpenBLAS)
set(TENON_LIBZIP LibZip::LibZip)
set(TENON_PCRE2 PCRE2::PCRE2)
set(TENON_UTF8PROC Utf8proc::Utf8proc)
