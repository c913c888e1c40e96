#include "tenon/serve/tensor_json.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "tenon/serve/base64.h"
#include "tenon/serve/status.h"
#include "tenon/tensor/low_precision.h"

namespace tenon::serve {
namespace {

std::string_view kind_name(JsonKind kind) {
  constexpr std::string_view kNames[] = {"Object", "Array", "String", "Number", "True", "False", "Null"};
  return kNames[static_cast<size_t>(kind)];
}

template <class T>
T parse_real(JsonReader& json) {
  const std::string_view text = json.number();
  if (text == "NaN") return std::numeric_limits<T>::quiet_NaN();
  if (text == "Infinity") return std::numeric_limits<T>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<T>::infinity();
  T v = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (error == std::errc()) return v;
  // Out of range: too small is zero, too large is an error.
  const double wide = std::strtod(std::string(text).c_str(), nullptr);
  if (std::abs(wide) < 1) return static_cast<T>(wide);
  throw RequestError(Code::InvalidArgument,
                     fmt::format("Cannot convert JSON value: {} to {} without loss of precision.", text,
                                 sizeof(T) == 4 ? "float" : "double"));
}

// False if the number is no integer of T.
template <class T>
bool parse_integer(JsonReader& json, T& v) {
  const auto mark = json.mark();
  const std::string_view text = json.number();
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (error == std::errc() && stop == text.data() + text.size()) return true;
  json.back_to(mark);
  return false;
}

template <class T>
void store(std::byte* at, T v) {
  std::memcpy(at, &v, sizeof(T));
}
template <class T>
T load(const std::byte* at) {
  T v;
  std::memcpy(&v, at, sizeof(T));
  return v;
}

void append_element(std::string& out, DType dtype, const std::byte* at) {
  const auto integer = [&](auto v) {
    char buffer[24];
    out.append(buffer, std::to_chars(buffer, buffer + sizeof(buffer), v).ptr);
  };
  switch (dtype) {
    case DType::Bool:
      out += load<uint8_t>(at) ? "true" : "false";
      return;
    case DType::U8:
      return integer(static_cast<int>(load<uint8_t>(at)));
    case DType::I8:
      return integer(static_cast<int>(load<int8_t>(at)));
    case DType::U16:
      return integer(load<uint16_t>(at));
    case DType::I16:
      return integer(load<int16_t>(at));
    case DType::U32:
      return integer(load<uint32_t>(at));
    case DType::I32:
      return integer(load<int32_t>(at));
    case DType::U64:
      return integer(load<uint64_t>(at));
    case DType::I64:
      return integer(load<int64_t>(at));
    case DType::F16:
      return append_number(out, f16_to_f32(load<uint16_t>(at)));
    case DType::BF16:
      return append_number(out, bf16_to_f32(load<uint16_t>(at)));
    case DType::F32:
      return append_number(out, load<float>(at));
    case DType::F64:
      return append_number(out, load<double>(at));
    default:
      throw UnsupportedError({"serve", fmt::format("{} has no form in JSON", name(dtype)), {}, {}, {}});
  }
}

// Writes elements one after the other, in lists as the shape says.
class ListWriter {
 public:
  ListWriter(std::string& out, const Value& value, bool binary) : out_(out), binary_(binary) {
    if (const auto* tensor = std::get_if<Tensor>(&value)) {
      if (tensor->size() > 0) data_ = bytes_of(*tensor).data();
      dtype_ = tensor->dtype();
      width_ = info(dtype_).bits / 8;
    } else {
      texts_ = &std::get<Strings>(value).values;
    }
  }
  void element(int64_t i) {
    if (!texts_) return append_element(out_, dtype_, data_ + i * width_);
    const std::string& text = (*texts_)[static_cast<size_t>(i)];
    if (!binary_) return append_json(out_, text);
    out_ += "{\"b64\": ";
    append_json(out_, base64(text));
    out_ += '}';
  }
  void lists(std::span<const int64_t> dims, int64_t& at) {
    if (dims.empty()) return element(at++);
    out_ += '[';
    for (int64_t i = 0; i < dims[0]; ++i) {
      if (i > 0) out_ += ", ";
      lists(dims.subspan(1), at);
    }
    out_ += ']';
  }

