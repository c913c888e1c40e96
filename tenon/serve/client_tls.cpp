#include "tenon/serve/client_tls.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "tenon/base/error.h"

namespace tenon::serve {
namespace {

[[noreturn]] void failed(const std::string& where, std::string why, std::string hint = {}) {
  throw FileError({where, "TLS: " + std::move(why), {}, {}, std::move(hint)});
}
std::string reason() {
  const unsigned long code = ::ERR_get_error();
  const char* text = code == 0 ? nullptr : ::ERR_reason_error_string(code);
  ::ERR_clear_error();
  return text ? text : "the connection broke";
}

int send_quietly(BIO* bio, const char* bytes, int count) {
  int descriptor = -1;
  ::BIO_get_fd(bio, &descriptor);
  ::BIO_clear_retry_flags(bio);
  return static_cast<int>(::send(descriptor, bytes, static_cast<size_t>(count), MSG_NOSIGNAL));
}

// OpenSSL's socket, but that writing to a connection which the server has closed is an error and not a signal.
const BIO_METHOD* quiet_socket() {
  static const BIO_METHOD* const method = [] {
    const BIO_METHOD* const socket = ::BIO_s_socket();
    BIO_METHOD* out = ::BIO_meth_new(BIO_TYPE_SOCKET, "socket without a signal");
    ::BIO_meth_set_write(out, send_quietly);
    ::BIO_meth_set_read(out, ::BIO_meth_get_read(socket));
    ::BIO_meth_set_ctrl(out, ::BIO_meth_get_ctrl(socket));
    ::BIO_meth_set_create(out, ::BIO_meth_get_create(socket));
    ::BIO_meth_set_destroy(out, ::BIO_meth_get_destroy(socket));
    return out;
  }();
  return method;
}

bool is_address(const std::string& host) {
  in6_addr any{};
  return ::inet_pton(AF_INET, host.c_str(), &any) == 1 || ::inet_pton(AF_INET6, host.c_str(), &any) == 1;
}

}  // namespace

ClientTls::ClientTls(const ServerTrust& trust)
    : context_(::SSL_CTX_new(::TLS_client_method()), ::SSL_CTX_free), anyone_(trust.anyone) {
  if (!context_) failed("TLS", reason());
  ::SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
  ::SSL_CTX_set_options(context_.get(), SSL_OP_IGNORE_UNEXPECTED_EOF);
  if (anyone_) return;
  ::SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
  if (trust.ca.empty())
    ::SSL_CTX_set_default_verify_paths(context_.get());
  else if (::SSL_CTX_load_verify_locations(context_.get(), trust.ca.c_str(), nullptr) != 1)
    failed(trust.ca, "no certificates are here: " + reason(), "a file of certificates as PEM");
}

ClientTls::Session ClientTls::connect(int descriptor, const std::string& host) const {
  Session session(::SSL_new(context_.get()), ::SSL_free);
  BIO* bio = ::BIO_new(quiet_socket());
  if (!session || !bio) failed(host, reason());
  ::BIO_set_fd(bio, descriptor, BIO_NOCLOSE);
  ::SSL_set_bio(session.get(), bio, bio);
  if (!is_address(host)) ::SSL_set_tlsext_host_name(session.get(), host.c_str());
  if (!anyone_) {
    const int set = is_address(host) ? ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(session.get()), host.c_str())
                                     : ::SSL_set1_host(session.get(), host.c_str());
    if (set != 1) failed(host, "not a name that a certificate could be for");
  }
  if (::SSL_connect(session.get()) == 1) return session;
  const long verified = ::SSL_get_verify_result(session.get());
  if (!anyone_ && verified != X509_V_OK)
    failed(host, std::string("the certificate is not believed: ") + ::X509_verify_cert_error_string(verified),
           "--ca FILE, or --insecure");
  failed(host, reason());
}

}  // namespace tenon::serve
