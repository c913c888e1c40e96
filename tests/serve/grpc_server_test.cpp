// The gRPC front end alone, with methods written here, against gRPC's own C++ client and against peers that misbehave.
#include "tenon/serve/grpc_server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <set>

#include "tenon/serve/config.h"
#include "tenon/serve/grpc_client.h"
#include "tenon/serve/grpc_protocol.h"
#include "tests/serve/grpc_steps.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using serve::text_of;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

std::string text_of(const std::vector<std::span<const std::byte>>& pieces) {
  std::string out;
  for (const auto& piece : pieces) out.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  return out;
}

// Methods: Echo; Metadata (the value of the key in the message); Fail (with the message as text); Hold (answers when
// the test says so); Chat (a stream of echoes; "error" is answered with an error in a message).
class GrpcServerTest : public testing::Test {
 protected:
  void start(GrpcServerOptions options = {}, AdmissionLimits limits = {}) {
    options.max_threads = 2;
    admission_ = std::make_unique<Admission>(limits, metrics_);
    server_ = std::make_unique<GrpcServer>(
        options, methods(),
        std::vector<GrpcServer::Address>{{.host = "127.0.0.1", .port = 0}, {.host = "unix", .path = socket_path()}},
        *admission_, metrics_);
    connect("127.0.0.1:" + std::to_string(port()));
  }
  void TearDown() override {
    for (const auto& [call, answer] : held()) answer({Code::Cancelled, "the test is over", 0}, {});
    {
      const std::lock_guard lock(mutex_);
      held_.clear();
    }
    stub_.reset();
    server_.reset();
  }
  static std::string socket_path() { return std::string(tenon::testing_support::temp_folder()) + "/grpc.sock"; }
  [[nodiscard]] uint16_t port() const { return static_cast<uint16_t>(server_->ports()[0]); }
  void connect(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt("grpc.use_local_subchannel_pool", 1);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }
  RpcMethods methods() {
    const auto chunks = [](std::string text) { return std::vector<Chunk>{Chunk::of(std::move(text))}; };
    RpcMethods out(5);
    out[0] = {.path = "/test.T/Echo", .call = [=](const RpcCallPtr& call, const RpcAnswer& answer) {
                answer({}, chunks(text_of(call->pieces)));
              }};
    out[1] = {.path = "/test.T/Metadata", .call = [=](const RpcCallPtr& call, const RpcAnswer& answer) {
                answer({}, chunks(std::string(call->value(text_of(call->pieces)))));
              }};
    out[2] = {.path = "/test.T/Fail", .call = [](const RpcCallPtr& call, const RpcAnswer&) {
                throw RequestError(Code::Unavailable, text_of(call->pieces), 3);
              }};
    out[3] = {.path = "/test.T/Hold", .call = [this](const RpcCallPtr& call, const RpcAnswer& answer) {
                const std::lock_guard lock(mutex_);
                held_.emplace_back(call, answer);
              }};
    out[4] = {.path = "/test.T/Chat", .call = [this, chunks](const RpcCallPtr& call, const RpcAnswer& answer) {
                const std::string text = text_of(call->pieces);
                if (text == "error") throw RequestError(Code::NotFound, "not here");
                if (!text.starts_with("late")) return answer({}, chunks(text));
                const std::lock_guard lock(mutex_);
                held_.emplace_back(call, answer);
              }};
    out[4].stream = true;
    out[4].error_message = [=](const Status& status) { return chunks("error: " + status.message); };
    return out;
  }
  std::vector<std::pair<RpcCallPtr, RpcAnswer>> held() {
    const std::lock_guard lock(mutex_);
    return held_;
  }

  struct Result {
    grpc::Status status;
    std::string text;
  };
  Result call(const std::string& method, const std::string& message, grpc::ClientContext& context) {
    const grpc::Slice slice(message);
    grpc::ByteBuffer request(&slice, 1), response;
    std::promise<grpc::Status> done;
    stub_->UnaryCall(&context, "/test.T/" + method, grpc::StubOptions(), &request, &response,
                     [&done](const grpc::Status& status) { done.set_value(status); });
    const grpc::Status status = done.get_future().get();
    return {status, text_of(response)};
  }
  Result call(const std::string& method, const std::string& message) {
    grpc::ClientContext context;
    return call(method, message, context);
  }
  std::future<Result> call_later(const std::string& method, grpc::ClientContext& context) {
    return std::async(std::launch::async, [this, method, &context] { return call(method, "x", context); });
  }

