// Line charts as SVG text, for report.html.
//
// A chart holds axes with round ticks, one line with markers for each series, a legend and, as JSON beside
// it, the data that the page's script shows when the pointer is near. Colours come from the page's style sheet
// (classes s0, s1, ...), so one chart serves the light and the dark page. Points that are not finite are left out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tenon::train {

struct ChartPoint {
  double x = 0;
  double y = 0;
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;
};

struct Chart {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<ChartSeries> series;
  bool from_zero = false;  // the y axis begins at 0 (rates); otherwise it fits the data
};

// A <figure> element. A chart without a finite point gives a figure that says so.
[[nodiscard]] std::string render_chart(const Chart& chart);

// Text made safe for an HTML element or attribute. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string escape_html(std::string_view text);

// Round tick values that cover [low, high] with about `count` steps, and their labels.
struct Ticks {
  std::vector<double> values;
  std::vector<std::string> labels;
};
[[nodiscard]] Ticks round_ticks(double low, double high, int count);

}  // namespace tenon::train
