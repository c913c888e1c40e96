#include "tenon/formats/torch_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/utf8.h"
#include "tenon/data/zip_archive.h"
#include "tenon/tensor/buffer.h"

namespace tenon::formats {
namespace {

constexpr int kDeepest = 100;
constexpr std::size_t kMostValues = 50'000'000;
constexpr std::size_t kMostVisited = 2'000'000;

// The names that a pickle may ask for. Storages come with the type of their elements.
enum class Known { OrderedDict, RebuildTensor, RebuildParameter, Size, Storage };
struct KnownName {
  std::string_view module, name;
  Known what;
  DType dtype = DType::U8;
};
constexpr std::array<KnownName, 15> kKnown{{
    {"collections", "OrderedDict", Known::OrderedDict},
    {"torch._utils", "_rebuild_tensor_v2", Known::RebuildTensor},
    {"torch._utils", "_rebuild_tensor", Known::RebuildTensor},
    {"torch._utils", "_rebuild_parameter", Known::RebuildParameter},
    {"torch", "Size", Known::Size},
    {"torch", "FloatStorage", Known::Storage, DType::F32},
    {"torch", "DoubleStorage", Known::Storage, DType::F64},
    {"torch", "HalfStorage", Known::Storage, DType::F16},
    {"torch", "BFloat16Storage", Known::Storage, DType::BF16},
    {"torch", "LongStorage", Known::Storage, DType::I64},
    {"torch", "IntStorage", Known::Storage, DType::I32},
    {"torch", "ShortStorage", Known::Storage, DType::I16},
    {"torch", "CharStorage", Known::Storage, DType::I8},
    {"torch", "ByteStorage", Known::Storage, DType::U8},
    {"torch", "BoolStorage", Known::Storage, DType::Bool},
}};

struct Value;
using Values = std::vector<Value>;
struct StorageRef {
  DType dtype = DType::U8;
  std::string key;
  std::int64_t count = 0;
};
struct Mark {};
struct None {};
struct Sequence {  // list or tuple
  std::shared_ptr<Values> items;
};
struct Dictionary {
  std::shared_ptr<std::vector<std::pair<Value, Value>>> items;
};
struct Value {
  std::variant<None, Mark, bool, std::int64_t, double, std::string, Sequence, Dictionary, const KnownName*, StorageRef,
               Tensor>
      data;
};

constexpr std::string_view kExpected = "a file of torch.save";

class Reader {
 public:
  Reader(std::unique_ptr<const data::ZipArchive> archive, std::string_view where)
      : archive_(std::move(archive)), where_(where) {
    for (std::uint64_t i = 0; i < archive_->count(); ++i) {
      const auto member = archive_->inspect(i);
      if (member.name == "data.pkl" || member.name.ends_with("/data.pkl"))
        prefix_ = member.name.substr(0, member.name.size() - 8), pickle_ = member;
    }
    if (!pickle_)
      throw FormatError({.where = std::string(where),
                         .problem = "there is no data.pkl in the archive",
                         .expected = "a file of torch.save"});
    if (const auto order = archive_->find(prefix_ + "byteorder")) {
      const auto text = archive_->read(*order);
      if (std::string_view(reinterpret_cast<const char*>(text.data()), text.size()) != "little")
        throw UnsupportedError({.where = std::string(where), .problem = "the numbers are big-endian"});
    }
  }

