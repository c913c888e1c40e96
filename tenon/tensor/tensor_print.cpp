// to_string(Tensor): NumPy's layout (numpy/_core/arrayprint.py, precision 8, line width 75, separator ", ").
#include "tenon/tensor/tensor_print.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "tenon/tensor/element.h"
#include "tenon/tensor/sparse_rows.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon {
namespace {

constexpr int64_t kThreshold = 1000;  // more elements are summarised
constexpr int64_t kEdge = 3;          // shown at each end of an axis then
constexpr int kPrecision = 8;
constexpr size_t kLineWidth = 75;
constexpr std::string_view kPrefix = "tensor(";

// ---- one float ----
// "-d.ddde-05": the fewest digits that give the number back when read as `dtype`.
std::string shortest_scientific(double value, DType dtype) {
  char text[64];
  std::to_chars_result end{};
  if (dtype == DType::F64) {
    end = std::to_chars(text, std::end(text), value, std::chars_format::scientific);
  } else if (dtype == DType::F32) {
    end = std::to_chars(text, std::end(text), static_cast<float>(value), std::chars_format::scientific);
  } else {
    for (int digits = 0;; ++digits) {
      std::string tried = fmt::format("{:.{}e}", value, digits);
      if (round_to(dtype, std::stod(tried)) == value) return tried;
    }
  }
  return {text, end.ptr};
}

// How many digits come after the point when the shortest form is written without exponent.
int fraction_digits(const std::string& scientific) {
  const size_t e = scientific.find('e');
  const size_t point = scientific.find('.');
  const int digits = point == std::string::npos ? 0 : static_cast<int>(e - point) - 1;
  return std::max(0, digits - std::stoi(scientific.substr(e + 1)));
}

std::string trim_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text + ".";
  while (text.back() == '0') text.pop_back();
  return text;
}

// "0.1", "12.", "0.33333333"
std::string positional(double value, DType dtype) {
  const std::string scientific = shortest_scientific(value, dtype);
  const int digits = std::min(kPrecision, fraction_digits(scientific));
  // Rounding the shortest form to its own digits gives it back; more than kPrecision are cut from the exact value.
  return trim_zeros(fmt::format("{:.{}f}", value, digits));
}

struct Scientific {
  std::string whole, fraction, exponent;  // "-1", "25", "e+10"
};
Scientific scientific_parts(double value, DType dtype) {
  std::string text = shortest_scientific(value, dtype);
  size_t point = text.find('.'), e = text.find('e');
  if (point != std::string::npos && e - point - 1 > static_cast<size_t>(kPrecision)) {
    text = fmt::format("{:.{}e}", value, kPrecision);
    point = text.find('.');
    e = text.find('e');
  }
  if (point == std::string::npos) return {text.substr(0, e), "", text.substr(e)};
  std::string fraction = text.substr(point + 1, e - point - 1);
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  return {text.substr(0, point), fraction, text.substr(e)};
}

// ---- all elements to one width ----
class FloatFormat {
 public:
  FloatFormat(const std::vector<double>& values, DType dtype) : dtype_(dtype) {
    double largest = 0, smallest = INFINITY;
    for (double x : values) {
      if (!std::isfinite(x) || x == 0) continue;
      largest = std::max(largest, std::abs(x));
      smallest = std::min(smallest, std::abs(x));
    }
    const double cutoff = dtype == DType::F64 ? 1e8 : dtype == DType::F32 ? 1e6 : 1e3;
    exponents_ =
        largest >= cutoff || (largest > 0 && (smallest < round_to(dtype, 0.0001) || largest / smallest > 1000));
    bool any_finite = false;
    for (double x : values) {
      if (!std::isfinite(x)) continue;
      any_finite = true;
      if (exponents_) {
        const Scientific parts = scientific_parts(x, dtype);
        left_ = std::max(left_, parts.whole.size());
        precision_ = std::max(precision_, parts.fraction.size());
        exponent_ = std::max(exponent_, parts.exponent.size());
      } else {
        const std::string text = positional(x, dtype);
        left_ = std::max(left_, text.find('.'));
        right_ = std::max(right_, text.size() - text.find('.') - 1);
      }
    }
    if (exponents_) right_ = precision_ + exponent_;
    for (double x : values) {
      if (std::isfinite(x)) continue;
      const size_t needed = std::isinf(x) && x < 0 ? 4 : 3;
      const size_t offset = any_finite ? right_ + 1 : 1;
      if (needed > offset) left_ = std::max(left_, needed - offset);
    }
  }

  [[nodiscard]] std::string operator()(double x) const {
    if (std::isnan(x)) return pad_left("nan", left_ + right_ + 1);
    if (std::isinf(x)) return pad_left(x < 0 ? "-inf" : "inf", left_ + right_ + 1);
    if (exponents_) {
      Scientific parts = scientific_parts(x, dtype_);
      parts.fraction.resize(precision_, '0');
      return pad_left(parts.whole, left_) + "." + parts.fraction + parts.exponent;
    }
    std::string text = positional(x, dtype_);
    const size_t point = text.find('.');
    text = std::string(left_ - std::min(left_, point), ' ') + text;
    text.resize(left_ + 1 + right_, ' ');
    return text;
  }

