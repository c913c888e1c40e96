// The load generator and the replay of logs as clients of a server that speaks TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tenon/serve/loadtest.h"
#include "tenon/serve/replay.h"
#include "tests/serve/server_support.h"
#include "tests/serve/support.h"
#include "tests/support/error_text.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using tenon::testing_support::error_text;
using testing::HasSubstr;

TEST(ClientTls, LoadAndReplayBelieveWhomTheyAreToldTo) {
  if (output_of("command -v openssl").empty()) GTEST_SKIP() << "openssl is needed to make a certificate";
  const fs::path folder = fresh_folder("tls");
  // A certificate and its key for some names.
  const auto made_for = [&](const std::string& file, const std::string& names) {
    const std::string certificate = folder / (file + ".pem"), key = folder / (file + "-key.pem");
    output_of("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=" + file +
              " -addext subjectAltName=" + names + " -keyout " + key + " -out " + certificate);
    return TlsFiles{certificate, key, {}};
  };
  const TlsFiles files = made_for("here", "DNS:localhost,IP:127.0.0.1"), others = made_for("there", "DNS:elsewhere");
  const std::string& certificate = files.certificate;
  write_file(folder / "m" / "1" / "model.onnx", affine_onnx(0.5F, 2));
  ServerOptions options = quick_server();
  options.tls = files;
  Server server(options, {{.name = "m", .base_path = folder / "m"}});
  ASSERT_TRUE(server.core().repository().settle(seconds(20)));
  const auto& ports = server.ports();
  LoadOptions load{.url = {}, .rate = 200, .duration = milliseconds(200), .warm_up = milliseconds(0), .connections = 2};
  const auto answered = [&](const std::string& url, const ServerTrust& trust) {
    load.url = url;
    load.trust = trust;
    const LoadResult r = run_load(load);
    EXPECT_TRUE(r.errors.empty()) << url << " " << (r.errors.empty() ? "" : r.errors.begin()->first);
    return r.answered > 0;
  };
  const auto at = [](const std::string& host, uint16_t port) { return "://" + host + ":" + std::to_string(port); };
  for (const ServerTrust& trust : {ServerTrust{.ca = certificate}, ServerTrust{.anyone = true}}) {
    for (const std::string host : {"127.0.0.1", "localhost"}) {
      EXPECT_TRUE(answered("https" + at(host, ports.v2_rest) + "/v2/models/m", trust));
      EXPECT_TRUE(answered("https" + at(host, ports.tfs_rest) + "/v1/models/m", trust));
      EXPECT_TRUE(answered("grpcs" + at(host, ports.v2_grpc) + "/m", trust));
      EXPECT_TRUE(answered("grpcs" + at(host, ports.tfs_grpc) + "/tensorflow/m", trust));
    }
  }
  // The system's certificates do not vouch for this one; nor is another machine's name on it.
  const std::string url = "https" + at("127.0.0.1", ports.v2_rest) + "/v2/models/m";
  load.url = url;
  load.trust = {};
  EXPECT_THAT(error_text([&] { run_load(load); }),
              HasSubstr("the certificate is not believed: self-signed certificate"));
  options.tls = others;
  const Server elsewhere(options, {});
  load.url = "https" + at("127.0.0.1", elsewhere.ports().v2_rest) + "/v2/models/m";
  load.trust = {.ca = others.certificate};
  EXPECT_THAT(error_text([&] { run_load(load); }), HasSubstr("the certificate is not believed: IP address mismatch"));
  load.url = url;
  load.trust = {.ca = folder / "nowhere.pem"};
  EXPECT_THAT(error_text([&] { run_load(load); }), HasSubstr("nowhere.pem: TLS: no certificates are here"));
  load.url = "http" + at("127.0.0.1", ports.v2_rest) + "/v2/models/m";
  EXPECT_NE(error_text([&] { run_load(load); }), "no error") << "in the clear";

  const ReplayedRequest request{.model = "m",
                                .version = 1,
                                .inputs = {{"x", from_vector(std::vector<float>{1}, {1})}},
                                .outputs = {{"y", from_vector(std::vector<float>{2.5F}, {1})}},
                                .answered = true};
  EXPECT_EQ(run_replay({request, request}, {.url = url, .trust = {.ca = certificate}}).same, 2U);
  EXPECT_EQ(run_replay({request}, {.url = url}).errors.at("connection"), 1U);
  EXPECT_THAT(error_text([&] { run_replay({request}, {.url = url, .trust = {.ca = folder / "nowhere.pem"}}); }),
              HasSubstr("no certificates are here"));
}

}  // namespace
}  // namespace tenon::serve
