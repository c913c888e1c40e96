// tenon loadtest: requests at a steady rate, or those of a log, and how long they took.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tenon/base/file.h"
#include "tenon/cli/run.h"
#include "tenon/serve/loadtest.h"
#include "tenon/serve/replay.h"
#include "tenon/server/commands.h"

namespace tenon::server {

using namespace cli;
using std::chrono::milliseconds;

namespace {

serve::ServerTrust trust_of(const Arguments& a) {
  return {.ca = a.has("ca") ? a.get<std::string>("ca") : std::string(), .anyone = a.get<bool>("insecure")};
}

int replay(const Arguments& a, const Console& console) {
  serve::ReplayOptions o;
  o.url = a.positionals.at(0);
  if (a.was_given("rate")) o.rate = a.get<double>("rate");
  o.connections = a.was_given("connections") ? static_cast<int>(a.get<std::int64_t>("connections")) : 1;
  o.trust = trust_of(a);
  o.tolerance = {a.get<double>("relative-tolerance"), a.get<double>("absolute-tolerance")};
  const auto r = serve::run_replay(serve::read_request_log(a.get<std::string>("replay")), o);
  const auto ms = [&](double q) { return static_cast<double>(r.latency.quantile(q).count()) / 1e6; };
  std::string out = fmt::format(
      "{} requests in {:.1f} s: {} same, {} different, {} without an answer in the log, {} of other models left out\n",
      r.sent, r.seconds, r.same, r.different, r.uncompared, r.skipped);
  out += fmt::format("latency ms:  p50 {:.2f}  p90 {:.2f}  p99 {:.2f}\n", ms(0.5), ms(0.9), ms(0.99));
  for (const auto& text : r.differences) out += text + "\n";
  for (const auto& [code, count] : r.errors) out += fmt::format("error {}: {}\n", code, count);
  console.out(out);
  if (a.has("json")) {
    const nlohmann::ordered_json json{{"url", o.url},
                                      {"sent", r.sent},
                                      {"same", r.same},
                                      {"different", r.different},
                                      {"uncompared", r.uncompared},
                                      {"skipped", r.skipped},
                                      {"p50_ms", ms(0.5)},
                                      {"p99_ms", ms(0.99)},
                                      {"errors", r.errors}};
    write_file_atomic(a.get<std::string>("json"), json.dump(1) + "\n");
  }
  return r.different == 0 && r.errors.empty() && r.sent > 0 ? exit_done : exit_error;
}

}  // namespace

int loadtest_command(const Arguments& a, const Console& console) {
  if (a.has("replay")) return replay(a, console);
  serve::LoadOptions o;
  o.url = a.positionals.at(0);
  o.trust = trust_of(a);
  o.rate = a.get<double>("rate");
  o.duration = milliseconds(static_cast<std::int64_t>(a.get<double>("seconds") * 1e3));
  o.warm_up = milliseconds(static_cast<std::int64_t>(a.get<double>("warm-up") * 1e3));
  o.connections = static_cast<int>(a.get<std::int64_t>("connections"));
  o.rows = a.get<std::int64_t>("rows");
  o.extent = a.get<std::int64_t>("extent");
  o.json = a.has("json-tensors") && a.get<bool>("json-tensors");
  o.seed = static_cast<std::uint64_t>(a.get<std::int64_t>("seed"));
  const serve::LoadResult r = serve::run_load(o);
  const auto ms = [&](double q) { return static_cast<double>(r.latency.quantile(q).count()) / 1e6; };
  std::string out = fmt::format("{} requests in {:.1f} s at {:.0f}/s intended: {} answered ({:.1f}/s, {:.1f} rows/s)\n",
                                r.sent, r.seconds, o.rate, r.answered, static_cast<double>(r.answered) / r.seconds,
                                static_cast<double>(r.rows) / r.seconds);
  out += fmt::format(
      "latency ms, from the intended time:  mean {:.2f}  p50 {:.2f}  p90 {:.2f}  p99 {:.2f}  p99.9 {:.2f}\n",
      static_cast<double>(r.latency.mean().count()) / 1e6, ms(0.5), ms(0.9), ms(0.99), ms(0.999));
  for (const auto& [code, count] : r.errors) out += fmt::format("error {}: {}\n", code, count);
  console.out(out);
  if (a.has("json")) {
    const nlohmann::ordered_json json{{"url", o.url},          {"rate", o.rate},         {"seconds", r.seconds},
                                      {"sent", r.sent},        {"answered", r.answered}, {"rows", r.rows},
                                      {"p50_ms", ms(0.5)},     {"p90_ms", ms(0.9)},      {"p99_ms", ms(0.99)},
                                      {"p99_9_ms", ms(0.999)}, {"errors", r.errors}};
    write_file_atomic(a.get<std::string>("json"), json.dump(1) + "\n");
  }
  return r.answered > 0 ? exit_done : exit_error;
}

}  // namespace tenon::server
