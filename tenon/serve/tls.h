// The TLS context of a listener: from PEM files, made again when they change.
//
// New connections get the newest context that could be made; files that are missing, damaged or do not fit each other
// leave the last good one in force.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace boost::asio::ssl {
class context;  // NOLINT(readability-identifier-naming): Asio's
}

namespace tenon::serve {

// PEM files, read again when they change; or PEM text itself (from "-----BEGIN").
struct TlsFiles {
  std::string certificate;  // the chain
  std::string key;
  std::string client_ca{};  // if given, clients must show a certificate of it
};

class TlsContext {
 public:
  using Context = boost::asio::ssl::context;
  // `protocol`: what ALPN agrees on if the client offers it ("h2"); "" for none. Errors: FileError if the files cannot
  // be used now.
  explicit TlsContext(TlsFiles files, const std::string& protocol = {});
  // Of a new connection; hold it as long as the connection lives.
  [[nodiscard]] std::shared_ptr<Context> current() const;
  // Looks at the files. Call it now and then.
  void reload();

 private:
  [[nodiscard]] std::shared_ptr<Context> make() const;
  [[nodiscard]] int64_t stamp() const;
  TlsFiles files_;
  std::string protocol_;  // in ALPN's form: its length, then its name
  mutable std::mutex mutex_;
  std::shared_ptr<Context> context_;
  int64_t stamp_ = 0;
};

}  // namespace tenon::serve
