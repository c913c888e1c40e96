#include "tenon/serve/tfs_wire.h"

#include <fmt/format.h>

#include <cstring>

#include "tenon/serve/status.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::serve {
namespace {

// Calls fn(key, value) for one entry of a map.
template <class Fn>
void map_entry(WireReader in, Fn&& fn) {
  std::string key;
  WireReader value{std::span<const std::span<const std::byte>>()};
  uint64_t number = 0;
  while (in.next()) {
    if (in.field() == 1)
      key = in.text();
    else if (in.field() == 2 && in.type() == WireType::Bytes)
      value = in.sub();
    else if (in.field() == 2 && in.type() == WireType::Varint)
      number = in.varint();
    else
      in.skip();
  }
  fn(std::move(key), value, number);
}

std::vector<int64_t> read_shape(WireReader in) {
  std::vector<int64_t> dims;
  while (in.next()) {
    if (in.field() == 2) {
      WireReader dim = in.sub();
      int64_t size = 0;
      while (dim.next()) {
        if (dim.field() == 1)
          size = dim.int64();
        else
          dim.skip();
      }
      dims.push_back(size);
      if (dims.size() > 254) refuse("a tensor has too many axes");
    } else if (in.field() == 3 && in.boolean()) {
      refuse("a tensor's shape must be known");
    } else if (in.field() != 3) {
      in.skip();
    }
  }
  return dims;
}

WireWriter write_shape(std::span<const int64_t> dims, bool has_rank = true) {
  WireWriter out;
  for (int64_t d : dims) {
    WireWriter dim;
    dim.integer(1, d);
    out.message(2, dim);
  }
  if (!has_rank) out.varint(3, 1);
  return out;
}

// The typed lists of a TensorProto.
struct Lists {
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<int64_t> integers;  // int_val, int64_val, half_val, uint32_val, uint64_val
  std::vector<bool> bools;
  std::vector<std::string> texts;

  [[nodiscard]] size_t count() const {
    return floats.size() + doubles.size() + integers.size() + bools.size() + texts.size();
  }
};

template <class T>
void read_reals(WireReader& in, std::vector<T>& out) {
  if (in.type() != WireType::Bytes) {
    if constexpr (sizeof(T) == 4)
      out.push_back(in.real32());
    else
      out.push_back(in.real64());
    return;
  }
  const size_t n = in.length();
  if (n % sizeof(T) != 0) refuse("a packed list of numbers has a broken length");
  const size_t before = out.size();
  out.resize(before + n / sizeof(T));
  if (n > 0) in.copy(reinterpret_cast<std::byte*>(out.data() + before), n);
}

Value from_lists(const Lists& lists, ElementType type, const Shape& shape, int64_t count, const std::string& name) {
  const auto given = static_cast<int64_t>(lists.count());
  if (given > count || (given == 0 && count > 0))
    refuse(fmt::format("tensor '{}' has {} values; its shape says {}", name, given, count));
  // A repeated value makes a large tensor of a small message; there is a limit to that.
  if (count > given && count > int64_t{1} << 24)
    refuse(fmt::format("tensor '{}' repeats a value more than {} times", name, 1 << 24));
  if (type.strings()) {
    if (static_cast<int64_t>(lists.texts.size()) != given)
      refuse(fmt::format("tensor '{}' mixes lists of values", name));
    Strings out{shape, lists.texts};
    if (count > 0) out.values.resize(static_cast<size_t>(count), lists.texts.back());
    return out;
  }
  Tensor out = empty(shape, *type.dtype);
  if (count == 0) return out;
  const View view = mutable_view(out);
  const bool half = *type.dtype == DType::F16 || *type.dtype == DType::BF16;
  const auto fill = [&](const auto& list, auto&& store) {
    if (static_cast<int64_t>(list.size()) != given || given == 0)
      refuse(fmt::format("tensor '{}' has values of another type than its dtype", name));
    for (int64_t i = 0; i < count; ++i) store(i, list[static_cast<size_t>(std::min(i, given - 1))]);
  };
  if (*type.dtype == DType::F32) {
    fill(lists.floats, [&](int64_t i, float v) { view.as<float>()[i] = v; });
  } else if (*type.dtype == DType::F64) {
    fill(lists.doubles, [&](int64_t i, double v) { view.as<double>()[i] = v; });
  } else if (*type.dtype == DType::Bool) {
    fill(lists.bools, [&](int64_t i, bool v) { view.as<uint8_t>()[i] = v ? 1 : 0; });
  } else if (half) {  // the bits
    fill(lists.integers, [&](int64_t i, int64_t v) { view.as<uint16_t>()[i] = static_cast<uint16_t>(v); });
  } else {
    fill(lists.integers, [&](int64_t i, int64_t v) { store_integer(view, i, v); });
  }
  return out;
}

Feature read_feature(WireReader in) {
  Feature out = std::vector<int64_t>();
  while (in.next()) {
    const int kind = in.field();
    if (kind < 1 || kind > 3) {
      in.skip();
      continue;
    }
    WireReader list = in.sub();
    std::vector<std::string> texts;
    std::vector<float> floats;
    std::vector<int64_t> integers;
    while (list.next()) {
      if (list.field() != 1)
        list.skip();
      else if (kind == 1)
        texts.push_back(list.text());
      else if (kind == 2)
        read_reals(list, floats);
      else
        list.repeated([&](WireReader& r) { integers.push_back(r.int64()); });
    }
    if (kind == 1)
      out = std::move(texts);
    else if (kind == 2)
      out = std::move(floats);
    else
      out = std::move(integers);
  }
  return out;
}

Example read_example(WireReader in) {
  Example out;
  while (in.next()) {
    if (in.field() != 1) {
      in.skip();
      continue;
    }
    WireReader features = in.sub();
    while (features.next()) {
      if (features.field() != 1) {
        features.skip();
        continue;
      }
      map_entry(features.sub(),
                [&](const std::string& key, WireReader value, uint64_t) { out[key] = read_feature(value); });
    }
  }
  return out;
}

WireWriter write_tensor_info(const TensorSpec& spec) {
  WireWriter out;
  out.text(1, spec.name + ":0");
  out.integer(2, tf_number(spec.type));
  out.message(3, write_shape(spec.dims, spec.has_rank));
  return out;
}

}  // namespace