  Metrics metrics_;
  std::unique_ptr<Admission> admission_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<grpc::GenericStub> stub_;
  std::mutex mutex_;
  std::vector<std::pair<RpcCallPtr, RpcAnswer>> held_;
};

TEST_F(GrpcServerTest, MessagesOfAllSizesComeBack) {
  start();
  for (const size_t size : {0, 1, 4091, 16384, 70000, 5000000}) {
    std::string message(size, '\0');
    for (size_t i = 0; i < size; ++i) message[i] = static_cast<char>(i * 7 + i / 251);
    const Result result = call("Echo", message);
    ASSERT_TRUE(result.status.ok()) << result.status.error_message();
    EXPECT_TRUE(result.text == message) << size;
  }
  connect("unix:" + socket_path());
  EXPECT_EQ(call("Echo", "by a socket").text, "by a socket");
}

TEST_F(GrpcServerTest, CompressedMessagesAreRead) {
  start();
  for (const auto algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ClientContext context;
    context.set_compression_algorithm(algorithm);
    const std::string message(100000, 'a');
    const Result result = call("Echo", message, context);
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
    EXPECT_TRUE(result.text == message);
  }
  // What is small as it comes may be large when it is unpacked.
  server_.reset();
  start({}, {.body = 50000});
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  EXPECT_EQ(call("Echo", std::string(100000, 'a'), context).status.error_code(), grpc::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcServerTest, MetadataComesAndTraceparentGoes) {
  start();
  grpc::ClientContext context;
  const std::string binary("\x00\xff,\x01", 4);
  context.AddMetadata("x-user", "ada");
  context.AddMetadata("x-raw-bin", binary);
  context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  EXPECT_EQ(call("Metadata", "x-raw-bin", context).text, binary);
  const auto found = context.GetServerInitialMetadata().find("traceparent");
  ASSERT_NE(found, context.GetServerInitialMetadata().end());
  EXPECT_EQ(std::string(found->second.data(), 35), "00-4bf92f3577b34da6a3ce929d0e0e4736");
  grpc::ClientContext other;
  other.AddMetadata("x-user", "ada");
  EXPECT_EQ(call("Metadata", "x-user", other).text, "ada");
  EXPECT_EQ(call("Metadata", "grpc-timeout").text, "") << "the protocol's own are no metadata";
}

TEST_F(GrpcServerTest, StatusesCarryAnyText) {
  start();
  grpc::ClientContext context;
  const Result result = call("Fail", "Größe 100 %\nzweite Zeile", context);
  EXPECT_EQ(result.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(result.status.error_message(), "Größe 100 %\nzweite Zeile");
  const auto pushback = context.GetServerTrailingMetadata().find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, context.GetServerTrailingMetadata().end());
  EXPECT_EQ(std::string(pushback->second.data(), pushback->second.size()), "3000");
  EXPECT_EQ(call("Fail", std::string(5000, 'x')).status.error_message().size(), 1024U);
  EXPECT_EQ(call("Nothing", "").status.error_code(), grpc::UNIMPLEMENTED);
}

TEST_F(GrpcServerTest, DeadlinesAndCancellationReachTheMethod) {
  start();
  grpc::ClientContext impatient;
  impatient.set_deadline(std::chrono::system_clock::now() + milliseconds(300));
  const auto before = Clock::now();
  EXPECT_EQ(call("Hold", "x", impatient).status.error_code(), grpc::DEADLINE_EXCEEDED);
  ASSERT_EQ(held().size(), 1U);
  EXPECT_GT(held()[0].first->deadline, before);
  EXPECT_LT(held()[0].first->deadline, before + seconds(300));
  EXPECT_TRUE(eventually([&] { return held()[0].first->cancel->requested(); })) << "the client left";

  grpc::ClientContext patient;
  auto result = call_later("Hold", patient);
  ASSERT_TRUE(eventually([&] { return held().size() == 2; }));
  EXPECT_EQ(held()[1].first->deadline, kNever);
  EXPECT_FALSE(held()[1].first->cancel->requested());
  patient.TryCancel();
  EXPECT_EQ(result.get().status.error_code(), grpc::CANCELLED);
  EXPECT_TRUE(eventually([&] { return held()[1].first->cancel->requested(); }));
  held()[1].second({}, {});  // an answer that nobody waits for
  EXPECT_EQ(call("Echo", "still there").text, "still there");
}

TEST_F(GrpcServerTest, WhoComesInIsDecidedByLength) {
  start({}, {.requests = 2, .bytes = 10000, .body = 8000});
  const Result large = call("Echo", std::string(8001, 'x'));
  EXPECT_EQ(large.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(large.status.error_message(), "Received message larger than max (8001 vs. 8000)");
  grpc::ClientContext one, two;
  auto first = call_later("Hold", one), second = call_later("Hold", two);
  ASSERT_TRUE(eventually([&] { return held().size() == 2; }));
  EXPECT_EQ(call("Echo", "x").status.error_code(), grpc::UNAVAILABLE);
  for (const auto& [call, answer] : held()) answer({}, {});
  EXPECT_TRUE(first.get().status.ok());
  EXPECT_TRUE(second.get().status.ok());
  {
    const std::lock_guard lock(mutex_);
    held_.clear();  // calls hold their places
  }
  EXPECT_TRUE(eventually([&] { return admission_->requests() == 0; }));
  EXPECT_TRUE(call("Echo", "x").status.ok());
}

TEST_F(GrpcServerTest, AStreamsAnswersKeepTheOrderOfTheirQuestions) {
  start();
  GrpcSteps step;
  grpc::ClientContext context;
  const auto stream = stub_->PrepareCall(&context, "/test.T/Chat", &step.queue);
  ASSERT_TRUE(step([&] { stream->StartCall(nullptr); }));
  for (const std::string text : {"one", "late", "error", "four"}) {
    const grpc::Slice slice(text);
    const grpc::ByteBuffer message(&slice, 1);
    ASSERT_TRUE(step([&] { stream->Write(message, nullptr); }));
  }
  ASSERT_TRUE(step([&] { stream->WritesDone(nullptr); }));
  grpc::ByteBuffer answer;
  ASSERT_TRUE(step([&] { stream->Read(&answer, nullptr); }));
  EXPECT_EQ(text_of(answer), "one");
  ASSERT_TRUE(eventually([&] { return held().size() == 1; }));
  std::thread([&] { held()[0].second({}, {Chunk::of("two")}); }).join();
  for (const std::string expected : {"two", "error: not here", "four"}) {
    ASSERT_TRUE(step([&] { stream->Read(&answer, nullptr); }));
    EXPECT_EQ(text_of(answer), expected);
  }
  EXPECT_FALSE(step([&] { stream->Read(&answer, nullptr); }));
  grpc::Status status;
  ASSERT_TRUE(step([&] { stream->Finish(&status, nullptr); }));
  EXPECT_TRUE(status.ok()) << status.error_message();
  step.queue.Shutdown();
}

TEST_F(GrpcServerTest, ShutdownAnswersWhatIsUnderWayAndTakesNothingNew) {
  start();
  grpc::ClientContext context;
  auto result = call_later("Hold", context);
  ASSERT_TRUE(eventually([&] { return held().size() == 1; }));
  auto ended = std::async(std::launch::async, [&] { server_->shutdown(seconds(60)); });
  EXPECT_TRUE(eventually([&] {  // new connections are refused
    return !HttpClient(port()).connected();
  }));
  EXPECT_EQ(ended.wait_for(milliseconds(0)), std::future_status::timeout);
  held()[0].second({}, {Chunk::of("the last")});
  const Result last = result.get();
  EXPECT_TRUE(last.status.ok()) << last.status.error_message();
  EXPECT_EQ(last.text, "the last");
  ended.get();
  EXPECT_EQ(call("Echo", "too late").status.error_code(), grpc::UNAVAILABLE);
  EXPECT_NE(::access(socket_path().c_str(), F_OK), 0) << "the socket's file goes too";
}

// A client keeps its stream for the next question, so the server must end it; not while an answer is owed.
TEST_F(GrpcServerTest, ShutdownEndsStreamsOnWhichNothingIsUnderWay) {
  start();
  GrpcSteps step;
  grpc::ClientContext contexts[2];
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> streams[2];
  grpc::ByteBuffer answer;
  const auto say = [&](size_t i, const std::string& text) {
    const grpc::Slice slice(text);
    const grpc::ByteBuffer message(&slice, 1);
    return step([&] { streams[i]->Write(message, nullptr); });
  };
  for (size_t i = 0; i < 2; ++i) {
    streams[i] = stub_->PrepareCall(&contexts[i], "/test.T/Chat", &step.queue);
    ASSERT_TRUE(step([&] { streams[i]->StartCall(nullptr); }));
    ASSERT_TRUE(say(i, "one"));
    ASSERT_TRUE(step([&] { streams[i]->Read(&answer, nullptr); }));
  }
  ASSERT_TRUE(say(1, "late"));
  ASSERT_TRUE(eventually([&] { return held().size() == 1; }));
  auto ended = std::async(std::launch::async, [&] { server_->shutdown(seconds(60)); });
  const auto ends = [&](size_t i) {
    EXPECT_FALSE(step([&] { streams[i]->Read(&answer, nullptr); }));
    grpc::Status status;
    EXPECT_TRUE(step([&] { streams[i]->Finish(&status, nullptr); }));
    EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
    EXPECT_EQ(status.error_message(), "the server is stopping") << "not: its connection was cut";
  };
  ends(0);
  held()[0].second({}, {Chunk::of("two")});
  ASSERT_TRUE(step([&] { streams[1]->Read(&answer, nullptr); }));
  EXPECT_EQ(text_of(answer), "two");
  ends(1);
  ended.get();
  step.queue.Shutdown();
}

TEST_F(GrpcServerTest, ShutdownEndsWhatTakesTooLong) {
  start();
  grpc::ClientContext context;
  auto result = call_later("Hold", context);
  ASSERT_TRUE(eventually([&] { return held().size() == 1; }));
  server_->shutdown(milliseconds(1));
  EXPECT_FALSE(result.get().status.ok());
  EXPECT_TRUE(eventually([&] { return held()[0].first->cancel->requested(); }));
}

TEST_F(GrpcServerTest, NoCallIsLostWhenConnectionsGrowOld) {
  GrpcServerOptions options;
  options.channel_arguments = {{"grpc.max_connection_age_ms", "1"}};  // each look at the connections ends them all
  start(options);
  std::set<std::string> failures;
  const auto until = Clock::now() + seconds(2);
  size_t calls = 0;
  for (; Clock::now() < until; ++calls) {
    const Result result = call("Echo", "x");
    if (!result.status.ok()) failures.insert(result.status.error_message());
  }
  EXPECT_THAT(failures, testing::IsEmpty()) << calls;
  EXPECT_GT(calls, 0U);
}

// What a client of HTTP/2 says first: the preface and empty settings.
const std::string kHello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string("\0\0\0\4\0\0\0\0\0", 9);

TEST_F(GrpcServerTest, PeersThatMisbehaveAreCutOff) {
  GrpcServerOptions options;
  options.channel_arguments = {{"grpc.keepalive_time_ms", "300"}, {"grpc.keepalive_timeout_ms", "2000"}};
  start(options);
  HttpClient other(port());
  other.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
  EXPECT_TRUE(other.closed()) << "another protocol";
  HttpClient broken(port());
  broken.send(kHello + std::string("\0\0\1\7\0\0\0\0\0x", 10));
  EXPECT_TRUE(broken.closed()) << "a GOAWAY of one byte";
  HttpClient deaf(port());
  deaf.send(kHello);
  EXPECT_TRUE(deaf.closed(seconds(20))) << "never answers a ping";
  EXPECT_EQ(call("Echo", "the others do not notice").text, "the others do not notice");
  EXPECT_TRUE(eventually([&] { return metrics_.text().find("\ntenon_grpc_connections 1\n") != std::string::npos; }));
}

// TensorFlow Serving's ssl_config_file: PEM text in the file, and clients that must show who they are.
TEST_F(GrpcServerTest, TlsAsTensorFlowServingConfiguresIt) {
  if (output_of("command -v openssl").empty()) GTEST_SKIP() << "openssl is needed to make a certificate";
  const std::string folder = fresh_folder("grpc_tls"), key = folder + "/key.pem", certificate = folder + "/cert.pem";
  output_of(
      "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
      "-keyout " +
      key + " -out " + certificate);
  const auto escaped = [](const std::string& file) {  // a text of protobuf's text form has no line breaks
    std::string text = output_of("cat " + file);
    for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) text.replace(at, 1, "\\n");
    return text;
  };
  const std::string key_text = output_of("cat " + key), certificate_text = output_of("cat " + certificate);
  const TlsFiles tls = parse_ssl_config("server_key: '" + escaped(key) + "' server_cert: '" + escaped(certificate) +
                                            "' custom_ca: '" + escaped(certificate) + "' client_verify: true",
                                        "ssl.config");
  admission_ = std::make_unique<Admission>(AdmissionLimits{}, metrics_);
  server_ = std::make_unique<GrpcServer>(
      GrpcServerOptions{}, methods(),
      std::vector<GrpcServer::Address>{{.host = "127.0.0.1", .port = 0, .path = {}, .tls = tls}}, *admission_,
      metrics_);
  const auto with = [&](const grpc::SslCredentialsOptions& options) {
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateChannel("localhost:" + std::to_string(port()), grpc::SslCredentials(options)));
  };
  with({certificate_text, key_text, certificate_text});
  const std::string large(1000000, 'x');
  const Result result = call("Echo", large);
  EXPECT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_TRUE(result.text == large);
  with({certificate_text, "", ""});
  EXPECT_EQ(call("Echo", "who?").status.error_code(), grpc::UNAVAILABLE);
  connect("127.0.0.1:" + std::to_string(port()));
  EXPECT_EQ(call("Echo", "in the clear").status.error_code(), grpc::UNAVAILABLE);
}

