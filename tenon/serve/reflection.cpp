#include "tenon/serve/reflection.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "tenon/serve/base64.h"
#include "tenon/serve/wire.h"

namespace tenon::serve {
namespace {

constexpr std::string_view kMethod = "ServerReflectionInfo";
constexpr std::string_view kServices[] = {"grpc.reflection.v1.ServerReflection",
                                          "grpc.reflection.v1alpha.ServerReflection"};

struct File {
  std::string bytes, name;
  std::vector<std::string> imports;
};

// The files of a FileDescriptorSet, by name and by the symbols that they declare.
class Files {
 public:
  explicit Files(const std::string& set) {
    const std::span<const std::byte> all = std::as_bytes(std::span(set));
    WireReader in(all);
    while (in.next()) add(in.text());
  }
  [[nodiscard]] const File* by_name(const std::string& name) const {
    const auto found = files_.find(name);
    return found == files_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const File* by_symbol(const std::string& symbol) const {
    const auto found = symbols_.find(symbol);
    return found == symbols_.end() ? nullptr : by_name(found->second);
  }

 private:
  // FileDescriptorProto: name 1, package 2, dependency 3, message_type 4, enum_type 5, service 6.
  void add(std::string bytes) {
    File file;
    std::string package;
    std::vector<std::string> symbols;
    const std::span<const std::byte> all = std::as_bytes(std::span(bytes));
    WireReader in(all);
    while (in.next()) {
      switch (in.field()) {
        case 1:
          file.name = in.text();
          break;
        case 2:
          package = in.text();
          break;
        case 3:
          file.imports.push_back(in.text());
          break;
        case 4:
          declared(in.sub(), 3, 4, symbols);
          break;
        case 5:
          declared(in.sub(), 0, 0, symbols);
          break;
        case 6:
          declared(in.sub(), 2, 0, symbols);
          break;
        default:
          in.skip();
      }
    }
    const std::string prefix = package.empty() ? "" : package + ".";
    for (const auto& symbol : symbols) symbols_[prefix + symbol] = file.name;
    if (!package.empty()) symbols_.emplace(package, file.name);
    file.bytes = std::move(bytes);
    files_[file.name] = std::move(file);
  }

  // A message, enumeration or service: its name (1), and what it holds in the fields `a` and `b` (0: nothing), as
  // Outer.Inner.
  static void declared(WireReader in, int a, int b, std::vector<std::string>& out) {
    std::string name;
    std::vector<std::string> inner;
    while (in.next()) {
      if (in.field() == 1)
        name = in.text();
      else if (in.field() == a)
        declared(in.sub(), b == 0 ? 0 : a, b, inner);
      else if (in.field() == b)
        declared(in.sub(), 0, 0, inner);
      else
        in.skip();
    }
    const std::string prefix = name + ".";
    for (const auto& symbol : inner) out.push_back(prefix + symbol);
    out.push_back(std::move(name));
  }

  std::map<std::string, File, std::less<>> files_;
  std::map<std::string, std::string, std::less<>> symbols_;
};

struct Reflection {
  Files files{from_base64(descriptor_set_base64())};
  std::set<std::string> services;

  // The file and those that it imports, each once.
  void collect(const File& file, std::set<std::string>& seen, WireWriter& out) const {
    if (!seen.insert(file.name).second) return;
    out.bytes(1, file.bytes);
    for (const auto& name : file.imports) {
      if (const File* imported = files.by_name(name)) collect(*imported, seen, out);
    }
  }

  static void error(WireWriter& out, Code code, const std::string& text) {
    WireWriter message;
    message.integer(1, static_cast<int>(code));
    message.text(2, text);
    out.message(7, message);
  }
  void file(WireWriter& out, const File* found, const std::string& what) const {
    if (!found) return error(out, Code::NotFound, fmt::format("'{}' is not known", what));
    WireWriter message;
    std::set<std::string> seen;
    collect(*found, seen, message);
    out.message(4, message);
  }

  void answer(const RpcCallPtr& call, const RpcAnswer& respond) const {
    std::string host, text, original;
    for (const auto& piece : call->pieces) original.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    int kind = 0;
    WireReader in(call->pieces);
    while (in.next()) {
      if (in.field() == 1) {
        host = in.text();
      } else if (in.field() >= 3 && in.field() <= 7 && in.type() == WireType::Bytes) {
        kind = in.field();
        text = in.text();
      } else {
        in.skip();
      }
    }
    WireWriter out;
    out.text(1, host);
    out.bytes(2, original);
    if (kind == 3) {
      file(out, files.by_name(text), text);
    } else if (kind == 4) {
      file(out, files.by_symbol(text), text);
    } else if (kind == 7) {
      WireWriter list;
      for (const auto& name : services) {
        WireWriter service;
        service.text(1, name);
        list.message(1, service);
      }
      out.message(6, list);
    } else if (kind == 5 || kind == 6) {
      error(out, Code::NotFound, "there are no extensions");
    } else {
      error(out, Code::InvalidArgument, "the request asks for nothing");
    }
    respond({}, out.take());
  }
};

}  // namespace

RpcMethods reflection_grpc(const RpcMethods& others) {
  const auto reflection = std::make_shared<Reflection>();
  for (const auto& method : others) {
    const std::string path = method.path.substr(1);
    reflection->services.insert(path.substr(0, path.find('/')));
  }
  RpcMethods out;
  for (const auto service : kServices) {
    reflection->services.emplace(service);
    RpcMethod method;
    method.path = fmt::format("/{}/{}", service, kMethod);
    method.call = [reflection](const RpcCallPtr& call, const RpcAnswer& respond) { reflection->answer(call, respond); };
    method.stream = true;
    method.small = true;
    out.push_back(std::move(method));
  }
  return out;
}

}  // namespace tenon::serve
