#include "tenon/train/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

namespace tenon::train {
namespace {

// The drawing area in SVG units; the page scales it to its column.
constexpr double width = 440, height = 270, left = 54, right = 20, top = 14, bottom = 44;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

struct Frame {
  Range x, y;
  [[nodiscard]] double at_x(double v) const { return left + (v - x.low) / (x.high - x.low) * (width - left - right); }
  [[nodiscard]] double at_y(double v) const {
    return height - bottom - (v - y.low) / (y.high - y.low) * (height - top - bottom);
  }
};

bool finite(const ChartPoint& p) { return std::isfinite(p.x) && std::isfinite(p.y); }

// At most `limit` points: evenly spaced ones and always the last.
std::vector<ChartPoint> thinned(const std::vector<ChartPoint>& points, std::size_t limit = 600) {
  std::vector<ChartPoint> kept;
  std::copy_if(points.begin(), points.end(), std::back_inserter(kept), finite);
  if (kept.size() <= limit) return kept;
  std::vector<ChartPoint> out;
  out.reserve(limit);
  for (std::size_t i = 0; i < limit; ++i) out.push_back(kept[i * (kept.size() - 1) / (limit - 1)]);
  return out;
}

void widen(Range& range) {
  if (range.high > range.low) return;
  const double margin = range.high == 0 ? 1 : std::abs(range.high) * 0.05;
  range.low -= margin;
  range.high += margin;
}

void render_axes(std::string& out, const Chart& chart, const Frame& frame, const Ticks& x, const Ticks& y) {
  const auto sink = std::back_inserter(out);
  for (std::size_t i = 0; i < y.values.size(); ++i) {
    const double at = frame.at_y(y.values[i]);
    fmt::format_to(sink, R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", left, width - right, at,
                   at);
    fmt::format_to(sink, R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)", left - 7, at + 4,
                   y.labels[i]);
  }
  const double floor = height - bottom;
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    const double at = frame.at_x(x.values[i]);
    if (at < left - 0.5 || at > width - right + 0.5) continue;
    fmt::format_to(sink, R"(<line class="axis" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>)", at, at, floor, floor + 4);
    fmt::format_to(sink, R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", at, floor + 17,
                   x.labels[i]);
  }
  fmt::format_to(sink, R"(<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>)", left, width - right, floor, floor);
  fmt::format_to(sink, R"(<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>)",
                 (left + width - right) / 2, height - 6, escape_html(chart.x_label));
}

void render_series(std::string& out, const std::vector<ChartPoint>& points, std::size_t index, const Frame& frame) {
  const auto sink = std::back_inserter(out);
  fmt::format_to(sink, R"(<path class="line s{}" d=")", index);
  char command = 'M';
  for (const auto& p : points) {
    fmt::format_to(sink, "{}{:.1f} {:.1f}", command, frame.at_x(p.x), frame.at_y(p.y));
    command = 'L';
  }
  out += R"("/>)";
  if (points.size() > 40) return;
  for (const auto& p : points)
    fmt::format_to(sink, R"(<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="3"/>)", index, frame.at_x(p.x),
                   frame.at_y(p.y));
}

// What the script needs: the points in data and in drawing coordinates.
std::string tooltip_data(const Chart& chart, const std::vector<std::vector<ChartPoint>>& series, const Frame& frame) {
  using Json = nlohmann::ordered_json;
  Json data{{"x", chart.x_label}, {"series", Json::array()}};
  const auto rounded = [](double v) { return std::round(v * 10) / 10; };
  for (std::size_t i = 0; i < series.size(); ++i) {
    Json points = Json::array();
    for (const auto& p : series[i])
      points.push_back(
          {p.x, std::stod(fmt::format("{:.5g}", p.y)), rounded(frame.at_x(p.x)), rounded(frame.at_y(p.y))});
    data["series"].push_back({{"name", chart.series[i].name}, {"points", std::move(points)}});
  }
  std::string text = data.dump(-1, ' ', true, Json::error_handler_t::replace);
  for (auto at = text.find("</"); at != std::string::npos; at = text.find("</", at + 3)) text.replace(at, 2, "<\\/");
  return text;
}

// Plain decimals where they are short; else a power of ten, as in 20k or 4e-4.
std::string tick_label(double value, double largest, int decimals) {
  if (value == 0) return "0";
  if (largest >= 1e6) return fmt::format("{:g}M", value / 1e6);
  if (largest >= 1e4) return fmt::format("{:g}k", value / 1e3);
  if (decimals <= 3) return fmt::format("{:.{}f}", value, decimals);
  const double power = std::floor(std::log10(std::abs(value)) + 1e-9);
  return fmt::format("{:.4g}e{:.0f}", value / std::pow(10, power), power);
}

}  // namespace

std::string escape_html(std::string_view text) {
  // nlohmann's dump replaces what is not UTF-8; undoing its quoting gives clean text.
  const std::string clean =
      nlohmann::json::parse(nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
          .get<std::string>();
  std::string out;
  for (const char c : clean) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

Ticks round_ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0})
    if (raw <= factor * power * (1 + 1e-9)) step = factor * power;
  const int decimals = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 9);
  Ticks ticks;
  const auto first = static_cast<std::int64_t>(std::floor(low / step + 1e-9));
  const auto last = static_cast<std::int64_t>(std::ceil(high / step - 1e-9));
  for (std::int64_t i = first; i <= last; ++i) {
    const double value = static_cast<double>(i) * step;
    ticks.values.push_back(value);
    ticks.labels.push_back(tick_label(value, std::max(std::abs(low), std::abs(high)), decimals));
  }
  return ticks;
}

std::string render_chart(const Chart& chart) {
  std::vector<std::vector<ChartPoint>> series;
  Frame frame;
  for (const auto& s : chart.series) {
    series.push_back(thinned(s.points));
    for (const auto& p : series.back()) {
      frame.x.include(p.x);
      frame.y.include(p.y);
    }
  }
  std::string out = fmt::format(R"(<figure><figcaption><b>{}</b><span class="legend">)", escape_html(chart.title));
  if (chart.series.size() > 1)
    for (std::size_t i = 0; i < chart.series.size(); ++i)
      out += fmt::format(R"(<span><i class="s{}"></i>{}</span>)", i, escape_html(chart.series[i].name));
  out += "</span></figcaption>";
  if (frame.x.low > frame.x.high) return out + "<p class=\"empty\">no finite values yet</p></figure>\n";

  if (chart.from_zero) frame.y.include(0);
  widen(frame.x);
  widen(frame.y);
  const Ticks y = round_ticks(frame.y.low, frame.y.high, 5);
  const Ticks x = round_ticks(frame.x.low, frame.x.high, 5);
  frame.y = {y.values.front(), y.values.back()};
  out += fmt::format(R"(<div class="plot"><svg viewBox="0 0 {} {}" role="img" aria-label="{}">)", width, height,
                     escape_html(chart.title + ": " + chart.y_label + " by " + chart.x_label));
  render_axes(out, chart, frame, x, y);
  for (std::size_t i = 0; i < series.size(); ++i) render_series(out, series[i], i, frame);
  out += fmt::format(R"(<line class="cursor" x1="0" x2="0" y1="{}" y2="{}"/></svg><div class="tip"></div></div>)", top,
                     height - bottom);
  return out + "<script type=\"application/json\">" + tooltip_data(chart, series, frame) + "</script></figure>\n";
}

}  // namespace tenon::train
