#include "tenon/trace/debug.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>

#include "tenon/base/error.h"
#include "tenon/exec/observe.h"
#include "tenon/trace/call_site.h"
#include "tenon/trace/state.h"

namespace tenon {
namespace {

// What the elements of one or more tensors are like.
struct Survey {
  int64_t count = 0, nan = 0, infinite = 0;
  int64_t first = -1;  // position of the first that is not finite, row-major
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();

  void look(double v, int64_t at) {
    ++count;
    if (std::isfinite(v)) [[likely]] {
      low = v < low ? v : low;
      high = v > high ? v : high;
      return;
    }
    ++(std::isnan(v) ? nan : infinite);
    if (first < 0) first = at;
  }
};

bool has_values(const Tensor& x) { return x.defined() && x.is_concrete() && x.size() != 0; }

Survey survey(const Tensor& x) {
  Survey s;
  if (x.dtype() == f32 && x.is_contiguous()) {
    const auto values = x.data<float>();
    for (size_t i = 0; i < values.size(); ++i) s.look(static_cast<double>(values[i]), static_cast<int64_t>(i));
    return s;
  }
  const auto values = x.to_vector<double>();
  for (size_t i = 0; i < values.size(); ++i) s.look(values[i], static_cast<int64_t>(i));
  return s;
}

// "3, 0" of position 9 in [4, 3].
std::string position_text(int64_t at, const Shape& shape) {
  std::string text;
  for (size_t i = shape.size(); i-- > 0;) {
    text = fmt::format("{}{}{}", at % shape[i], text.empty() ? "" : ", ", text);
    at /= shape[i];
  }
  return "[" + text + "]";
}

std::string describe(const Tensor& x, const Survey& s) {
  std::string text = to_string(x.type());
  if (s.nan + s.infinite < s.count) text += fmt::format(" in [{:.6g}, {:.6g}]", s.low, s.high);
  if (s.nan > 0) text += fmt::format(", {} NaN", s.nan);
  if (s.infinite > 0) text += fmt::format(", {} infinite", s.infinite);
  return text;
}

struct Inputs {
  bool nan = false, infinite = false;
  std::string text;
};

Inputs survey_inputs(const exec::Work& work, const Tensors& in) {
  Inputs result;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!has_values(in[i]) || !is_float(in[i].dtype())) continue;
    const Survey s = survey(in[i]);
    result.nan = result.nan || s.nan > 0;
    result.infinite = result.infinite || s.infinite > 0;
    std::string_view name = work.kind == exec::WorkKind::Gradient ? "cotangent" : "input";
    if (work.kind != exec::WorkKind::Gradient && work.op != nullptr && !work.op->inputs.empty())
      name = work.op->inputs[std::min(i, work.op->inputs.size() - 1)].name;
    result.text += fmt::format("{}{} {}", result.text.empty() ? "" : "; ", name, describe(in[i], s));
  }
  return result;
}

// A site without debug information is a function's name.
std::string advice(const std::string& site) {
  if (site.empty()) return "compile the calling code with -g, and its line is named here";
  const size_t colon = site.rfind(':');
  const bool line = colon != std::string::npos && colon + 1 < site.size() &&
                    site.find_first_not_of("0123456789", colon + 1) == std::string::npos;
  return "look at " + site + (line ? "" : " (compile it with -g, and its line is named here)");
}

[[noreturn]] void report(const exec::Work& work, std::string problem, std::string expected, std::string got) {
  std::string where(work.name);
  if (const auto layer = exec::current_layer(); !layer.empty()) where += fmt::format(" ({})", layer);
  const std::string site = work.site.empty() ? trace::call_site() : std::string(work.site);
  throw NumericError({std::move(where), std::move(problem), std::move(expected), std::move(got), advice(site)});
}