  // Lists may hold themselves, or each other a million deep: they are emptied one by one.
  ~Reader() {
    for (auto& items : sequences_) items->clear();
    for (auto& items : dictionaries_) items->clear();
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Value run() {
    const auto pickle = archive_->read(*pickle_);
    const std::string place = fmt::format("{}:{}", where_, pickle_->name);
    data::ByteReader in(pickle, place);
    while (true) {
      const auto opcode = static_cast<char>(in.u8("an opcode"));
      if (opcode == '.') break;
      execute(opcode, in);
      if (stack_.size() + memo_.size() > kMostValues) in.fail("the pickle holds too many values");
    }
    if (stack_.size() != 1) in.fail("the pickle does not leave one value");
    return std::move(stack_[0]);
  }

 private:
  static std::string_view text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  void push(auto value) { stack_.push_back(Value{std::move(value)}); }
  Value pop(const data::ByteReader& in) {
    if (stack_.empty()) in.fail("the pickle takes a value from an empty stack");
    Value value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }
  Value& top(const data::ByteReader& in) {
    if (stack_.empty()) in.fail("the pickle looks at an empty stack");
    return stack_.back();
  }
  // What was pushed since the last mark.
  Values pop_to_mark(const data::ByteReader& in) {
    std::size_t at = stack_.size();
    while (at > 0 && !std::holds_alternative<Mark>(stack_[at - 1].data)) --at;
    if (at == 0) in.fail("the pickle needs a mark that is not there");
    Values values(std::make_move_iterator(stack_.begin() + static_cast<std::ptrdiff_t>(at)),
                  std::make_move_iterator(stack_.end()));
    stack_.resize(at - 1);
    return values;
  }
  Value sequence(Values values) {
    sequences_.push_back(std::make_shared<Values>(std::move(values)));
    return {Sequence{sequences_.back()}};
  }
  Value dictionary() {
    dictionaries_.push_back(std::make_shared<std::vector<std::pair<Value, Value>>>());
    return {Dictionary{dictionaries_.back()}};
  }
  Value tuple(std::size_t count, const data::ByteReader& in) {
    Values values(count);
    while (count > 0) values[--count] = pop(in);
    return sequence(std::move(values));
  }

  template <class T>
  const T& as(const Value& value, std::string_view what, const data::ByteReader& in) const {
    const T* found = std::get_if<T>(&value.data);
    if (found == nullptr) in.fail(fmt::format("the pickle has something else where {} should be", what));
    return *found;
  }

  std::string line(data::ByteReader& in) {
    std::string out;
    for (char c = 0; (c = static_cast<char>(in.u8("a name"))) != '\n';) {
      out += c;
      if (out.size() > 200) in.fail("a name is too long");
    }
    return out;
  }
  void global(const std::string& module, const std::string& name, const data::ByteReader& in) {
    for (const auto& known : kKnown)
      if (known.module == module && known.name == name) return push(&known);
    throw UnsupportedError(
        {.where = std::string(in.where()),
         .problem = fmt::format("the pickle asks for '{}.{}' at byte {}, which is not on the list of "
                                "names for plain weights",
                                module, name, in.offset()),
         .hint = "in Python: torch.save(model.state_dict(), path)"});
  }

  void put(std::size_t slot, const data::ByteReader& in) { memo_[slot] = top(in); }
  void get(std::size_t slot, const data::ByteReader& in) {
    const auto found = memo_.find(slot);
    if (found == memo_.end()) in.fail("the pickle refers to a value that it has not kept");
    stack_.push_back(found->second);
  }
  void set_item(const Value& target, Value key, Value value, const data::ByteReader& in) {
    as<Dictionary>(target, "a dictionary", in).items->emplace_back(std::move(key), std::move(value));
  }

  void execute(char opcode, data::ByteReader& in);
  void reduce(const data::ByteReader& in);
  void persistent(const data::ByteReader& in);
  Tensor rebuild(const Values& arguments, const data::ByteReader& in);
  Ref<Buffer> storage(const StorageRef& ref, const data::ByteReader& in);

  std::unique_ptr<const data::ZipArchive> archive_;
  std::string_view where_;
  std::string prefix_;
  std::optional<data::ZipArchive::Member> pickle_;
  Values stack_;
  std::map<std::size_t, Value> memo_;
  std::map<std::string, Ref<Buffer>> storages_;
  std::vector<std::shared_ptr<Values>> sequences_;
  std::vector<std::shared_ptr<std::vector<std::pair<Value, Value>>>> dictionaries_;
};

// A little-endian two's complement number of up to 8 bytes.
std::int64_t long_number(std::span<const std::byte> bytes, const data::ByteReader& in) {
  if (bytes.size() > 8) in.fail("a whole number is too large");
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  if (!bytes.empty() && bytes.size() < 8 && (bytes.back() & std::byte{0x80}) != std::byte{0})
    value |= ~std::uint64_t{0} << (8 * bytes.size());
  return static_cast<std::int64_t>(value);
}

void Reader::execute(char opcode, data::ByteReader& in) {
  switch (opcode) {
    case '\x80':
      in.u8("the protocol");
      break;
    case '\x95':
      in.take(8, "a frame");
      break;
    case '(':
      push(Mark{});
      break;
    case 'N':
      push(None{});
      break;
    case '\x88':
      push(true);
      break;
    case '\x89':
      push(false);
      break;
    case 'K':
      push(std::int64_t{in.u8("a number")});
      break;
    case 'M':
      push(std::int64_t{in.u16_little("a number")});
      break;
    case 'J':
      push(std::int64_t{static_cast<std::int32_t>(in.u32_little("a number"))});
      break;
    case '\x8a':
      push(long_number(in.take(in.u8("a length"), "a number"), in));
      break;
    case 'G': {
      std::uint64_t bits = 0;
      for (const std::byte b : in.take(8, "a number")) bits = bits << 8 | std::to_integer<std::uint64_t>(b);
      push(std::bit_cast<double>(bits));
      break;
    }
    case 'X':
      push(std::string(text(in.take(in.u32_little("a length"), "a text"))));
      break;
    case '\x8c':
      push(std::string(text(in.take(in.u8("a length"), "a text"))));
      break;
    case ')':
      stack_.push_back(sequence({}));
      break;
    case ']':
      stack_.push_back(sequence({}));
      break;
    case '}':
      stack_.push_back(dictionary());
      break;
    case 't':
      stack_.push_back(sequence(pop_to_mark(in)));
      break;
    case '\x85':
      stack_.push_back(tuple(1, in));
      break;
    case '\x86':
      stack_.push_back(tuple(2, in));
      break;
    case '\x87':
      stack_.push_back(tuple(3, in));
      break;
    case 'q':
      put(in.u8("a place"), in);
      break;
    case 'r':
      put(in.u32_little("a place"), in);
      break;
    case '\x94':
      put(memo_.size(), in);
      break;
    case 'h':
      get(in.u8("a place"), in);
      break;
    case 'j':
      get(in.u32_little("a place"), in);
      break;
    case '0':
      (void)pop(in);
      break;
    case 'a': {
      Value value = pop(in);
      as<Sequence>(top(in), "a list", in).items->push_back(std::move(value));
      break;
    }
    case 'e': {
      Values values = pop_to_mark(in);
      const auto& list = as<Sequence>(top(in), "a list", in);
      for (auto& value : values) list.items->push_back(std::move(value));
      break;
    }
    case 's': {
      Value value = pop(in), key = pop(in);
      set_item(top(in), std::move(key), std::move(value), in);
      break;
    }
    case 'u': {
      Values values = pop_to_mark(in);
      if (values.size() % 2 != 0) in.fail("a dictionary's entries are not in pairs");
      for (std::size_t i = 0; i < values.size(); i += 2)
        set_item(top(in), std::move(values[i]), std::move(values[i + 1]), in);
      break;
    }
    case 'c': {
      const std::string module = line(in), name = line(in);
      global(module, name, in);
      break;
    }
    case '\x93': {
      const Value name = pop(in), module = pop(in);
      global(as<std::string>(module, "a module's name", in), as<std::string>(name, "a name", in), in);
      break;
    }
    case 'R':
      reduce(in);
      break;
    case 'b':
      (void)pop(in);
      break;  // attributes of an ordered dictionary: not weights
    case 'Q':
      persistent(in);
      break;
    default:
      throw UnsupportedError(
          {.where = std::string(in.where()),
           .problem = fmt::format("the pickle's opcode {:02X} at byte {} is not one that plain weights need",
                                  static_cast<unsigned char>(opcode), in.offset() - 1)});
  }
}

void Reader::reduce(const data::ByteReader& in) {
  const Value arguments_value = pop(in), function = pop(in);
  const Values& arguments = *as<Sequence>(arguments_value, "arguments", in).items;
  const KnownName& known = *as<const KnownName*>(function, "a name", in);
  switch (known.what) {
    case Known::OrderedDict:
      stack_.push_back(dictionary());
      break;
    case Known::RebuildTensor:
      push(rebuild(arguments, in));
      break;
    case Known::RebuildParameter:
      if (arguments.empty()) in.fail("a parameter has no tensor");
      stack_.push_back(Value{as<Tensor>(arguments[0], "a tensor", in)});
      break;
    case Known::Size:
      if (arguments.empty()) in.fail("a size has no extents");
      stack_.push_back(arguments[0]);
      break;
    case Known::Storage:
      in.fail("a storage is called like a function");
  }
}

// ('storage', type, key, location, count)
void Reader::persistent(const data::ByteReader& in) {
  const Value id = pop(in);
  const Values& parts = *as<Sequence>(id, "a storage", in).items;
  if (parts.size() < 5 || as<std::string>(parts[0], "'storage'", in) != "storage") in.fail("not a storage");
  const KnownName& type = *as<const KnownName*>(parts[1], "a storage's type", in);
  if (type.what != Known::Storage) in.fail("a storage has no type");
  push(StorageRef{type.dtype, as<std::string>(parts[2], "a storage's key", in),
                  as<std::int64_t>(parts[4], "a storage's size", in)});
}

Ref<Buffer> Reader::storage(const StorageRef& ref, const data::ByteReader& in) {
  auto& held = storages_[ref.key];
  if (held == nullptr) {
    const auto member = archive_->find(fmt::format("{}data/{}", prefix_, ref.key));
    if (!member) in.fail(fmt::format("the archive has no data/{}", ref.key));
    held = Buffer::allocate(member->size);
    archive_->read(*member, {held->data(), member->size});
  }
  const auto size = static_cast<std::int64_t>(held->size());
  if (ref.count < 0 || ref.count > size || byte_size(ref.dtype, ref.count) > size)
    in.fail(fmt::format("data/{} is shorter than its storage", ref.key), fmt::format("{} elements", ref.count),
            fmt::format("{} bytes", size));
  return held;
}

// storage, offset, size, stride, …
Tensor Reader::rebuild(const Values& arguments, const data::ByteReader& in) {
  if (arguments.size() < 4) in.fail("a tensor lacks its shape");
  const auto& ref = as<StorageRef>(arguments[0], "a storage", in);
  const std::int64_t offset = as<std::int64_t>(arguments[1], "an offset", in);
  Shape shape, strides;
  for (const auto& extent : *as<Sequence>(arguments[2], "a shape", in).items)
    shape.push_back(as<std::int64_t>(extent, "an extent", in));
  for (const auto& stride : *as<Sequence>(arguments[3], "strides", in).items)
    strides.push_back(as<std::int64_t>(stride, "a stride", in));
  if (shape.size() != strides.size() || shape.size() > 32 || offset < 0 || offset > ref.count)
    in.fail("a tensor's shape does not fit its strides or its storage");
  const bool is_empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  std::int64_t last = offset, count = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    // Sizes of an empty tensor reach nowhere; they must only be sizes.
    const std::int64_t most = is_empty ? std::int64_t{1} << 40 : std::min(ref.count, INT64_MAX - 1) + 1;
    if (shape[i] < 0 || strides[i] < 0 || shape[i] > most || strides[i] > most)
      in.fail("a tensor reaches beyond its storage");
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(shape[i], 1), &count))
      in.fail("a tensor reaches beyond its storage");
    if (is_empty) continue;
    std::int64_t reach = 0;
    if (count > ref.count || __builtin_mul_overflow(shape[i] - 1, strides[i], &reach) ||
        __builtin_add_overflow(last, reach, &last))
      in.fail("a tensor reaches beyond its storage");
  }
  if (!is_empty && last >= ref.count)
    in.fail("a tensor reaches beyond its storage", fmt::format("an element below {}", ref.count), std::to_string(last));
  if (is_empty && count > (std::int64_t{1} << 56)) in.fail("a tensor reaches beyond its storage");
  Ref<Buffer> buffer = storage(ref, in);
  return is_empty ? tenon::empty(shape, ref.dtype)
                  : from_buffer(std::move(buffer), TensorType{ref.dtype, shape}, strides, offset);
}

