#include "tenon/formats/onnx/backend_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/exec/evaluate.h"
#include "tenon/formats/onnx/call.h"
#include "tenon/formats/onnx/prepared_model.h"

namespace tenon::formats::onnx {
namespace {

namespace fs = std::filesystem;

struct Mapped {
  std::shared_ptr<const MappedFile> file;
  [[nodiscard]] std::string_view text() const {
    return {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
  }
};

Value value_of(const SequenceData& data, const std::shared_ptr<const void>& owner, const std::string& where) {
  Sequence s;
  for (const auto& t : data.tensors) s.items.push_back(read_tensor(t, owner, {}, where));
  for (const auto& inner : data.sequences) s.items.push_back(value_of(inner, owner, where));
  return s;
}

Value read_value(const fs::path& path, const TypeData& type) {
  const Mapped m{std::make_shared<const MappedFile>(path)};
  const std::string where = path.string();
  if (type.kind == TypeData::Kind::Sequence) return value_of(parse_sequence(m.text(), where), m.file, where);
  if (type.kind == TypeData::Kind::Optional) {
    const OptionalData data = parse_optional(m.text(), where);
    if (data.tensor) return read_tensor(*data.tensor, m.file, {}, where);
    if (data.sequence) return value_of(*data.sequence, m.file, where);
    return {};
  }
  if (type.kind != TypeData::Kind::Tensor)
    throw UnsupportedError({where, "a value of a kind that is not known", {}, {}, {}});
  return read_tensor(parse_tensor(m.text(), where), m.file, {}, where);
}

// The values of set `set`: as many files as there are.
std::vector<fs::path> files_of(const fs::path& set, const char* prefix) {
  std::vector<fs::path> list;
  for (int i = 0; fs::exists(set / fmt::format("{}_{}.pb", prefix, i)); ++i)
    list.push_back(set / fmt::format("{}_{}.pb", prefix, i));
  return list;
}

struct Comparison {
  double relative = 1e-3, absolute = 1e-7;
  bool random = false;
};

std::string compare_numbers(const Tensor& got, const Tensor& want, const Comparison& how) {
  if (got.dtype() != want.dtype()) return fmt::format("dtype {}, expected {}", name(got.dtype()), name(want.dtype()));
  if (got.shape() != want.shape())
    return fmt::format("shape {}, expected {}", to_string(got.shape()), to_string(want.shape()));
  const auto a = got.to_vector<double>(), b = want.to_vector<double>();
  if (how.random) {
    if (a.empty()) return {};
    const auto moments = [](const std::vector<double>& v) {
      const auto n = static_cast<double>(v.size());
      const double mean = std::accumulate(v.begin(), v.end(), 0.0) / n;
      double square = 0;
      for (double x : v) square += (x - mean) * (x - mean);
      return std::pair{mean, std::sqrt(square / n)};
    };
    const auto [mean_a, deviation_a] = moments(a);
    const auto [mean_b, deviation_b] = moments(b);
    // Six standard errors of the difference of two means, and as much leeway for few samples.
    const double error =
        std::sqrt((deviation_a * deviation_a + deviation_b * deviation_b) / static_cast<double>(a.size()));
    if (std::abs(mean_a - mean_b) > 6 * error + 1e-6) return fmt::format("mean {}, expected about {}", mean_a, mean_b);
    const double unsure = std::max(deviation_a, deviation_b) / std::sqrt(2 * static_cast<double>(a.size()));
    if (std::abs(deviation_a - deviation_b) > 6 * unsure + 1e-6)
      return fmt::format("deviation {}, expected about {}", deviation_a, deviation_b);
    return {};
  }
  size_t wrong = 0, first = 0;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool both_nan = std::isnan(a[i]) && std::isnan(b[i]);
    if (both_nan || a[i] == b[i]) continue;
    const double gap = std::abs(a[i] - b[i]);
    if (gap <= how.absolute + how.relative * std::abs(b[i])) continue;
    if (wrong++ == 0) first = i;
    worst = std::isnan(gap) ? gap : std::max(worst, gap);
  }
  if (wrong == 0) return {};
  return fmt::format("{} of {} elements differ, largest difference {}; element {}: {}, expected {}", wrong, a.size(),
                     worst, first, a[first], b[first]);
}

std::string compare(const Value& got, const Value& want, const Comparison& how) {
  if (const Tensor* a = got.tensor()) {
    const Tensor* b = want.tensor();
    return b ? compare_numbers(*a, *b, how) : fmt::format("{}, expected {}", got.describe(), want.describe());
  }
  if (const Codes* a = got.codes()) {
    const Codes* b = want.codes();
    if (!b || a->type != b->type) return fmt::format("{}, expected {}", got.describe(), want.describe());
    return compare_numbers(decode(*a), decode(*b), how);
  }
  if (const Texts* a = got.texts()) {
    const Texts* b = want.texts();
    if (!b || a->shape != b->shape) return fmt::format("{}, expected {}", got.describe(), want.describe());
    for (size_t i = 0; i < a->values.size(); ++i) {
      if (a->values[i] == b->values[i]) continue;
      // Numbers as texts may be written in more than one way.
      char* end = nullptr;
      const double x = std::strtod(a->values[i].c_str(), &end);
      const bool number = end != a->values[i].c_str() && *end == '\0';
      const double y = std::strtod(b->values[i].c_str(), &end);
      if (number && end != b->values[i].c_str() &&
          (std::abs(x - y) <= 1e-6 * std::abs(y) || (std::isnan(x) && std::isnan(y))))
        continue;
      return fmt::format("text {}: '{}', expected '{}'", i, a->values[i], b->values[i]);
    }
    return {};
  }
  if (const Sequence* a = got.sequence()) {
    const Sequence* b = want.sequence();
    if (!b || a->items.size() != b->items.size())
      return fmt::format("{}, expected {}", got.describe(), want.describe());
    for (size_t i = 0; i < a->items.size(); ++i) {
      const std::string difference = compare(a->items[i], b->items[i], how);
      if (!difference.empty()) return fmt::format("item {}: {}", i, difference);
    }
    return {};
  }
  return want.empty() ? std::string() : fmt::format("nothing, expected {}", want.describe());
}

// Empty if the bits are the same; of a NaN only that it is one.
std::string bits_apart(const Value& got, const Value& want) {
  if (const Tensor *a = got.tensor(), *b = want.tensor(); a && b && a->type() == b->type()) {
    const Tensor x = exec::contiguous(*a), y = exec::contiguous(*b);
    if (std::ranges::equal(x.data<std::byte>(), y.data<std::byte>())) return {};
    // Half bytes may end in the middle of a byte.
    const bool half = info(x.dtype()).bits < 8;
    if (!is_float(x.dtype()) && !(half && x.to_vector<int64_t>() == y.to_vector<int64_t>()))
      return "other whole numbers";
  }
  return compare(got, want, {.relative = 0, .absolute = 0});
}

bool any_node(const std::vector<NodeData>& nodes, const std::function<bool(const NodeData&)>& test) {
  return std::any_of(nodes.begin(), nodes.end(), [&](const NodeData& node) {
    if (test(node)) return true;
    return std::any_of(node.attributes.begin(), node.attributes.end(),
                       [&](const Attribute& a) { return a.graph && any_node(a.graph->nodes, test); });
  });
}

void run_set(const PreparedModel& prepared, const fs::path& set, Comparison how) {
  const Model& model = prepared.model();
  const auto& graph = model.data().graph;
  std::map<std::string, Value> inputs;
  const auto in_files = files_of(set, "input"), out_files = files_of(set, "output");
  for (size_t i = 0; i < in_files.size() && i < graph.inputs.size(); ++i)
    inputs[graph.inputs[i].name] = read_value(in_files[i], graph.inputs[i].type);
  const Values got = model.run(inputs);
  if (!how.random) {
    // Dropout is random in training only: then two runs differ.
    const Values again = model.run(inputs);
    for (size_t i = 0; i < got.size() && !how.random; ++i) how.random = !compare(got[i], again[i], {}).empty();
  }
  for (const char* run : {"the first", "the second"}) {
    const Values also = prepared.run(inputs);
    for (size_t i = 0; i < got.size() && !how.random; ++i) {
      if (const std::string apart = bits_apart(also[i], got[i]); !apart.empty())
        throw NumericError({fmt::format("{} run of the prepared model", run), apart, {}, {}, {}});
    }
  }
  for (size_t i = 0; i < out_files.size() && i < got.size(); ++i) {
    const Value want = read_value(out_files[i], graph.outputs[i].type);
    const std::string difference = compare(got[i], want, how);
    if (!difference.empty())
      throw NumericError({fmt::format("output {} ('{}')", i, graph.outputs[i].name), difference, {}, {}, {}});
  }
}

CaseResult run_case(const fs::path& folder, const std::string& name) {
  CaseResult result{name, CaseResult::Outcome::Passed, {}};
  try {
    const PreparedModel model = PreparedModel::load(folder / "model.onnx");
    Comparison how;
    how.random = any_node(model.model().data().graph.nodes, [](const NodeData& node) {
      const Rule* rule = find_rule(node.domain, node.op_type);
      return rule && rule->random;
    });
    bool any = false;
    for (int set = 0; fs::exists(folder / fmt::format("test_data_set_{}", set)); ++set) {
      run_set(model, folder / fmt::format("test_data_set_{}", set), how);
      any = true;
    }
    if (!any) {
      result.outcome = CaseResult::Outcome::Skipped;
      result.reason = "no test data beside the model";
    }
    const PreparedModel::Report report = model.report();
    result.program = report.program_runs > 0;
    result.node_reason = report.reason;
  } catch (const UnsupportedError& error) {
    result.outcome = CaseResult::Outcome::Skipped;
    result.reason = error.what();
  } catch (const std::exception& error) {
    result.outcome = CaseResult::Outcome::Failed;
    result.reason = error.what();
  }
  std::replace(result.reason.begin(), result.reason.end(), '\n', ' ');
  return result;
}

}  // namespace

std::vector<CaseResult> run_backend_tests(const fs::path& root, const std::function<void(const CaseResult&)>& each) {
  if (!fs::is_directory(root)) throw FileError({root.string(), "not a folder", {}, {}, {}});
  std::vector<fs::path> folders;
  if (fs::exists(root / "model.onnx")) folders.push_back(root);
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_directory() && fs::exists(entry.path() / "model.onnx")) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  if (folders.empty()) throw FileError({root.string(), "no folder here holds a model.onnx", {}, {}, {}});
  std::vector<CaseResult> results;
  for (const auto& folder : folders) {
    const std::string relative = folder.lexically_relative(root).string();
    results.push_back(run_case(folder, relative == "." ? folder.filename().string() : relative));
    if (each) each(results.back());
  }
  return results;
}

}  // namespace tenon::formats::onnx