// Whether the op is a cast: its result's dtype is what an attribute says.
bool is_cast(const exec::Work& work, const Tensors& in, const Tensors& out) {
  if (work.kind != exec::WorkKind::Op || work.op == nullptr || in.size() != 1 || out.size() != 1) return false;
  const auto* elementwise = std::get_if<ops::Elementwise>(&work.op->meaning);
  return elementwise != nullptr && elementwise->result != nullptr && has_values(in[0]) && has_values(out[0]) &&
         out[0].dtype() != DType::Bool && out[0].dtype() != in[0].dtype();
}

void check_cast(const exec::Work& work, const Tensor& in, const Tensor& out, const DebugOptions& options) {
  const auto before = in.to_vector<double>(), after = out.to_vector<double>();
  const bool to_float = is_float(out.dtype());
  int64_t over = 0, under = 0;
  size_t first_over = 0, first_under = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double a = before[i], b = after[i];
    if (!std::isfinite(a)) {
      if (to_float) continue;
      if (over++ == 0) first_over = i;
    } else if (to_float ? std::isinf(b) : std::abs(std::trunc(a) - b) >= 1) {
      if (over++ == 0) first_over = i;
    } else if (to_float && a != 0 && b == 0) {
      if (under++ == 0) first_under = i;
    }
  }
  const auto tell = [&](const char* problem, int64_t count, size_t first) {
    report(work, fmt::format("{} {}", problem, name(out.dtype())),
           fmt::format("values within the range of {}", name(out.dtype())),
           fmt::format("{:.9g} at {} became {:.9g} ({} of {} values)", before[first],
                       position_text(static_cast<int64_t>(first), in.shape()), after[first], count, before.size()));
  };
  if (options.overflow && over > 0) tell("a value is too large for", over, first_over);
  if (options.underflow && under > 0) tell("a value is too small for", under, first_under);
}

class Search final : public exec::Observer {
 public:
  explicit Search(DebugOptions options) : options_(options) {}

  Tensors around(const exec::Work& work, const std::function<Tensors()>& run) override {
    if (depth_ > 0 || work.inputs == nullptr) return pass_on(work, run);
    struct Inside {
      int& depth;
      explicit Inside(int& d) : depth(d) { ++depth; }
      ~Inside() { --depth; }
    };
    const Tensors in = *work.inputs;  // also keeps their memory from being reused
    Tensors out;
    {
      const Inside inside(depth_);
      out = pass_on(work, run);
    }
    if (is_cast(work, in, out)) {
      check_cast(work, in[0], out[0], options_);
    } else {
      check(work, in, out);
    }
    return out;
  }

 private:
  void check(const exec::Work& work, const Tensors& in, const Tensors& out) const {
    for (size_t k = 0; k < out.size(); ++k) {
      const Tensor& y = out[k];
      if (!has_values(y) || !is_float(y.dtype())) continue;
      const Survey s = survey(y);
      if (!(s.nan > 0 && options_.nan) && !(s.infinite > 0 && options_.infinity)) continue;
      const Inputs inputs = survey_inputs(work, in);
      const bool nan = s.nan > 0 && options_.nan && !inputs.nan;
      if (!nan && !(s.infinite > 0 && options_.infinity && !inputs.nan && !inputs.infinite)) continue;
      const char* what = nan ? "NaN" : "infinity";
      const char* place = work.kind == exec::WorkKind::Gradient ? "gradient" : "result";
      report(work, fmt::format("{} in the {}", what, place),
             inputs.text.empty() ? "" : "finite values from " + inputs.text,
             fmt::format("{}{}, first at {}", out.size() > 1 ? fmt::format("{} {}: ", place, k) : "", describe(y, s),
                         position_text(s.first, y.shape())));
    }
  }

  DebugOptions options_;
  int depth_ = 0;
};

}  // namespace

struct DebugMode::State {
  explicit State(DebugOptions options) : search(options) {}
  Search search;
  exec::ObserverScope scope{search};
  // Compiled functions compute at once, and calls keep where they stand.
  bool previous = std::exchange(trace::state().anomaly, true);
  ~State() { trace::state().anomaly = previous; }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

DebugMode::DebugMode(DebugOptions options) : state_(std::make_unique<State>(options)) {}
DebugMode::~DebugMode() = default;

}  // namespace tenon