 private:
  static std::string pad_left(const std::string& text, size_t width) {
    return std::string(width - std::min(width, text.size()), ' ') + text;
  }
  DType dtype_;
  bool exponents_ = false;
  size_t left_ = 0, right_ = 0, precision_ = 0, exponent_ = 0;
};

// ---- brackets and lines ----
class Printer {
 public:
  explicit Printer(const Tensor& x)
      : view_(tenon::view(x)), summarise_(x.size() > kThreshold), suffix_(fmt::format(", {})", name(x.dtype()))) {}

  std::string print() {
    collect(0, view_.offset);
    format();
    return fmt::format("{}{}{}", kPrefix, axis(0, std::string(kPrefix.size() + 1, ' '), kLineWidth - suffix_.size()),
                       suffix_);
  }

 private:
  // The positions that are shown on an axis; -1 stands for the gap.
  [[nodiscard]] std::vector<int64_t> shown(size_t dimension) const {
    const int64_t n = view_.shape[dimension];
    std::vector<int64_t> positions;
    const bool gap = summarise_ && n > 2 * kEdge;
    for (int64_t i = 0; i < n; ++i) {
      if (gap && i == kEdge) {
        positions.push_back(-1);
        i = n - kEdge;
      }
      positions.push_back(i);
    }
    return positions;
  }

  void collect(size_t dimension, int64_t element) {
    if (dimension == view_.shape.size()) {
      elements_.push_back(element);
      return;
    }
    for (int64_t i : shown(dimension)) {
      if (i >= 0) collect(dimension + 1, element + i * view_.strides[dimension]);
    }
  }

  void format() {
    if (is_float(view_.dtype)) {
      std::vector<double> values;
      values.reserve(elements_.size());
      for (int64_t element : elements_) values.push_back(load_real(view_, element));
      const FloatFormat format(values, view_.dtype);
      for (double value : values) words_.push_back(format(value));
      return;
    }
    size_t width = 0;
    for (int64_t element : elements_) {
      const int64_t value = load_integer(view_, element);
      if (view_.dtype == DType::Bool) {
        words_.emplace_back(value ? (view_.shape.empty() ? "True" : " True") : "False");
      } else {
        words_.push_back(view_.dtype == DType::U64 ? fmt::format("{}", static_cast<uint64_t>(value))
                                                   : fmt::format("{}", value));
      }
      width = std::max(width, words_.back().size());
    }
    if (view_.dtype == DType::Bool) return;
    for (std::string& word : words_) word.insert(0, width - word.size(), ' ');
  }

  static void extend(std::string& done, std::string& line, const std::string& word, size_t width,
                     const std::string& indent) {
    if (line.size() + word.size() > width && line.size() > indent.size()) {
      line.erase(line.find_last_not_of(' ') + 1);
      done += line + "\n";
      line = indent;
    }
    line += word;
  }

  std::string axis(size_t dimension, const std::string& indent, size_t width) {
    if (dimension == view_.shape.size()) return words_[next_++];
    const std::vector<int64_t> positions = shown(dimension);
    const bool last_axis = dimension + 1 == view_.shape.size();
    const std::string break_line = "," + std::string(view_.shape.size() - dimension - 1, '\n');
    std::string text, line = indent;
    for (size_t i = 0; i < positions.size(); ++i) {
      const std::string part = positions[i] < 0 ? "..." : axis(dimension + 1, indent + " ", width - 1);
      if (last_axis) {
        extend(text, line, part, width - 1, indent);
        if (i + 1 < positions.size()) line += ", ";
      } else {
        text += indent + part + (i + 1 < positions.size() ? break_line : "");
      }
    }
    if (last_axis) text += line;
    return "[" + text.substr(indent.size()) + "]";
  }

  ConstView view_;
  bool summarise_;
  std::string suffix_;
  std::vector<int64_t> elements_;
  std::vector<std::string> words_;
  size_t next_ = 0;
};

}  // namespace

std::string to_string(const Tensor& x) {
  if (!x.defined()) return "tensor(undefined)";
  if (const SparseRows* rows = sparse_rows(x)) {
    return fmt::format("tensor(rows {} of {}: {})", to_string(rows->indices), to_string(x.type()),
                       to_string(rows->values));
  }
  if (!x.is_concrete()) return fmt::format("tensor({} without elements)", to_string(x.type()));
  if (x.size() == 0) return fmt::format("tensor([], {})", to_string(x.type()));
  return Printer(x).print();
}

std::ostream& operator<<(std::ostream& stream, const Tensor& x) { return stream << to_string(x); }

}  // namespace tenon