ModelSpec read_model_spec(WireReader in) {
  ModelSpec out;
  while (in.next()) {
    switch (in.field()) {
      case 1:
        out.ref.name = in.text();
        break;
      case 2: {
        WireReader value = in.sub();
        out.ref.version = 0;
        while (value.next()) {
          if (value.field() == 1)
            out.ref.version = value.int64();
          else
            value.skip();
        }
        break;
      }
      case 3:
        out.signature = in.text();
        break;
      case 4:
        out.ref.label = in.text();
        break;
      default:
        in.skip();
    }
  }
  return out;
}

WireWriter write_model_spec(const std::string& name, int64_t version, const std::string& signature) {
  WireWriter out, number;
  out.text(1, name);
  number.integer(1, version);
  out.message(2, number);
  out.text(3, signature);
  return out;
}

Value read_tensor(WireReader in, const std::shared_ptr<const void>& owner, const std::string& name) {
  int dtype = 0;
  std::vector<int64_t> dims;
  WireReader content{std::span<const std::span<const std::byte>>()};
  Lists lists;
  while (in.next()) {
    switch (in.field()) {
      case 1:
        dtype = in.int32();
        break;
      case 2:
        dims = read_shape(in.sub());
        break;
      case 4:
        content = in.sub();
        break;
      case 5:
        read_reals(in, lists.floats);
        break;
      case 6:
        read_reals(in, lists.doubles);
        break;
      case 8:
        lists.texts.push_back(in.text());
        break;
      case 11:
        in.repeated([&](WireReader& r) { lists.bools.push_back(r.boolean()); });
        break;
      case 7:
      case 10:
      case 13:
      case 16:
      case 17:
        in.repeated([&](WireReader& r) { lists.integers.push_back(r.int64()); });
        break;
      default:
        in.skip();
    }
  }
  const ElementType type = type_from_tf(dtype);
  const int64_t count = checked_count(dims, name);
  Shape shape;
  for (int64_t d : dims) shape.push_back(d);
  if (content.left() == 0) return from_lists(lists, type, shape, count, name);
  if (type.strings()) refuse(fmt::format("tensor '{}': strings come as string_val", name));
  const int64_t bytes = byte_size(*type.dtype, count);
  if (static_cast<int64_t>(content.left()) != bytes)
    refuse(fmt::format("tensor '{}' has {} bytes; its shape and dtype take {}", name, content.left(), bytes));
  if (const auto whole = content.in_place(static_cast<size_t>(bytes)); !whole.empty())
    return tensor_over(whole, owner, *type.dtype, shape);
  Tensor out = empty(shape, *type.dtype);
  content.copy(mutable_data(out), static_cast<size_t>(bytes));
  return out;
}

