// Reading packages: nothing in the file is believed before it is checked.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <mutex>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/nearest.h"
#include "tenon/base/sha256.h"
#include "tenon/exec/program.h"
#include "tenon/formats/package.h"
#include "tenon/formats/package_format.h"
#include "tenon/formats/safetensors.h"
#include "tenon/ir/specialize.h"
#include "tenon/ir/text.h"
#include "tenon/ops/catalog.h"
#include "tenon/ops/infer.h"

namespace tenon {

struct Package::State {
  std::string where;
  LoadOptions options;
  std::span<const std::byte> file;  // that weights point into, if they do
  StateDict weights;
  std::map<std::string, std::string> metadata, checksums;
  std::vector<std::string> names;
  std::map<std::string, ir::Graph, std::less<>> graphs;
  std::map<std::string, Signature, std::less<>> signatures;
  std::vector<std::string> labels;
  std::string preprocessing, producer;
  std::map<std::string, int> ops;

  // Programs for sizes that were asked for, so that a second call with the same sizes prepares nothing.
  std::mutex mutex;
  std::map<std::pair<const ir::Graph*, ir::Sizes>, std::shared_ptr<const exec::Program>> programs;
  std::shared_ptr<KeptConstants> kept = std::make_shared<KeptConstants>();
};

namespace {

using Json = nlohmann::json;
using formats::kPackageFormat;

[[noreturn]] void fail(const std::string& where, std::string problem, std::string expected = {}, std::string got = {}) {
  throw FormatError({where, std::move(problem), std::move(expected), std::move(got), {}});
}

// The texts of the metadata, by key.
class Texts {
 public:
  Texts(const std::map<std::string, std::string>& metadata, const std::string& where)
      : metadata_(metadata), where_(where) {}

