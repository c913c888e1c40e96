#include "tenon/models/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/mapped_pages.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/state.h"

namespace tenon::models {

using text::Object;
using text::Value;

int64_t Settings::count(std::string_view name, int64_t fallback, int64_t most) const {
  return text::count_field(values, name, fallback, most, where);
}

int64_t Settings::size(std::string_view name, int64_t most) const {
  const int64_t value = text::as_count(text::get_field(values, name, where), name, most, where);
  if (value == 0) text::fail_field(where, name, "at least 1", text::find_field(values, name));
  return value;
}

double Settings::real(std::string_view name, double fallback) const {
  return text::real_field(values, name, fallback, where);
}

bool Settings::flag(std::string_view name, bool fallback) const {
  return text::bool_field(values, name, fallback, where);
}

std::string Settings::string(std::string_view name, std::string fallback) const {
  return text::string_field(values, name, std::move(fallback), where);
}

std::vector<int64_t> Settings::sizes(std::string_view name, const std::vector<int64_t>& fallback) const {
  const Value* found = text::find_field(values, name);
  if (found == nullptr) return fallback;
  if (!found->is_list() || found->list().empty() || found->list().size() > static_cast<size_t>(kMostLayers))
    text::fail_field(where, name, "a list of sizes", found);
  std::vector<int64_t> list;
  for (const Value& entry : found->list()) {
    list.push_back(text::as_count(entry, name, kLargest, where));
    if (list.back() == 0) text::fail_field(where, name, "sizes of at least 1", found);
  }
  return list;
}

std::string Settings::architecture() const {
  const Value* found = text::find_field(values, "architectures");
  if (found == nullptr || !found->is_list() || found->list().empty() || !found->list()[0].is_string()) return {};
  return found->list()[0].string();
}

std::vector<std::string> Settings::labels() const {
  const Value* found = text::find_field(values, "id2label");
  if (found == nullptr || !found->is_object()) return {};
  std::vector<std::string> names;
  for (size_t i = 0; i < found->object().size(); ++i) {
    const Value* label = found->find(std::to_string(i));
    if (label == nullptr || !label->is_string()) return {};
    names.push_back(label->string());
  }
  return names;
}

void Settings::require(std::string_view name, std::initializer_list<std::string_view> accepted) const {
  const std::string value = string(name, std::string(*accepted.begin()));
  for (const auto& one : accepted)
    if (value == one) return;
  throw UnsupportedError({.where = where,
                          .problem = fmt::format("'{}' is '{}'", name, value),
                          .expected = fmt::format("{}", fmt::join(accepted, " or "))});
}

void Settings::divides(std::string_view part, int64_t divisor, std::string_view whole, int64_t dividend) const {
  if (divisor < 1 || dividend % divisor != 0)
    text::fail_field(where, part, fmt::format("a divisor of {}", whole), text::find_field(values, part));
}

Settings read_settings(const std::filesystem::path& path) {
  Settings settings{text::parse_json(read_text_file(path), path.string()), path.string()};
  if (!settings.values.is_object()) text::fail_field(settings.where, "the file", "an object", &settings.values);
  return settings;
}

void write_config(const std::filesystem::path& folder, Object config) {
  write_file_atomic(folder / "config.json", text::to_json(Value(std::move(config)), 2) + "\n");
}

void add_labels(Object& config, std::vector<std::string> labels, int64_t count) {
  for (auto i = static_cast<int64_t>(labels.size()); i < count; ++i) labels.push_back("LABEL_" + std::to_string(i));
  Object names, numbers;
  for (size_t i = 0; i < labels.size(); ++i) {
    names.emplace_back(std::to_string(i), labels[i]);
    numbers.emplace_back(labels[i], static_cast<int64_t>(i));
  }
  config.emplace_back("id2label", std::move(names));
  config.emplace_back("label2id", std::move(numbers));
}

namespace {
// Half precision as f32, which the models compute in. Weights that lie in the mapped file are the only ones whose
// memory is not writable: they are read in pieces, whose pages are given back, so that only the numbers stay.
Tensor widened(const Tensor& x) {
  if (x.dtype() != DType::F16 && x.dtype() != DType::BF16) return x;
  const NoGrad no_grad;
  if (x.impl()->buffer->writable() || !x.is_contiguous()) return cast(x, DType::F32);
  constexpr int64_t kPiece = 1 << 20;  // elements
  const Tensor flat = reshape(x, {x.size()});
  const auto bytes = flat.data<std::byte>();
  Tensor wide = empty(x.shape(), DType::F32);
  for (int64_t at = 0; at < x.size(); at += kPiece) {
    const int64_t count = std::min(kPiece, x.size() - at);
    const Tensor piece = cast(narrow(flat, 0, at, count), DType::F32);
    std::memcpy(mutable_data(wide) + 4 * at, piece.data<std::byte>().data(), static_cast<size_t>(4 * count));
    release_mapped_pages(bytes.subspan(static_cast<size_t>(2 * at), static_cast<size_t>(2 * count)), bytes);
  }
  return wide;
}
}  // namespace

StateDict weights_of(const std::filesystem::path& folder, std::string_view prefix,
                     std::initializer_list<std::string_view> ignored_endings) {
  const StateDict all = formats::load_checkpoint(folder);
  StateDict kept;
  for (const auto& [name, tensor] : all) {
    bool ignored = false;
    for (const auto& ending : ignored_endings) ignored |= name.ends_with(ending);
    if (ignored) continue;
    kept.set(!prefix.empty() && name.starts_with(prefix) ? name.substr(prefix.size()) : name, widened(tensor));
  }
  return kept;
}

}  // namespace tenon::models
