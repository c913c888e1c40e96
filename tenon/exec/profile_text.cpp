// Profiles as a table for people and as a trace file for viewers.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "tenon/base/file.h"
#include "tenon/exec/profile.h"

namespace tenon {
namespace {

std::string types_text(const std::vector<TensorType>& types) {
  std::string text;
  for (const auto& type : types) text += (text.empty() ? "" : ", ") + to_string(type);
  return text;
}

struct Row {
  std::string name;
  int64_t calls = 0;
  double total = 0, own = 0, bytes = 0, flops = 0;
  bool flops_known = false;
};

std::string label_of(const ProfileEvent& e, const ProfileTableOptions& options) {
  std::string name = e.kind == "op" ? e.name : fmt::format("{} ({})", e.name, e.kind);
  if (options.by_layer && !e.layer.empty()) name = fmt::format("{}: {}", e.layer, name);
  if (options.by_shape) name += fmt::format(" [{}]", types_text(e.inputs));
  return name;
}

std::vector<Row> rows_of(const Profile& profile, const ProfileTableOptions& options) {
  std::map<std::string, Row> rows;
  for (const ProfileEvent& e : profile.events) {
    std::string name = label_of(e, options);
    Row& row = rows[name];
    row.name = std::move(name);
    ++row.calls;
    row.total += e.duration;
    row.own += e.own;
    row.bytes += e.bytes;
    row.flops += std::max(0.0, e.flops);
    row.flops_known = row.flops_known || e.flops > 0;
  }
  std::vector<Row> list;
  for (auto& [name, row] : rows) list.push_back(std::move(row));
  std::stable_sort(list.begin(), list.end(), [&](const Row& a, const Row& b) {
    switch (options.sort) {
      case ProfileSort::OwnTime:
        return a.own > b.own;
      case ProfileSort::TotalTime:
        return a.total > b.total;
      case ProfileSort::Calls:
        return a.calls > b.calls;
      case ProfileSort::Name:
        break;
    }
    return a.name < b.name;
  });
  return list;
}

// Long names of fused kernels keep their beginning.
std::string fitted(const std::string& name, size_t width) {
  return name.size() <= width ? name : name.substr(0, width - 3) + "...";
}

}  // namespace

std::string to_table(const Profile& profile, const ProfileTableOptions& options) {
  std::vector<Row> rows = rows_of(profile, options);
  double own = 0;
  int64_t events = 0;
  for (const Row& row : rows) {
    own += row.own;
    events += row.calls;
  }
  if (options.most_rows != 0 && rows.size() > options.most_rows) {
    Row rest;
    rest.name = fmt::format("{} more", rows.size() - options.most_rows);
    for (size_t i = options.most_rows; i < rows.size(); ++i) {
      rest.calls += rows[i].calls;
      rest.total += rows[i].total;
      rest.own += rows[i].own;
    }
    rows.resize(options.most_rows);
    rows.push_back(std::move(rest));
  }
  constexpr size_t kWidest = 60;
  size_t width = 4;
  for (const Row& row : rows) width = std::max(width, std::min(kWidest, row.name.size()));
  std::string text = fmt::format("{:<{}} {:>7} {:>10} {:>10} {:>6} {:>9} {:>8} {:>9}\n", "name", width, "calls",
                                 "total ms", "own ms", "own %", "us/call", "GB/s", "GFLOP/s");
  for (const Row& row : rows) {
    // Rates are those of the work inside, too: bytes and flops are of the whole call.
    const auto rate = [&](double amount, bool known) {
      return known && row.total > 0 ? fmt::format("{:.2f}", amount / row.total / 1e9) : std::string("-");
    };
    text += fmt::format("{:<{}} {:>7} {:>10.3f} {:>10.3f} {:>6.1f} {:>9.2f} {:>8} {:>9}\n", fitted(row.name, kWidest),
                        width, row.calls, row.total * 1e3, row.own * 1e3, own > 0 ? 100 * row.own / own : 0.0,
                        row.total * 1e6 / static_cast<double>(std::max<int64_t>(1, row.calls)),
                        rate(row.bytes, row.bytes > 0), rate(row.flops, row.flops_known));
  }
  text += fmt::format("{} events, {:.3f} ms of them within {:.3f} ms\n", events, own * 1e3, profile.seconds * 1e3);
  return text;
}

std::string to_chrome_trace(const Profile& profile) {
  nlohmann::json events = nlohmann::json::array();
  int threads = 1;
  for (const ProfileEvent& e : profile.events) {
    threads = std::max(threads, e.thread + 1);
    nlohmann::json arguments;
    if (!e.layer.empty()) arguments["layer"] = e.layer;
    if (!e.inputs.empty()) arguments["inputs"] = types_text(e.inputs);
    if (!e.outputs.empty()) arguments["outputs"] = types_text(e.outputs);
    if (e.bytes > 0) arguments["bytes"] = static_cast<int64_t>(e.bytes);
    if (e.flops >= 0) arguments["flops"] = static_cast<int64_t>(e.flops);
    nlohmann::json event{{"name", e.name},      {"cat", std::string(e.kind)}, {"ph", "X"},
                         {"ts", e.start * 1e6}, {"dur", e.duration * 1e6},    {"pid", 1},
                         {"tid", e.thread + 1}};
    if (!arguments.is_null()) event["args"] = std::move(arguments);
    events.push_back(std::move(event));
  }
  const auto metadata = [](const char* what, int thread, const std::string& name) {
    return nlohmann::json{{"name", what}, {"ph", "M"}, {"pid", 1}, {"tid", thread}, {"args", {{"name", name}}}};
  };
  events.push_back(metadata("process_name", 1, "tenon"));
  for (int t = 0; t < threads; ++t)
    events.push_back(metadata("thread_name", t + 1, t == 0 ? "main" : fmt::format("thread {}", t)));
  // A span may be named by any bytes; JSON is UTF-8, and a trace must not be lost for a name.
  return nlohmann::json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}.dump(
             1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

void save_chrome_trace(const Profile& profile, const std::filesystem::path& path) {
  write_file_atomic(path, to_chrome_trace(profile));
}

}  // namespace tenon
