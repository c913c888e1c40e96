#include "tenon/serve/grpc_tls.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpcpp/security/server_credentials.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <mutex>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/serve/request.h"

namespace tenon::serve {
namespace {

constexpr auto kBetweenLooks = std::chrono::seconds(1);

struct Pem {
  std::string certificate, key, client_ca;
  bool operator==(const Pem&) const = default;
};

bool fits(const Pem& pem) {
  const auto reader = [](const std::string& text) {
    return std::unique_ptr<BIO, decltype(&BIO_free)>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())),
                                                     BIO_free);
  };
  const auto certificate_text = reader(pem.certificate), key_text = reader(pem.key);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(certificate_text.get(), nullptr, nullptr, nullptr), X509_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(key_text.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  return certificate && key && X509_check_private_key(certificate.get(), key.get()) == 1;
}

// Throws FileError.
Pem read(const TlsFiles& files) {
  Pem pem{read_text_file(files.certificate), read_text_file(files.key), {}};
  if (!files.client_ca.empty()) pem.client_ca = read_text_file(files.client_ca);
  if (!fits(pem)) throw FileError({files.certificate, "the certificate or its key cannot be used", {}, {}, {}});
  return pem;
}

class Reloading final : public grpc::ServerCredentials {
 public:
  explicit Reloading(TlsFiles files) : files_(std::move(files)) {
    (void)read(files_);  // what is wrong now is said now
    auto* options = grpc_ssl_server_credentials_create_options_using_config_fetcher(
        files_.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                 : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY,
        [](void* self, grpc_ssl_server_certificate_config** config) {
          return static_cast<Reloading*>(self)->look(config);
        },
        this);
    credentials_ = grpc_ssl_server_credentials_create_with_options(options);
  }
  ~Reloading() override { grpc_server_credentials_release(credentials_); }
  Reloading(const Reloading&) = delete;
  Reloading& operator=(const Reloading&) = delete;

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    throw InternalError("metadata is looked at by the services");
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // On gRPC's threads, at each handshake.
  grpc_ssl_certificate_config_reload_status look(grpc_ssl_server_certificate_config** config) {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (given_ && now - looked_ < kBetweenLooks) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    looked_ = now;
    try {
      Pem pem = read(files_);
      if (given_ == pem) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
      const grpc_ssl_pem_key_cert_pair pair{pem.key.c_str(), pem.certificate.c_str()};
      // gRPC wants roots even where no client's certificate is asked for; then they mean nothing.
      const std::string& roots = pem.client_ca.empty() ? pem.certificate : pem.client_ca;
      *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
      given_ = std::move(pem);
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
    } catch (const FileError&) {  // half written, most likely: the next look sees the rest
      return given_ ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
    }
  }

  TlsFiles files_;
  grpc_server_credentials* credentials_ = nullptr;
  std::mutex mutex_;
  std::optional<Pem> given_;
  Clock::time_point looked_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> reloading_credentials(const TlsFiles& files) {
  return std::make_shared<Reloading>(files);
}

}  // namespace tenon::serve
