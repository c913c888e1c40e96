// TLS as a client sees it: whose certificates it believes.
#pragma once

#include <memory>
#include <string>

// OpenSSL's types, by the names of its own headers.
struct ssl_st;      // NOLINT(readability-identifier-naming)
struct ssl_ctx_st;  // NOLINT(readability-identifier-naming)

namespace tenon::serve {

struct ServerTrust {
  std::string ca{};     // a PEM file of certificates to believe; "": the system's
  bool anyone = false;  // believe every certificate
};

// Makes the sessions of connections to one host. Errors: FileError if the CA file cannot be read, or TLS fails.
class ClientTls {
 public:
  explicit ClientTls(const ServerTrust& trust);
  using Session = std::unique_ptr<ssl_st, void (*)(ssl_st*)>;
  // The session on a connected, blocking socket, after its handshake. `host`: a name or address that the certificate
  // must be for.
  [[nodiscard]] Session connect(int descriptor, const std::string& host) const;

 private:
  std::shared_ptr<ssl_ctx_st> context_;
  bool anyone_;
};

}  // namespace tenon::serve
