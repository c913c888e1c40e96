#include "tenon/train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tenon/train/chart.h"

namespace tenon::train {
namespace {

constexpr std::string_view style = R"(
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b1f27;--soft:#5b6472;--rule:#e1e5eb;--c0:#2563eb;--c1:#d9480f;--c2:#2b8a3e}
@media (prefers-color-scheme:dark){:root{--page:#12151b;--card:#1b2029;--ink:#e8ebf0;--soft:#9aa4b4;--rule:#2e3642;--c0:#7aa7ff;--c1:#ff9a5c;--c2:#69db7c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 16px 48px}
h1{font-size:1.6rem;line-height:1.25;margin:0;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:32px 0 12px}
.subtitle{color:var(--soft);margin:4px 0 22px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(155px,1fr));gap:12px}
.cards div,figure,section{background:var(--card);border:1px solid var(--rule);border-radius:10px}
.cards div{padding:12px 16px}.cards span{display:block;color:var(--soft);font-size:.85rem}
.cards b{font-size:1.4rem;font-weight:650;font-variant-numeric:tabular-nums}
.cards small{display:block;color:var(--soft);min-height:1.5em}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:16px;margin-top:16px}
figure{margin:0;padding:14px 14px 8px}
figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:2px 14px}
.legend{display:flex;gap:14px;color:var(--soft);font-size:.88rem}
.legend i{display:inline-block;width:16px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.plot{position:relative}svg{display:block;width:100%;height:auto;touch-action:pan-y}
svg text{font-size:11.5px;fill:var(--soft);font-variant-numeric:tabular-nums}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.dot{stroke:var(--card);stroke-width:1}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}
.dot.s0,i.s0{fill:var(--c0)}.dot.s1{fill:var(--c1)}.dot.s2{fill:var(--c2)}
.dot{stroke:var(--card)!important}i.s0{background:var(--c0)}i.s1{background:var(--c1)}i.s2{background:var(--c2)}
.cursor{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3;visibility:hidden}
.tip{position:absolute;top:6px;visibility:hidden;pointer-events:none;background:var(--card);border:1px solid var(--rule);border-radius:8px;box-shadow:0 3px 12px #0003;padding:6px 10px;font-size:.85rem;white-space:nowrap;font-variant-numeric:tabular-nums}
.tip i{display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:6px}
.empty{color:var(--soft)}
section{padding:6px 16px 14px;margin-top:16px;overflow-x:auto}section h2{margin:10px 0}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:13.5px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:5px 18px 5px 0;border-bottom:1px solid var(--rule);vertical-align:top}
tr:last-child>*{border-bottom:0}th{color:var(--soft);font-weight:500;white-space:nowrap}
.numbers td,.numbers th{text-align:right;padding:5px 0 5px 16px}
summary{cursor:pointer;font-weight:600;padding:6px 0}
footer{color:var(--soft);font-size:.88rem;margin-top:24px}
@media (max-width:560px){main{padding:18px 12px 36px}svg text{font-size:15px}.cards{grid-template-columns:1fr 1fr}td,th{padding-right:10px}}
)";

// Shows the values nearest to the pointer. The page reads well without it.
constexpr std::string_view script = R"(
for (const figure of document.querySelectorAll("figure")) {
  const source = figure.querySelector("script");
  if (!source) continue;
  const data = JSON.parse(source.textContent), svg = figure.querySelector("svg");
  const cursor = svg.querySelector(".cursor"), tip = figure.querySelector(".tip"), plot = figure.querySelector(".plot");
  const xs = [...new Map(data.series.flatMap(s => s.points.map(p => [p[0], p[2]])))];
  const hide = () => { cursor.style.visibility = tip.style.visibility = "hidden"; };
  const show = event => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const [x, px] = xs.reduce((a, b) => Math.abs(b[1] - at) < Math.abs(a[1] - at) ? b : a);
    cursor.setAttribute("x1", px); cursor.setAttribute("x2", px);
    tip.replaceChildren(Object.assign(document.createElement("div"), {textContent: data.x + " " + +x.toFixed(3)}));
    data.series.forEach((s, i) => {
      const p = s.points.find(p => p[0] === x);
      if (!p) return;
      const row = document.createElement("div"), mark = document.createElement("i");
      mark.className = "s" + i;
      row.append(mark, s.name + " ", Object.assign(document.createElement("b"), {textContent: p[1]}));
      tip.append(row);
    });
    const left = px * box.width / svg.viewBox.baseVal.width;
    tip.style.left = Math.max(0, left > box.width / 2 ? left - tip.offsetWidth - 12 : left + 12) + "px";
    cursor.style.visibility = tip.style.visibility = "visible";
  };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", hide);
}
)";