WireWriter write_tensor(const Value& value, bool typed_lists) {
  WireWriter out;
  const ElementType type = type_of(value);
  out.integer(1, tf_number(type));
  const Shape& shape = shape_of(value);
  out.message(2, write_shape({shape.begin(), shape.end()}));
  if (const auto* strings = std::get_if<Strings>(&value)) {
    for (const auto& text : strings->values) out.bytes(8, text);
    return out;
  }
  const auto& tensor = std::get<Tensor>(value);
  if (tensor.size() == 0) return out;
  const auto bytes = bytes_of(tensor);
  const auto packed = [&](int field) { out.chunk(field, {bytes, std::make_shared<const Tensor>(tensor)}); };
  if (!typed_lists) {
    packed(4);
    return out;
  }
  // Packed floats are their bytes; the integers are varints.
  if (tensor.dtype() == DType::F32) {
    packed(5);
  } else if (tensor.dtype() == DType::F64) {
    packed(6);
  } else {
    std::vector<int64_t> values;
    if (tensor.dtype() == DType::F16 || tensor.dtype() == DType::BF16) {
      for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
        uint16_t bits = 0;
        std::memcpy(&bits, bytes.data() + i, 2);
        values.push_back(bits);
      }
    } else {
      const ConstView v = view(tensor);
      for (int64_t i = 0; i < tensor.size(); ++i) values.push_back(load_integer(v, v.offset + i));
    }
    int field = 7;
    switch (tensor.dtype()) {
      case DType::I64:
        field = 10;
        break;
      case DType::Bool:
        field = 11;
        break;
      case DType::F16:
      case DType::BF16:
        field = 13;
        break;
      case DType::U32:
        field = 16;
        break;
      case DType::U64:
        field = 17;
        break;
      default:
        break;
    }
    out.packed_varints(field, values);
  }
  return out;
}

PredictMessage read_predict(WireReader in, const std::shared_ptr<const void>& owner) {
  PredictMessage out;
  while (in.next()) {
    switch (in.field()) {
      case 1:
        out.spec = read_model_spec(in.sub());
        break;
      case 2:
        map_entry(in.sub(), [&](std::string key, WireReader value, uint64_t) {
          Value tensor = read_tensor(value, owner, key);
          std::erase_if(out.inputs, [&](const auto& v) { return v.name == key; });  // as maps: the last one counts
          out.inputs.push_back({std::move(key), std::move(tensor)});
        });
        break;
      case 3:
        out.outputs.push_back(in.text());
        break;
      default:
        in.skip();
    }
  }
  return out;
}

namespace {
WireWriter write_entry(const NamedValue& v, bool typed_lists) {
  WireWriter entry;
  entry.text(1, v.name);
  entry.message(2, write_tensor(v.value, typed_lists));
  return entry;
}
}  // namespace

WireWriter write_predict(const PredictMessage& message) {
  WireWriter out, spec;
  spec.text(1, message.spec.ref.name);
  if (message.spec.ref.version) {
    WireWriter number;
    number.integer(1, *message.spec.ref.version);
    spec.message(2, number);
  }
  spec.text(3, message.spec.signature);
  spec.text(4, message.spec.ref.label);
  out.message(1, spec);
  for (const auto& v : message.inputs) out.message(2, write_entry(v, false));
  for (const auto& name : message.outputs) out.bytes(3, name);
  return out;
}

WireWriter write_predict_answer(const std::vector<NamedValue>& outputs, const WireWriter& spec, bool typed_lists) {
  WireWriter out;
  for (const auto& v : outputs) out.message(1, write_entry(v, typed_lists));
  out.message(2, spec);
  return out;
}

std::vector<NamedValue> read_predict_answer(WireReader in, const std::shared_ptr<const void>& owner) {
  std::vector<NamedValue> out;
  while (in.next()) {
    if (in.field() != 1) {
      in.skip();
      continue;
    }
    map_entry(in.sub(), [&](std::string key, WireReader value, uint64_t) {
      Value tensor = read_tensor(value, owner, key);
      out.push_back({std::move(key), std::move(tensor)});
    });
  }
  return out;
}

