#include "tenon/serve/grpc_client.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "tenon/base/file.h"

namespace tenon::serve {
namespace {

// One less is open when the last member of a call is gone, so that no call outlives the client that waits for it.
struct Open {
  std::atomic<int64_t>& count;
  explicit Open(std::atomic<int64_t>& c) : count(c) { count.fetch_add(1); }
  ~Open() { count.fetch_sub(1); }
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;
};

struct Call {
  Open open;  // the first member goes last
  explicit Call(std::atomic<int64_t>& count) : open(count) {}
  grpc::ClientContext context;
  grpc::ByteBuffer request, response;
  GrpcClient::Done done;
};

std::shared_ptr<grpc::ChannelCredentials> credentials_of(const ServerTrust& trust) {
  if (!trust.anyone) {
    grpc::SslCredentialsOptions options;
    if (!trust.ca.empty()) options.pem_root_certs = read_text_file(trust.ca);
    return grpc::SslCredentials(options);
  }
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_verify_server_certs(false);
  options.set_check_call_host(false);
  options.set_certificate_verifier(std::make_shared<grpc::experimental::NoOpCertificateVerifier>());
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace

std::string text_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string out;
  if (buffer.Valid() && buffer.Dump(&slices).ok()) {
    for (const auto& slice : slices) out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return out;
}

struct GrpcClient::State {
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs;
  std::atomic<size_t> next{0};
  std::atomic<int64_t> open{0};
};

GrpcClient::GrpcClient(const std::string& address, int connections, const std::optional<ServerTrust>& tls)
    : state_(std::make_unique<State>()) {
  const auto credentials = tls ? credentials_of(*tls) : grpc::InsecureChannelCredentials();
  for (int i = 0; i < std::max(1, connections); ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("tenon.connection", i);  // another argument, another connection
    arguments.SetMaxReceiveMessageSize(-1);
    state_->stubs.push_back(
        std::make_unique<grpc::GenericStub>(grpc::CreateCustomChannel(address, credentials, arguments)));
  }
}

GrpcClient::~GrpcClient() {
  while (state_->open.load() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void GrpcClient::call(const std::string& method, const std::string& message, std::chrono::milliseconds timeout,
                      Done done, const CancelPtr& cancel) {
  auto call = std::make_shared<Call>(state_->open);
  const grpc::Slice slice(message);
  call->request = grpc::ByteBuffer(&slice, 1);
  call->context.set_deadline(std::chrono::system_clock::now() + timeout);
  call->done = std::move(done);
  if (cancel) {
    cancel->on_request([weak = std::weak_ptr(call)] {
      if (const auto c = weak.lock()) c->context.TryCancel();
    });
  }
  auto& stub = *state_->stubs[state_->next.fetch_add(1) % state_->stubs.size()];
  stub.UnaryCall(&call->context, method, grpc::StubOptions(), &call->request, &call->response,
                 [call](const grpc::Status& status) {
                   call->done({static_cast<Code>(status.error_code()), status.error_message(), 0},
                              status.ok() ? text_of(call->response) : std::string());
                 });
}

std::string GrpcClient::call(const std::string& method, const std::string& message, std::chrono::milliseconds timeout) {
  auto promise = std::make_shared<std::promise<std::pair<Status, std::string>>>();
  call(method, message, timeout,
       [promise](Status status, std::string answer) { promise->set_value({std::move(status), std::move(answer)}); });
  auto [status, answer] = promise->get_future().get();
  if (!status.ok()) throw RequestError(status.code, status.message);
  return answer;
}

}  // namespace tenon::serve