using Column = std::optional<double> MetricsRow::*;

bool has(const std::vector<MetricsRow>& rows, Column column) {
  return std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return (row.*column).has_value(); });
}

const MetricsRow* last_with(const std::vector<MetricsRow>& rows, Column column) {
  const auto found =
      std::find_if(rows.rbegin(), rows.rend(), [&](const auto& row) { return (row.*column).has_value(); });
  return found == rows.rend() ? nullptr : &*found;
}

// The row with the smallest (sign = 1) or largest (sign = -1) finite value.
const MetricsRow* best_of(const std::vector<MetricsRow>& rows, Column column, double sign) {
  const MetricsRow* best = nullptr;
  for (const auto& row : rows)
    if ((row.*column) && std::isfinite(*(row.*column)) &&
        (best == nullptr || sign * *(row.*column) < sign * *(best->*column)))
      best = &row;
  return best;
}

std::string percent(double v) { return fmt::format("{:.2f} %", 100 * v); }

std::string rate(double v) {
  if (v >= 1e6) return fmt::format("{:.2f} M/s", v / 1e6);
  if (v >= 1e4) return fmt::format("{:.1f} k/s", v / 1e3);
  return fmt::format("{:.0f} /s", v);
}

std::string duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole >= 3600) return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{:.1f} s", seconds);
}

void card(std::string& out, std::string_view name, const std::string& value, const std::string& note = {}) {
  out += fmt::format("<div><span>{}</span><b>{}</b><small>{}</small></div>", name, value, note);
}

std::string cards(const std::vector<MetricsRow>& rows) {
  std::string out = "<div class=\"cards\">";
  const auto note = [&](const MetricsRow* best, Column column, const std::string& text) {
    return best == nullptr || best->*column == last_with(rows, column)->*column
               ? std::string("the best so far")
               : fmt::format("best {} at step {}", text, best->step);
  };
  if (const auto* row = last_with(rows, &MetricsRow::val_accuracy)) {
    const auto* best = best_of(rows, &MetricsRow::val_accuracy, -1);
    card(out, "validation accuracy", percent(*row->val_accuracy),
         note(best, &MetricsRow::val_accuracy, best != nullptr ? percent(*best->val_accuracy) : ""));
  }
  if (const auto* row = last_with(rows, &MetricsRow::val_loss)) {
    const auto* best = best_of(rows, &MetricsRow::val_loss, 1);
    card(out, "validation loss", fmt::format("{:.4f}", *row->val_loss),
         note(best, &MetricsRow::val_loss, best != nullptr ? fmt::format("{:.4f}", *best->val_loss) : ""));
  }
  if (const auto* row = last_with(rows, &MetricsRow::train_loss))
    card(out, "training loss", fmt::format("{:.4f}", *row->train_loss));
  if (const auto* row = last_with(rows, &MetricsRow::tokens_per_second))
    card(out, "tokens", rate(*row->tokens_per_second));
  if (const auto* row = last_with(rows, &MetricsRow::examples_per_second))
    card(out, "examples", rate(*row->examples_per_second));
  if (!rows.empty())
    card(out, "steps", fmt::format("{}", rows.back().step),
         fmt::format("{:.3g} {}", rows.back().epoch, rows.back().epoch == 1 ? "epoch" : "epochs"));
  if (const auto* row = last_with(rows, &MetricsRow::seconds)) card(out, "training time", duration(*row->seconds));
  return out + "</div>\n";
}

ChartSeries series(const std::vector<MetricsRow>& rows, std::string name, Column column, bool by_epoch,
                   double scale = 1) {
  ChartSeries out{.name = std::move(name), .points = {}};
  for (const auto& row : rows)
    if (const auto& value = row.*column)
      out.points.push_back({by_epoch ? row.epoch : static_cast<double>(row.step), *value * scale});
  return out;
}