std::vector<Example> read_examples(WireReader in) {
  std::vector<Example> out;
  Example context;
  while (in.next()) {
    if (in.field() != 1 && in.field() != 2) {
      in.skip();
      continue;
    }
    const bool with_context = in.field() == 2;
    WireReader list = in.sub();
    while (list.next()) {
      if (list.field() == 1)
        out.push_back(read_example(list.sub()));
      else if (list.field() == 2 && with_context)
        context = read_example(list.sub());
      else
        list.skip();
    }
  }
  for (auto& example : out) {
    for (const auto& [name, feature] : context) example.emplace(name, feature);
  }
  if (out.empty()) refuse("Input is empty: there is no example");
  return out;
}

WireWriter write_classifications(const std::vector<std::vector<ScoredClass>>& results) {
  WireWriter out;
  for (const auto& classes : results) {
    WireWriter one;
    for (const auto& c : classes) {
      WireWriter scored;
      scored.text(1, c.label);
      scored.real32(2, c.score);
      one.message(1, scored);
    }
    out.message(1, one);
  }
  return out;
}

WireWriter write_regressions(const std::vector<float>& results) {
  WireWriter out;
  for (float v : results) {
    WireWriter one;
    one.real32(1, v);
    out.message(1, one);
  }
  return out;
}

WireWriter write_signature_map(const Model& model) {
  WireWriter signature;
  const auto add = [&](int field, const std::vector<TensorSpec>& specs) {
    for (const auto& spec : specs) {
      WireWriter entry;
      entry.text(1, spec.name);
      entry.message(2, write_tensor_info(spec));
      signature.message(field, entry);
    }
  };
  add(1, model.inputs());
  add(2, model.outputs());
  signature.text(3, "tensorflow/serving/predict");
  WireWriter entry, out;
  entry.text(1, "serving_default");
  entry.message(2, signature);
  out.message(1, entry);
  return out;
}

WireWriter write_status(const std::vector<VersionStatus>& versions) {
  WireWriter out;
  for (const auto& v : versions) {
    WireWriter one, status;
    one.integer(1, v.version);
    one.integer(2, static_cast<int>(v.state));
    status.integer(1, static_cast<int>(v.status.code));
    status.text(2, v.status.message);
    one.message(3, status);
    out.message(1, one);
  }
  return out;
}

// ---- configuration ----

namespace {

VersionPolicy read_policy(WireReader in) {
  VersionPolicy out;
  while (in.next()) {
    const int field = in.field();
    if (field < 100 || field > 102) {
      in.skip();
      continue;
    }
    WireReader body = in.sub();
    out.kind = field == 100   ? VersionPolicy::Kind::Latest
               : field == 101 ? VersionPolicy::Kind::All
                              : VersionPolicy::Kind::Specific;
    while (body.next()) {
      if (body.field() == 1 && field == 100)
        out.latest = std::max<int64_t>(1, body.int64());
      else if (body.field() == 1 && field == 102)
        body.repeated([&](WireReader& r) { out.specific.push_back(r.int64()); });
      else
        body.skip();
    }
  }
  return out;
}

ModelConfig read_model_config(WireReader in, const LaneOptions& defaults) {
  ModelConfig out;
  out.lane = defaults;
  while (in.next()) {
    switch (in.field()) {
      case 1:
        out.name = in.text();
        break;
      case 2:
        out.base_path = in.text();
        break;
      case 7:
        out.policy = read_policy(in.sub());
        break;
      case 8:
        map_entry(in.sub(), [&](const std::string& key, const WireReader&, uint64_t number) {
          out.labels[key] = static_cast<int64_t>(number);
        });
        break;
      default:
        in.skip();
    }
  }
  if (out.name.empty() || out.base_path.empty()) refuse("a model of the configuration has no name or no base_path");
  return out;
}

}  // namespace

std::optional<std::vector<ModelConfig>> read_server_config(WireReader in, const LaneOptions& defaults) {
  std::optional<std::vector<ModelConfig>> out;
  while (in.next()) {
    if (in.field() != 1) {
      in.skip();
      continue;
    }
    if (!out) out.emplace();
    WireReader list = in.sub();
    while (list.next()) {
      if (list.field() == 1)
        out->push_back(read_model_config(list.sub(), defaults));
      else
        list.skip();
    }
  }
  return out;
}

}  // namespace tenon::serve