// A value may be held in several places, so what is walked is counted, not what there is.
void collect(const Value& value, const std::string& path, int depth, std::size_t& left, std::string_view where,
             StateDict& out) {
  if (left-- == 0) throw FormatError({.where = std::string(where), .problem = "the pickle holds too many values"});
  if (depth > kDeepest) throw FormatError({.where = std::string(where), .problem = "the values are nested too deeply"});
  const auto below = [&](const std::string& key) { return path.empty() ? key : path + "." + key; };
  if (const auto* tensor = std::get_if<Tensor>(&value.data)) {
    out.set(path, *tensor);
  } else if (const auto* dictionary = std::get_if<Dictionary>(&value.data)) {
    for (const auto& [key, item] : *dictionary->items) {
      if (const auto* name = std::get_if<std::string>(&key.data))
        collect(item, below(*name), depth + 1, left, where, out);
      if (const auto* number = std::get_if<std::int64_t>(&key.data))
        collect(item, below(std::to_string(*number)), depth + 1, left, where, out);
    }
  } else if (const auto* sequence = std::get_if<Sequence>(&value.data)) {
    for (std::size_t i = 0; i < sequence->items->size(); ++i)
      collect((*sequence->items)[i], below(std::to_string(i)), depth + 1, left, where, out);
  }
}