  [[nodiscard]] const std::string* find(const std::string& key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const std::string& at(const std::string& key) const {
    const std::string* text = find(key);
    if (!text) fail(where_, fmt::format("the package has no {}", key));
    return *text;
  }
  [[nodiscard]] Json json(const std::string& key) const {
    try {
      return Json::parse(at(key), [](int depth, Json::parse_event_t, Json&) {
        if (depth > 16) throw FormatError({"json", "nested too deeply", {}, {}, {}});
        return true;
      });
    } catch (const Json::exception& error) {
      fail(where_, fmt::format("{} is not JSON", key), {}, error.what());
    } catch (const FormatError&) {
      fail(where_, fmt::format("{} is nested too deeply", key));
    }
  }
  [[nodiscard]] std::vector<std::string> list(const std::string& key) const {
    const Json value = json(key);
    std::vector<std::string> result;
    if (!value.is_array()) fail(where_, fmt::format("{} is not a list of texts", key));
    for (const Json& item : value) {
      if (!item.is_string()) fail(where_, fmt::format("{} is not a list of texts", key));
      result.push_back(item.get<std::string>());
    }
    return result;
  }

 private:
  const std::map<std::string, std::string>& metadata_;
  const std::string& where_;
};

void check_format(const Texts& texts, const std::string& where) {
  const std::string* format = texts.find("tenon.format");
  if (!format) fail(where, "a SafeTensors file, but no package: its metadata has no tenon.format");
  int number = 0;
  const auto [end, error] = std::from_chars(format->data(), format->data() + format->size(), number);
  if (error != std::errc() || end != format->data() + format->size() || number < 1)
    fail(where, "tenon.format is not a number", "1", format->substr(0, 40));
  if (number > kPackageFormat)
    throw UnsupportedError({where, "the package has a newer format than this Tenon reads",
                            fmt::format("at most {}", kPackageFormat), *format, "update Tenon"});
}

std::map<std::string, std::string> string_map(const Json& value, const std::string& where, const std::string& what) {
  std::map<std::string, std::string> result;
  if (!value.is_object()) fail(where, fmt::format("{} is not an object of texts", what));
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) fail(where, fmt::format("{} is not an object of texts", what));
    result[key] = text.get<std::string>();
  }
  return result;
}

// The checksums of all texts are right; gives those of the tensors.
std::map<std::string, std::string> check_sums(const Texts& texts, const std::map<std::string, std::string>& metadata,
                                              const StateDict& tensors, std::span<const std::byte> file,
                                              const std::string& where) {
  // Where the header has a text: found only when it is wanted.
  const auto place = [&](const std::string& key) {
    const auto at = formats::place_in_header(file, key);
    return at ? fmt::format(" at byte {}", *at) : std::string();
  };
  const Json sums = texts.json("tenon.sha256");
  if (!sums.is_object() || !sums.contains("texts") || !sums.contains("tensors"))
    fail(where, "tenon.sha256 has no texts and tensors");
  const auto of_texts = string_map(sums["texts"], where, "tenon.sha256: texts");
  for (const auto& [key, text] : metadata) {
    if (!key.starts_with("tenon.") || key == "tenon.sha256") continue;
    const auto found = of_texts.find(key);
    if (found == of_texts.end()) fail(where, fmt::format("tenon.sha256 has no checksum of {}{}", key, place(key)));
    const std::string real = sha256(std::as_bytes(std::span(text)));
    if (real != found->second)
      fail(where, fmt::format("{} is damaged{}: its checksum is another", key, place(key)), found->second.substr(0, 64),
           real);
  }
  for (const auto& [key, sum] : of_texts) {
    if (!metadata.contains(key)) fail(where, fmt::format("the package has no {}, of which it has a checksum", key));
  }
  auto of_tensors = string_map(sums["tensors"], where, "tenon.sha256: tensors");
  for (const auto& [name, tensor] : tensors) {
    if (!of_tensors.contains(name)) fail(where, fmt::format("tenon.sha256 has no checksum of the tensor \"{}\"", name));
  }
  return of_tensors;
}

// All ops that are missing or older here, at once.
std::map<std::string, int> check_ops(const Texts& texts, const std::string& where) {
  const Json ops = texts.json("tenon.ops");
  if (!ops.is_object()) fail(where, "tenon.ops is not an object of versions");
  std::map<std::string, int> result;
  std::string missing;
  for (const auto& [name, version] : ops.items()) {
    if (!version.is_number_integer() || version.get<int64_t>() < 1 || version.get<int64_t>() > 1'000'000)
      fail(where, "tenon.ops is not an object of versions");
    result[name] = version.get<int>();
    const ops::OpDef* op = ops::catalog().find(name);
    if (!op) {
      const std::string nearest(nearest_name(name, ops::catalog().names));
      missing +=
          fmt::format("\n  {}: not known{}", name, nearest.empty() ? "" : fmt::format("; the nearest is {}", nearest));
    } else if (ops::catalog().schema(*op).version < result[name]) {
      missing += fmt::format("\n  {}: version {} is needed, {} is here", name, result[name],
                             ops::catalog().schema(*op).version);
    }
  }
  if (!missing.empty())
    throw UnsupportedError(
        {where, "the package needs ops that this Tenon does not have:" + missing, {}, {}, "update Tenon"});
  return result;
}

Tensor unpacked(const Json& entry, const Tensor& stored, const std::string& name, const std::string& where) {
  const auto problem = [&] { fail(where, fmt::format("tenon.constants: \"{}\" has no valid dtype and shape", name)); };
  if (!entry["dtype"].is_string() || !entry.contains("shape") || !entry["shape"].is_array()) problem();
  TensorType type;
  bool known = false;
  for (const DTypeInfo& row : all_dtypes()) {
    if (row.name != entry["dtype"].get<std::string>() || row.bits >= 8) continue;
    type.dtype = row.dtype;
    known = true;
  }
  int64_t elements = 1;
  for (const Json& extent : entry["shape"]) {
    if (!extent.is_number_unsigned() || extent.get<uint64_t>() > (uint64_t{1} << 40)) problem();
    type.shape.push_back(extent.get<int64_t>());
    if (__builtin_mul_overflow(elements, type.shape.back(), &elements) || elements > (int64_t{1} << 50)) problem();
  }
  if (!known || stored.dtype() != DType::U8 || stored.ndim() != 1 || byte_size(type.dtype, elements) != stored.size())
    problem();
  return from_buffer(stored.impl()->buffer, type, stored.impl()->offset * 8 / info(type.dtype).bits);
}

Tensors constant_table(const Texts& texts, const StateDict& tensors, const std::string& where) {
  const Json list = texts.json("tenon.constants");
  if (!list.is_array()) fail(where, "tenon.constants is not a list");
  std::map<std::string_view, const Tensor*> by_name;
  for (const auto& [name, tensor] : tensors) by_name[name] = &tensor;
  Tensors table;
  for (const Json& entry : list) {
    if (!entry.is_object() || !entry.contains("tensor") || !entry["tensor"].is_string())
      fail(where, "tenon.constants: an entry names no tensor");
    const auto name = entry["tensor"].get<std::string>();
    const auto found = by_name.find(name);
    if (found == by_name.end()) fail(where, fmt::format("tenon.constants: the file has no tensor \"{}\"", name));
    table.push_back(entry.contains("dtype") ? unpacked(entry, *found->second, name, where) : *found->second);
  }
  return table;
}

// What ops::call makes sure of before it evaluates, as a check of foreign graphs.
std::vector<TensorType> strict_types(const ops::OpDef& op, std::span<const TensorType> in,
                                     std::span<const bool> present, const ir::Attrs& attrs) {
  const auto refuse = [&](std::string problem) {
    throw ValueError({std::string(op.name), std::move(problem), {}, {}, {}});
  };
  const bool variadic = !op.inputs.empty() && op.inputs.back().kind == ops::ArgKind::Variadic;
  if (variadic ? in.size() + 1 < op.inputs.size() : in.size() != op.inputs.size()) refuse("wrong number of inputs");
  if (std::holds_alternative<ops::DataDependent>(op.meaning) || !ops::has_infer(op)) refuse("not an op of a graph");
  int32_t first = -1;
  for (size_t i = 0; i < in.size(); ++i) {
    const ops::Arg& arg = op.inputs[std::min(i, op.inputs.size() - 1)];
    if (!present[i]) {
      if (arg.kind != ops::ArgKind::Optional) refuse(fmt::format("input '{}' is missing", arg.name));
      continue;
    }
    if (!arg.dtypes.has(in[i].dtype)) refuse(fmt::format("input '{}' has a dtype that is not accepted", arg.name));
    const bool promoted = op.promote.mask == -1 || (i < 31 && (op.promote.mask >> i & 1));
    if (!promoted) continue;
    if (first >= 0 && in[static_cast<size_t>(first)].dtype != in[i].dtype) refuse("its inputs have different dtypes");
    if (first < 0) first = static_cast<int32_t>(i);
  }
  return ops::infer_types({op, in, present, attrs});
}

const ir::TypeRule& strict_rule() {
  static const ir::TypeRule rule = strict_types;
  return rule;
}

ir::Graph read_graph(const Texts& texts, const std::string& name, const Tensors& table, const std::string& where) {
  const std::string key = "tenon.graph." + name;
  ir::Graph graph;
  try {
    graph = ir::parse(texts.at(key), ops::catalog(), table);
  } catch (const FormatError& error) {
    ErrorParts parts = error.parts();
    if (parts.where == where) throw;
    parts.problem = fmt::format("{}: {}", key, parts.problem);
    parts.where = where;
    throw FormatError(parts);
  }
  const std::string defect = ir::find_defect(graph, ops::catalog(), strict_rule());
  if (!defect.empty()) fail(where, fmt::format("{}: {}", key, defect));
  return graph;
}

}  // namespace

