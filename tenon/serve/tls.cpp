#include "tenon/serve/tls.h"

#include <openssl/ssl.h>
#include <sys/stat.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"

namespace tenon::serve {
namespace {

namespace ssl = boost::asio::ssl;

// Takes our protocol if the client offers it; a client that offers only others is refused by its own wish.
int choose(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* offered,
           unsigned int offered_length, void* ours) {
  const auto& name = *static_cast<const std::string*>(ours);
  for (unsigned int at = 0; at < offered_length; at += 1U + offered[at]) {
    if (at + 1U + offered[at] > offered_length) break;
    if (std::string_view(reinterpret_cast<const char*>(offered + at), 1U + offered[at]) != name) continue;
    *out = offered + at + 1;
    *out_length = offered[at];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace

TlsContext::TlsContext(TlsFiles files, const std::string& protocol) : files_(std::move(files)) {
  if (!protocol.empty()) protocol_ = static_cast<char>(protocol.size()) + protocol;
  stamp_ = stamp();
  context_ = make();
}

std::shared_ptr<TlsContext::Context> TlsContext::current() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

void TlsContext::reload() {
  const int64_t now = stamp();
  if (now == stamp_) return;
  try {
    auto fresh = make();
    const std::lock_guard lock(mutex_);
    context_ = std::move(fresh);
    stamp_ = now;
  } catch (const FileError&) {  // NOLINT(bugprone-empty-catch): half written, most likely: the next look sees the rest
  }
}

std::shared_ptr<TlsContext::Context> TlsContext::make() const {
  try {
    auto context = std::make_shared<Context>(ssl::context::tls_server);
    context->set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                         ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1);
    const auto pem = [](const std::string& file) {
      return file.starts_with("-----BEGIN") ? file : read_text_file(file);
    };
    context->use_certificate_chain(boost::asio::buffer(pem(files_.certificate)));
    context->use_private_key(boost::asio::buffer(pem(files_.key)), ssl::context::pem);
    if (!files_.client_ca.empty()) {
      context->add_certificate_authority(boost::asio::buffer(pem(files_.client_ca)));
      context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
      static constexpr unsigned char kName[] = "tenon";  // without it such clients cannot resume a session
      SSL_CTX_set_session_id_context(context->native_handle(), kName, sizeof(kName) - 1);
    }
    if (!protocol_.empty())
      SSL_CTX_set_alpn_select_cb(context->native_handle(), choose, const_cast<std::string*>(&protocol_));
    return context;
  } catch (const boost::system::system_error& error) {
    const bool text = files_.certificate.starts_with("-----BEGIN");
    throw FileError({text ? "TLS" : files_.certificate,
                     "the certificate or its key cannot be used: " + error.code().message(),
                     {},
                     {},
                     {}});
  }
}

int64_t TlsContext::stamp() const {
  int64_t out = 0;
  for (const auto* path : {&files_.certificate, &files_.key, &files_.client_ca}) {
    struct stat s{};
    if (::stat(path->c_str(), &s) == 0) out += s.st_mtim.tv_sec * 1000000007 + s.st_mtim.tv_nsec + s.st_size;
  }
  return out;
}

}  // namespace tenon::serve