// What was written before 2020, or something else that is no archive of torch.save.
void require_archive(std::span<const std::byte> bytes, std::string_view where) {
  if (!data::is_zip(bytes) && bytes.size() > 2 && bytes[0] == std::byte{0x80})
    throw UnsupportedError({.where = std::string(where),
                            .problem = "a file in PyTorch's format from before 2020, or a bare pickle",
                            .hint = "in Python: torch.save(torch.load(path, weights_only=True), path)"});
}

StateDict read_archive(std::unique_ptr<const data::ZipArchive> archive, std::string_view where,
                       std::string_view under) {
  StateDict all;
  Reader reader(std::move(archive), where);
  std::size_t left = kMostVisited;
  collect(reader.run(), "", 0, left, where, all);
  if (under.empty()) return all;
  StateDict part;
  const std::string prefix = std::string(under) + ".";
  for (const auto& [name, tensor] : all)
    if (name.starts_with(prefix)) part.set(name.substr(prefix.size()), tensor);
  return part;
}

}  // namespace

StateDict read_torch(std::span<const std::byte> bytes, std::string_view where, std::string_view under) {
  require_archive(bytes, where);
  return read_archive(std::make_unique<const data::ZipArchive>(bytes, where, kExpected), where, under);
}

StateDict load_torch(const std::filesystem::path& path, std::string_view under) {
  const std::string where = path.string();
  require_archive(MappedFile(path).bytes(), where);
  return read_archive(std::make_unique<const data::ZipArchive>(path, kExpected), where, under);
}

}  // namespace tenon::formats