Package read_package(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                     const std::string& where, const LoadOptions& options) {
  formats::SafeTensors file = formats::read_safetensors(bytes, owner, where);
  const Texts texts(file.metadata, where);
  check_format(texts, where);
  auto state = std::make_shared<Package::State>();
  state->checksums = check_sums(texts, file.metadata, file.tensors, bytes, where);
  state->ops = check_ops(texts, where);
  const Tensors table = constant_table(texts, file.tensors, where);
  state->names = texts.list("tenon.functions");
  if (state->names.empty()) fail(where, "tenon.functions is empty");
  for (const std::string& name : state->names) {
    ir::Graph graph = read_graph(texts, name, table, where);
    state->signatures[name] = signature_of(graph);
    for (const ir::Node& node : graph.nodes) {
      if (!node.op) state->kept->hold(node.constant.impl()->buffer);
    }
    state->graphs.emplace(name, std::move(graph));
  }
  std::stable_partition(state->names.begin(), state->names.end(), [](const auto& name) { return name == "main"; });
  if (texts.find("tenon.labels")) state->labels = texts.list("tenon.labels");
  if (texts.find("tenon.preprocessing")) {
    (void)texts.json("tenon.preprocessing");
    state->preprocessing = texts.at("tenon.preprocessing");
  }
  state->producer = texts.at("tenon.producer");
  state->where = where;
  state->options = options;
  if (owner) state->file = bytes;
  state->weights = std::move(file.tensors);
  state->metadata = std::move(file.metadata);
  Package package;
  package.state_ = std::move(state);
  return package;
}