std::string charts(const std::vector<MetricsRow>& rows) {
  // Rows at whole epochs read best by epoch, all others by step.
  const bool by_epoch =
      std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row.epoch == std::floor(row.epoch); });
  const std::string x = by_epoch ? "epoch" : "step";
  struct Line {
    const char* name;
    Column column;
  };
  struct Plan {
    const char *title, *y_label;
    std::vector<Line> lines;
    bool from_zero;
    double scale;
  };
  const Plan plans[] = {
      {"Loss", "loss", {{"training", &MetricsRow::train_loss}, {"validation", &MetricsRow::val_loss}}, false, 1},
      {"Accuracy, %",
       "percent",
       {{"training", &MetricsRow::train_accuracy}, {"validation", &MetricsRow::val_accuracy}},
       false,
       100},
      {"Tokens per second", "tokens per second", {{"tokens/s", &MetricsRow::tokens_per_second}}, true, 1},
      {"Examples per second", "examples per second", {{"examples/s", &MetricsRow::examples_per_second}}, true, 1},
      {"Learning rate", "learning rate", {{"learning rate", &MetricsRow::learning_rate}}, true, 1},
  };
  std::string out = "<div class=\"charts\">";
  for (const auto& plan : plans) {
    Chart chart{.title = plan.title, .x_label = x, .y_label = plan.y_label, .series = {}, .from_zero = plan.from_zero};
    for (const auto& line : plan.lines)
      if (has(rows, line.column)) chart.series.push_back(series(rows, line.name, line.column, by_epoch, plan.scale));
    if (!chart.series.empty()) out += render_chart(chart);
  }
  return out + "</div>\n";
}

std::string settings(const Report& report) {
  std::string out = "<section><h2>Settings</h2><table>";
  const auto line = [&](std::string_view name, std::string_view value) {
    out += fmt::format("<tr><th>{}</th><td>{}</td></tr>", escape_html(name), escape_html(value));
  };
  for (const auto& [name, value] : report.facts) line(name, value);
  // What the session found out (how many threads "0" came to be) stands for what was asked.
  const auto is_fact = [&](std::string_view name) {
    return std::any_of(report.facts.begin(), report.facts.end(), [&](const auto& fact) { return fact.first == name; });
  };
  for (const auto& [name, value] : report.config.entries())
    if (!is_fact(name)) line(name, to_text(value));
  return out + "</table></section>\n";
}

std::string metrics_table(const std::vector<MetricsRow>& rows) {
  constexpr std::size_t limit = 200;
  std::string out =
      "<section><details><summary>All numbers</summary><table class=\"numbers\"><tr><th>step</th><th>epoch</th>";
  for (const auto& column : metrics_columns())
    if (has(rows, column.member)) out += fmt::format("<th>{}</th>", column.name);
  out += "</tr>";
  for (std::size_t i = rows.size() > limit ? rows.size() - limit : 0; i < rows.size(); ++i) {
    out += fmt::format("<tr><td>{}</td><td>{:.4g}</td>", rows[i].step, rows[i].epoch);
    for (const auto& column : metrics_columns())
      if (has(rows, column.member)) {
        const auto& value = rows[i].*column.member;
        out += value ? fmt::format("<td>{:.5g}</td>", *value) : "<td></td>";
      }
    out += "</tr>";
  }
  return out + "</table></details></section>\n";
}

std::string samples(const std::vector<Sample>& list) {
  if (list.empty()) return {};
  const auto& last = list.back();
  std::string out =
      fmt::format("<section><h2>Sample after {} steps</h2><pre>{}</pre>", last.step, escape_html(last.text));
  if (list.size() > 1) {
    out += "<details><summary>Earlier samples</summary>";
    for (auto sample = list.rbegin() + 1; sample != list.rend(); ++sample)
      out += fmt::format("<h2>After {} steps</h2><pre>{}</pre>", sample->step, escape_html(sample->text));
    out += "</details>";
  }
  return out + "</section>\n";
}

}  // namespace

std::string render_report(const Report& report) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<title>{0}</title><style>{1}</style></head>\n<body><main><h1>{0}</h1><p class=\"subtitle\">{2}</p>\n",
      escape_html(report.title), style, escape_html(report.subtitle));
  if (report.rows.empty()) {
    out += "<p class=\"empty\">No evaluation yet.</p>\n";
  } else {
    out += cards(report.rows);
    out += charts(report.rows);
  }
  out += samples(report.samples);
  out += settings(report);
  if (!report.rows.empty()) out += metrics_table(report.rows);
  out += "<footer>Made by Tenon. The numbers are in metrics.jsonl, the weights in model.safetensors.</footer></main>\n";
  return out + fmt::format("<script>{}</script></body></html>\n", script);
}

}  // namespace tenon::train