 private:
  std::string& out_;
  bool binary_;
  const std::byte* data_ = nullptr;
  DType dtype_ = DType::F32;
  int64_t width_ = 0;
  const std::vector<std::string>* texts_ = nullptr;
};

}  // namespace

// ---- reading ----

ElementStore::ElementStore(ElementType type) : type_(type) {
  if (!type_.strings()) width_ = info(*type_.dtype).bits / 8;
}

void ElementStore::reserve(int64_t elements) {
  if (type_.strings() || elements <= capacity_) return;
  auto* grown =
      static_cast<std::byte*>(std::realloc(data_.get(), static_cast<size_t>(std::max<int64_t>(elements, 16) * width_)));
  if (!grown) throw MemoryError({"serve", "no memory for a tensor", {}, {}, {}});
  (void)data_.release();
  data_.reset(grown);
  capacity_ = std::max<int64_t>(elements, 16);
}

std::byte* ElementStore::next() {
  if (count_ == capacity_) reserve(capacity_ * 2);
  if (count_ == capacity_) reserve(16);
  return data_.get() + width_ * count_++;
}

void ElementStore::wrong_type(JsonReader& json) const {
  const JsonKind kind = json.peek();
  std::string text(json.raw_value());
  if (text.size() > 64) text = text.substr(0, 64) + "...";
  throw RequestError(Code::InvalidArgument, fmt::format("JSON Value: {} Type: {} is not of expected type: {}", text,
                                                        kind_name(kind), tf_short_name(type_)));
}

void ElementStore::read(JsonReader& json) {
  const JsonKind kind = json.peek();
  if (type_.strings()) {
    std::string text;
    if (kind == JsonKind::String) {
      json.string(text);
      texts_.push_back(std::move(text));
    } else if (kind == JsonKind::Object && is_base64_object(json)) {
      json.begin_object();
      std::string key;
      json.next_key(key);
      json.string(text);
      json.next_key(key);
      texts_.push_back(from_base64(text));
    } else {
      wrong_type(json);
    }
    return;
  }
  if (*type_.dtype == DType::Bool) {
    if (kind != JsonKind::True && kind != JsonKind::False) wrong_type(json);
    store<uint8_t>(next(), json.boolean() ? 1 : 0);
    return;
  }
  if (kind != JsonKind::Number) wrong_type(json);
  const auto integer = [&](auto sample) {
    decltype(sample) v = 0;
    if (!parse_integer(json, v)) wrong_type(json);
    store(next(), v);
  };
  switch (*type_.dtype) {
    case DType::F32:
      return store(next(), parse_real<float>(json));
    case DType::F64:
      return store(next(), parse_real<double>(json));
    case DType::F16:
      return store(next(), f64_to_f16(parse_real<double>(json)));
    case DType::BF16:
      return store(next(), f64_to_bf16(parse_real<double>(json)));
    case DType::U8:
      return integer(uint8_t{});
    case DType::I8:
      return integer(int8_t{});
    case DType::U16:
      return integer(uint16_t{});
    case DType::I16:
      return integer(int16_t{});
    case DType::U32:
      return integer(uint32_t{});
    case DType::I32:
      return integer(int32_t{});
    case DType::U64:
      return integer(uint64_t{});
    case DType::I64:
      return integer(int64_t{});
    default:
      throw RequestError(Code::Unimplemented, fmt::format("{} has no form in JSON", name(*type_.dtype)));
  }
}

Value ElementStore::take(const Shape& shape) {
  if (type_.strings()) return Strings{shape, std::move(texts_)};
  if (count_ == 0) return empty(shape, *type_.dtype);
  const int64_t bytes = count_ * width_;
  count_ = capacity_ = 0;
  std::shared_ptr<std::byte> owner(data_.release(), Free());
  std::byte* at = owner.get();
  return tensor_over({at, static_cast<size_t>(bytes)}, std::move(owner), *type_.dtype, shape);
}

bool is_base64_object(JsonReader& json) {
  const auto mark = json.mark();
  std::string key;
  json.begin_object();
  bool is = json.next_key(key) && key == "b64" && json.peek() == JsonKind::String;
  if (is) {
    json.skip_value();
    is = !json.next_key(key);
  }
  json.back_to(mark);
  return is;
}

void TensorBuilder::read(JsonReader& json) {
  std::vector<int64_t> counts;  // items seen at each open level
  std::vector<int64_t> dims = dims_;
  bool ranked = shaped_;
  if (!ranked) dims.clear();
  while (true) {
    const size_t level = counts.size();
    if (json.peek() == JsonKind::Array) {
      if (ranked && level >= dims.size())
        throw RequestError(Code::InvalidArgument,
                           fmt::format("Encountered list at unexpected level: {} expected < {}", level, dims.size()));
      json.begin_array();
      counts.push_back(0);
      if (!ranked) dims.push_back(-1);
    } else {
      if (ranked && level != dims.size()) {
        const std::string_view text = json.raw_value();
        throw RequestError(
            Code::InvalidArgument,
            fmt::format("JSON Value: {} found at incorrect level: {} in the JSON DOM. Expected at level: {}",
                        text.substr(0, 64), level + 1, dims.size()));
      }
      ranked = true;
      store_.read(json);
    }
    while (!counts.empty()) {
      if (json.next_item()) {
        ++counts.back();
        break;
      }
      ranked = true;  // an empty list ends the nesting
      int64_t& expected = dims[counts.size() - 1];
      if (expected < 0) expected = counts.back();
      if (expected != counts.back())
        throw RequestError(Code::InvalidArgument,
                           fmt::format("Encountered list at unexpected size: {} at level: {} expected size: {}",
                                       counts.back(), counts.size() - 1, expected));
      counts.pop_back();
    }
    if (counts.empty()) break;
  }
  dims_ = std::move(dims);
  shaped_ = true;
  ++values_;
}

Value TensorBuilder::take_one() {
  Shape shape;
  for (int64_t d : dims_) shape.push_back(d);
  return store_.take(shape);
}
Value TensorBuilder::take_rows() {
  Shape shape{values_};
  for (int64_t d : dims_) shape.push_back(d);
  return store_.take(shape);
}

// ---- writing ----

void append_tensor(std::string& out, const Value& value, bool binary) {
  int64_t at = 0;
  const Shape& shape = shape_of(value);
  ListWriter(out, value, binary).lists({shape.begin(), shape.end()}, at);
}
void append_row(std::string& out, const Value& value, int64_t row, bool binary) {
  const Shape& shape = shape_of(value);
  int64_t at = row * (shape[0] == 0 ? 0 : numel(shape) / shape[0]);
  ListWriter(out, value, binary).lists(std::span<const int64_t>(shape.begin(), shape.end()).subspan(1), at);
}
void append_flat(std::string& out, const Value& value) {
  ListWriter writer(out, value, false);
  out += '[';
  const int64_t n = numel(shape_of(value));
  for (int64_t i = 0; i < n; ++i) {
    if (i > 0) out += ',';
    writer.element(i);
  }
  out += ']';
}

}  // namespace tenon::serve