Package load(const std::filesystem::path& path, const LoadOptions& options) {
  const auto file = std::make_shared<const MappedFile>(path);
  return read_package(file->bytes(), file, path.string(), options);
}

std::vector<std::string> Package::functions() const { return state_->names; }

namespace {
template <class Map>
const auto& entry(const Package::State& state, const Map& map, std::string_view name) {
  const auto found = map.find(name);
  if (found != map.end()) return found->second;
  std::vector<std::string_view> names(state.names.begin(), state.names.end());
  throw IndexError({state.where, "the package has no function of this name", fmt::format("{}", fmt::join(names, ", ")),
                    std::string(name), std::string(nearest_name(name, names))});
}
}  // namespace

const ir::Graph& Package::graph(std::string_view function) const { return entry(*state_, state_->graphs, function); }
const Signature& Package::signature(std::string_view function) const {
  return entry(*state_, state_->signatures, function);
}

Tensors Package::run(std::string_view function, Tensors inputs) const {
  const ir::Graph& any = graph(function);
  std::pair<const ir::Graph*, ir::Sizes> key(&any, {});
  if (!any.sizes.empty()) {
    std::vector<TensorType> types;
    for (const Tensor& x : inputs) types.push_back(x.type());
    key.second = ir::bind_sizes(any, types);
  }
  std::shared_ptr<const exec::Program> program;
  {
    const std::lock_guard lock(state_->mutex);
    if (const auto found = state_->programs.find(key); found != state_->programs.end()) program = found->second;
  }
  if (!program) {
    // The state owns the graph and the programs: what a program holds of a graph without sizes is no share in it.
    std::shared_ptr<const ir::Graph> one(std::shared_ptr<const ir::Graph>(), &any);
    if (!any.sizes.empty()) one = std::make_shared<const ir::Graph>(ir::specialize(any, key.second, strict_rule()));
    program = std::make_shared<const exec::Program>(std::move(one), state_->kept, state_->options.precision);
    constexpr size_t kMost = 64;
    const std::lock_guard lock(state_->mutex);
    if (state_->programs.size() >= kMost) state_->programs.clear();
    state_->programs.emplace(key, program);
  }
  return program->run(std::move(inputs));
}

std::map<std::string, Tensor> Package::run(const std::map<std::string, Tensor>& inputs,
                                           std::string_view function) const {
  const Signature& sig = signature(function);
  Tensors in;
  std::vector<std::string_view> names;
  for (const TensorSpec& spec : sig.inputs) {
    names.push_back(spec.name);
    const auto found = inputs.find(spec.name);
    if (found == inputs.end())
      throw ValueError({state_->where, fmt::format("input '{}' is not given", spec.name), to_string(spec), {}, {}});
    in.push_back(found->second);
  }
  for (const auto& [name, x] : inputs) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw ValueError({state_->where,
                        fmt::format("there is no input '{}'", name),
                        fmt::format("{}", fmt::join(names, ", ")),
                        {},
                        std::string(nearest_name(name, names))});
  }
  Tensors out = run(function, std::move(in));
  std::map<std::string, Tensor> result;
  for (size_t i = 0; i < out.size(); ++i) result[sig.outputs[i].name] = std::move(out[i]);
  return result;
}

const StateDict& Package::weights() const { return state_->weights; }
const std::vector<std::string>& Package::labels() const { return state_->labels; }
const std::string& Package::preprocessing() const { return state_->preprocessing; }
const std::string& Package::producer() const { return state_->producer; }
const std::map<std::string, int>& Package::ops() const { return state_->ops; }
const std::map<std::string, std::string>& Package::metadata() const { return state_->metadata; }

namespace {
std::string place_in(std::span<const std::byte> file, const std::byte* at) {
  const bool inside = !file.empty() && at >= file.data() && at < file.data() + file.size();
  return inside ? fmt::format(" at byte {}", at - file.data()) : "";
}
}  // namespace

void Package::verify() const {
  for (const auto& [name, tensor] : state_->weights) {
    const std::string real = sha256(tensor.data<std::byte>());
    const std::string& expected = state_->checksums.at(name);
    if (real != expected)
      fail(state_->where,
           fmt::format("the tensor \"{}\" is damaged{}: its checksum is another", name,
                       place_in(state_->file, tensor.data<std::byte>().data())),
           expected.substr(0, 64), real);
  }
}

}  // namespace tenon