TEST_F(GrpcServerTest, OtherHttpIsAnsweredAsHttp) {
  start();
  if (output_of("curl --version").find("HTTP2") == std::string::npos) GTEST_SKIP() << "curl with HTTP/2 is needed";
  const std::string curl =
      "curl -s -o /dev/null -w '%{http_code}' --http2-prior-knowledge http://127.0.0.1:" + std::to_string(port()) +
      "/test.T/Echo ";
  EXPECT_EQ(output_of(curl + "-d x"), "415");
  EXPECT_EQ(output_of(curl), "405");
}

TEST(GrpcProtocol, TimeoutsAndTexts) {
  EXPECT_EQ(read_grpc_timeout("250m"), milliseconds(250));
  EXPECT_EQ(read_grpc_timeout("99999999S"), seconds(99999999));
  EXPECT_EQ(read_grpc_timeout("2u"), std::chrono::microseconds(2));
  EXPECT_EQ(read_grpc_timeout("3n"), std::chrono::nanoseconds(3));
  EXPECT_EQ(read_grpc_timeout("4M"), std::chrono::minutes(4));
  EXPECT_GT(read_grpc_timeout("99999999H"), std::chrono::hours(24 * 365));
  for (const std::string wrong : {"", "5", "m", "-1m", "123456789S", "1 S", "1s", "S1"})
    EXPECT_FALSE(read_grpc_timeout(wrong)) << wrong;
  EXPECT_EQ(percent_encoded("a%b\xc3\xa4\n", 100), "a%25b%C3%A4%0A");
  EXPECT_EQ(percent_encoded("ab\xc3\xa4", 3), "ab") << "no half characters";
}

}  // namespace
}  // namespace tenon::serve
