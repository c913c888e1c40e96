#include "tenon/text/jinja/builtins.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <map>

#include "tenon/text/unicode.h"
#include "tenon/text/utf8_walk.h"

namespace tenon::text::jinja {
namespace {

constexpr std::size_t kLongest = std::size_t{1} << 26;  // of a text or list that a template makes

[[noreturn]] void fail(std::string text) { throw Mistake{std::move(text)}; }

const char* type_name(const Value& v) {
  return v.is_undefined() ? "undefined"
         : v.is_null()    ? "None"
         : v.is_bool()    ? "bool"
         : v.is_integer() ? "int"
         : v.is_real()    ? "float"
         : v.is_string()  ? "str"
         : v.is_list()    ? "list"
                          : "dict";
}

const std::string& text_of(const Value& v, std::string_view what) {
  if (!v.is_string()) fail(fmt::format("{} needs a text, got {}", what, type_name(v)));
  return v.string();
}
std::int64_t integer_of(const Value& v, std::string_view what) {
  if (v.is_bool()) return v.boolean() ? 1 : 0;
  if (!v.is_integer()) fail(fmt::format("{} needs a whole number, got {}", what, type_name(v)));
  return v.integer();
}
double real_of(const Value& v, std::string_view what) {
  if (v.is_bool()) return v.boolean() ? 1 : 0;
  if (!v.is_number()) fail(fmt::format("{} needs a number, got {}", what, type_name(v)));
  return v.real();
}

std::string repr(const Value& v) {
  if (!v.is_string()) return to_text(v);
  const std::string& s = v.string();
  const char quote = s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : s) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\\' || c == quote) {
      out += '\\';
      out += c;
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string real_text(double v) {
  if (std::isfinite(v) && v == std::floor(v) && std::abs(v) < 1e16) return fmt::format("{:.1f}", v);
  return fmt::format("{}", v);
}

bool in_set(std::string_view set, std::string_view text, std::size_t at) {
  return set.empty() ? is_whitespace([&] {
    std::size_t i = at;
    return next_code_point(text, i);
  }())
                     : set.find(text.substr(at, code_point_length(text[at]))) != std::string_view::npos;
}
std::string strip(const std::string& text, const Value& characters, bool left, bool right) {
  const std::string set = characters.is_string() ? characters.string() : "";
  std::string_view rest = text;
  while (left && !rest.empty() && in_set(set, rest, 0)) rest.remove_prefix(code_point_length(rest[0]));
  while (right && !rest.empty()) {
    const std::size_t at = previous_code_point(rest, rest.size());
    if (!in_set(set, rest, at)) break;
    rest = rest.substr(0, at);
  }
  return std::string(rest);
}

std::string replace(std::string text, const std::string& what, const std::string& with, std::int64_t count);

template <class Map>
std::string map_characters(const std::string& text, Map&& map) {
  std::string out;
  bool inside = false;  // a word has begun
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    append_code_point(out, map(c, inside));
    inside = is_word_character(c) && c != '_';
  }
  return out;
}
std::string lowered(const std::string& text) {
  return map_characters(text, [](char32_t c, bool) { return lower(c).first; });
}
std::string raised(const std::string& text) {
  return map_characters(replace(text, "ß", "SS", -1), [](char32_t c, bool) { return upper(c); });
}
std::string title(const std::string& text) {
  return map_characters(text, [](char32_t c, bool inside) { return inside ? lower(c).first : upper(c); });
}
std::string capitalized(const std::string& text) {
  std::string low = lowered(text);
  if (low.empty()) return low;
  const std::size_t first = code_point_length(low[0]);
  return raised(low.substr(0, first)) + low.substr(first);
}

std::string replace(std::string text, const std::string& what, const std::string& with, std::int64_t count) {
  if (what.empty()) return text;
  std::size_t at = text.find(what);
  for (; at != std::string::npos && count != 0; at = text.find(what, at + with.size()), --count) {
    text.replace(at, what.size(), with);
    if (text.size() > kLongest) fail("a text became too long");
  }
  return text;
}

List split(const std::string& text, const Value& separator, std::int64_t most) {
  List parts;
  if (!separator.is_string()) {
    for (std::size_t at = 0; at < text.size();) {
      if (in_set("", text, at)) {
        at += code_point_length(text[at]);
        continue;
      }
      std::size_t end = at;
      if (most >= 0 && static_cast<std::int64_t>(parts.size()) == most) {
        parts.emplace_back(strip(text.substr(at), {}, false, true));
        return parts;
      }
      while (end < text.size() && !in_set("", text, end)) end += code_point_length(text[end]);
      parts.emplace_back(text.substr(at, end - at));
      at = end;
    }
    return parts;
  }
  const std::string& s = separator.string();
  if (s.empty()) fail("split needs a separator");
  std::size_t at = 0;
  while (most < 0 || static_cast<std::int64_t>(parts.size()) < most) {
    const std::size_t found = text.find(s, at);
    if (found == std::string::npos) break;
    parts.emplace_back(text.substr(at, found - at));
    at = found + s.size();
  }
  parts.emplace_back(text.substr(at));
  return parts;
}

std::string join(const List& parts, const std::string& between, const Value& attribute) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += between;
    out += to_text(attribute.is_string() ? item(parts[i], attribute) : parts[i]);
    if (out.size() > kLongest) fail("a text became too long");
  }
  return out;
}

List items_of(const Value& v) {
  if (v.is_undefined()) return {};
  if (!v.is_object()) fail(fmt::format("items needs a dict, got {}", type_name(v)));
  List pairs;
  for (const auto& [key, value] : v.object()) pairs.emplace_back(List{key, value});
  return pairs;
}

std::int64_t length_of(const Value& v) {
  if (v.is_list()) return static_cast<std::int64_t>(v.list().size());
  if (v.is_object()) return static_cast<std::int64_t>(v.object().size());
  if (v.is_undefined()) return 0;
  std::int64_t count = 0;
  for (const char c : text_of(v, "length")) count += is_continuation(c) ? 0 : 1;
  return count;
}

bool less(const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) return a.string() < b.string();
  if ((a.is_number() || a.is_bool()) && (b.is_number() || b.is_bool())) return real_of(a, "<") < real_of(b, "<");
  if (a.is_list() && b.is_list())
    return std::lexicographical_compare(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), less);
  fail(fmt::format("{} and {} have no order", type_name(a), type_name(b)));
}

std::string indent(const std::string& text, const Arguments& a) {
  const Value width = a.get(0, "width"), first = a.get(1, "first"), blank = a.get(2, "blank");
  const std::string prefix = width.is_string()
                                 ? width.string()
                                 : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(
                                                   width.is_undefined() ? 4 : integer_of(width, "indent"), 0, 1000)),
                                               ' ');
  std::string out;
  const List lines = split(text, Value("\n"), -1);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if ((i > 0 || truth(first)) && (!lines[i].string().empty() || truth(blank))) out += prefix;
    out += lines[i].string();
  }
  return out;
}

// select, reject, selectattr, rejectattr.
List select(const Value& v, const Arguments& a, bool by_attribute, bool keep) {
  Arguments rest{a.positional, {}};
  Value attribute;
  const auto take = [&] {
    Value first = rest.positional.empty() ? Value() : rest.positional[0];
    if (!rest.positional.empty()) rest.positional.erase(rest.positional.begin());
    return first;
  };
  if (by_attribute) attribute = take();
  const Value test = take();
  List kept;
  for (const auto& one : iterate(v)) {
    const Value looked_at = by_attribute ? item(one, attribute) : one;
    const bool holds = test.is_undefined() ? truth(looked_at) : apply_test(text_of(test, "select"), looked_at, rest);
    if (holds == keep) kept.push_back(one);
  }
  return kept;
}

List map_values(const Value& v, const Arguments& a) {
  const Value attribute = a.get(99, "attribute");
  List out;
  for (const auto& one : iterate(v)) {
    if (!attribute.is_undefined()) {
      Value found = item(one, attribute);
      const Value fallback = a.get(99, "default");
      out.push_back(found.is_undefined() && !fallback.is_undefined() ? fallback : found);
    } else {
      if (a.positional.empty()) fail("map needs a filter or an attribute");
      out.push_back(
          apply_filter(text_of(a.positional[0], "map"), one, {{a.positional.begin() + 1, a.positional.end()}, {}}));
    }
  }
  return out;
}

List sorted(List list, const Arguments& a) {
  const Value attribute = a.get(2, "attribute");
  const bool reverse = truth(a.get(0, "reverse")), exact = truth(a.get(1, "case_sensitive"));
  const auto key = [&](const Value& v) {
    Value k = attribute.is_undefined() ? v : item(v, attribute);
    return k.is_string() && !exact ? Value(lowered(k.string())) : k;
  };
  std::stable_sort(list.begin(), list.end(), [&](const Value& x, const Value& y) {
    return reverse ? less(key(y), key(x)) : less(key(x), key(y));
  });
  return list;
}

Value to_integer(const Value& v, const Arguments& a) {
  if (v.is_bool() || v.is_integer()) return Value(integer_of(v, "int"));
  if (v.is_real()) return Value(static_cast<std::int64_t>(v.real()));
  try {
    std::size_t used = 0;
    const std::string text = strip(text_of(v, "int"), {}, true, true);
    const std::int64_t value = std::stoll(text, &used);
    if (used == text.size()) return Value(value);
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): no number, so the default
  }
  const Value fallback = a.get(0, "default");
  return fallback.is_undefined() ? Value(0) : fallback;
}

std::string escape(const std::string& text) {
  std::string out = replace(text, "&", "&amp;", -1);
  out = replace(replace(out, "<", "&lt;", -1), ">", "&gt;", -1);
  return replace(replace(out, "'", "&#39;", -1), "\"", "&#34;", -1);
}

using Filter = std::function<Value(const Value&, const Arguments&)>;
const std::map<std::string, Filter, std::less<>>& filters() {
  static const auto ends = [](const Value& v, bool first) {
    const List all = iterate(v);
    return all.empty() ? Value() : first ? all.front() : all.back();
  };
  static const Filter length = [](const Value& v, const Arguments&) { return Value(length_of(v)); };
  static const Filter fallback = [](const Value& v, const Arguments& a) {
    const bool missing = v.is_undefined() || (truth(a.get(1, "boolean")) && !truth(v));
    if (!missing) return v;
    const Value other = a.get(0, "default_value");
    return other.is_undefined() ? Value("") : other;
  };
  static const std::map<std::string, Filter, std::less<>> table{
      {"abs",
       [](const Value& v, const Arguments&) {
         return v.is_integer() ? Value(std::abs(v.integer())) : Value(std::abs(real_of(v, "abs")));
       }},
      {"capitalize", [](const Value& v, const Arguments&) { return Value(capitalized(to_text(v))); }},
      {"count", length},
      {"d", fallback},
      {"default", fallback},
      {"dictsort", [](const Value& v, const Arguments& a) { return Value(sorted(items_of(v), {{}, a.named})); }},
      {"e", [](const Value& v, const Arguments&) { return Value(escape(to_text(v))); }},
      {"escape", [](const Value& v, const Arguments&) { return Value(escape(to_text(v))); }},
      {"first", [](const Value& v, const Arguments&) { return ends(v, true); }},
      {"float",
       [](const Value& v, const Arguments& a) {
         return v.is_string() ? Value(to_integer(v, a).real()) : Value(real_of(v, "float"));
       }},
      {"indent", [](const Value& v, const Arguments& a) { return Value(indent(to_text(v), a)); }},
      {"int", to_integer},
      {"items", [](const Value& v, const Arguments&) { return Value(items_of(v)); }},
      {"join",
       [](const Value& v, const Arguments& a) {
         const Value d = a.get(0, "d");
         return Value(join(iterate(v), d.is_undefined() ? "" : to_text(d), a.get(1, "attribute")));
       }},
      {"last", [](const Value& v, const Arguments&) { return ends(v, false); }},
      {"length", length},
      {"list", [](const Value& v, const Arguments&) { return Value(iterate(v)); }},
      {"lower", [](const Value& v, const Arguments&) { return Value(lowered(to_text(v))); }},
      {"map", [](const Value& v, const Arguments& a) { return Value(map_values(v, a)); }},
      {"max",
       [](const Value& v, const Arguments&) {
         const List all = iterate(v);
         return all.empty() ? Value() : *std::max_element(all.begin(), all.end(), less);
       }},
      {"min",
       [](const Value& v, const Arguments&) {
         const List all = iterate(v);
         return all.empty() ? Value() : *std::min_element(all.begin(), all.end(), less);
       }},
      {"reject", [](const Value& v, const Arguments& a) { return Value(select(v, a, false, false)); }},
      {"rejectattr", [](const Value& v, const Arguments& a) { return Value(select(v, a, true, false)); }},
      {"replace",
       [](const Value& v, const Arguments& a) {
         return Value(replace(to_text(v), to_text(a.get(0, "old")), to_text(a.get(1, "new")),
                              a.get(2, "count").is_integer() ? a.get(2, "count").integer() : -1));
       }},
      {"reverse",
       [](const Value& v, const Arguments&) {
         List all = iterate(v);
         std::reverse(all.begin(), all.end());
         return v.is_string() ? Value(join(all, "", {})) : Value(all);
       }},
      {"round",
       [](const Value& v, const Arguments& a) {
         const double scale = std::pow(
             10.0, a.get(0, "precision").is_integer() ? static_cast<double>(a.get(0, "precision").integer()) : 0.0);
         return Value(std::nearbyint(real_of(v, "round") * scale) / scale);
       }},
      {"safe", [](const Value& v, const Arguments&) { return v; }},
      {"select", [](const Value& v, const Arguments& a) { return Value(select(v, a, false, true)); }},
      {"selectattr", [](const Value& v, const Arguments& a) { return Value(select(v, a, true, true)); }},
      {"sort", [](const Value& v, const Arguments& a) { return Value(sorted(iterate(v), a)); }},
      {"string", [](const Value& v, const Arguments&) { return Value(to_text(v)); }},
      {"sum",
       [](const Value& v, const Arguments& a) {
         Value total(0);
         const Value by = a.get(0, "attribute");
         for (const auto& one : iterate(v)) total = binary("+", total, by.is_undefined() ? one : item(one, by));
         return total;
       }},
      {"title", [](const Value& v, const Arguments&) { return Value(title(to_text(v))); }},
      {"tojson",
       [](const Value& v, const Arguments& a) {
         const Value width = a.get(99, "indent");
         return Value(
             to_json(v, width.is_integer() ? static_cast<int>(std::clamp<std::int64_t>(width.integer(), 0, 64)) : -1));
       }},
      {"trim",
       [](const Value& v, const Arguments& a) { return Value(strip(to_text(v), a.get(0, "chars"), true, true)); }},
      {"unique",
       [](const Value& v, const Arguments&) {
         List out;
         for (const auto& one : iterate(v))
           if (std::none_of(out.begin(), out.end(), [&](const Value& o) { return equal(o, one); })) out.push_back(one);
         return Value(out);
       }},
      {"upper", [](const Value& v, const Arguments&) { return Value(raised(to_text(v))); }},
  };
  return table;
}

using Test = std::function<bool(const Value&, const Arguments&)>;
const std::map<std::string, Test, std::less<>>& tests() {
  static const Test same = [](const Value& v, const Arguments& a) { return equal(v, a.get(0, "other")); };
  static const std::map<std::string, Test, std::less<>> table{
      {"boolean", [](const Value& v, const Arguments&) { return v.is_bool(); }},
      {"defined", [](const Value& v, const Arguments&) { return !v.is_undefined(); }},
      {"divisibleby",
       [](const Value& v, const Arguments& a) {
         const std::int64_t by = integer_of(a.get(0, "num"), "divisibleby");
         if (by == 0) fail("division by zero");
         return integer_of(v, "divisibleby") % by == 0;
       }},
      {"eq", same},
      {"equalto", same},
      {"even", [](const Value& v, const Arguments&) { return integer_of(v, "even") % 2 == 0; }},
      {"false", [](const Value& v, const Arguments&) { return v.is_bool() && !v.boolean(); }},
      {"float", [](const Value& v, const Arguments&) { return v.is_real(); }},
      {"ge", [](const Value& v, const Arguments& a) { return !less(v, a.get(0, "other")); }},
      {"gt", [](const Value& v, const Arguments& a) { return less(a.get(0, "other"), v); }},
      {"in", [](const Value& v, const Arguments& a) { return truth(binary("in", v, a.get(0, "seq"))); }},
      {"integer", [](const Value& v, const Arguments&) { return v.is_integer(); }},
      {"iterable", [](const Value& v, const Arguments&) { return v.is_list() || v.is_object() || v.is_string(); }},
      {"le", [](const Value& v, const Arguments& a) { return !less(a.get(0, "other"), v); }},
      {"lower", [](const Value& v, const Arguments&) { return to_text(v) == lowered(to_text(v)); }},
      {"lt", [](const Value& v, const Arguments& a) { return less(v, a.get(0, "other")); }},
      {"mapping", [](const Value& v, const Arguments&) { return v.is_object(); }},
      {"ne", [](const Value& v, const Arguments& a) { return !equal(v, a.get(0, "other")); }},
      {"none", [](const Value& v, const Arguments&) { return v.is_null(); }},
      {"number", [](const Value& v, const Arguments&) { return v.is_number() || v.is_bool(); }},
      {"odd", [](const Value& v, const Arguments&) { return integer_of(v, "odd") % 2 != 0; }},
      {"sameas",
       [](const Value& v, const Arguments& a) {
         return v.data.index() == a.get(0, "other").data.index() && equal(v, a.get(0, "other"));
       }},
      {"sequence", [](const Value& v, const Arguments&) { return v.is_list() || v.is_object() || v.is_string(); }},
      {"string", [](const Value& v, const Arguments&) { return v.is_string(); }},
      {"true", [](const Value& v, const Arguments&) { return v.is_bool() && v.boolean(); }},
      {"undefined", [](const Value& v, const Arguments&) { return v.is_undefined(); }},
      {"upper", [](const Value& v, const Arguments&) { return to_text(v) == raised(to_text(v)); }},
  };
  return table;
}

Value text_method(const std::string& s, std::string_view name, const Arguments& a) {
  const auto starts = [&](bool front) {
    const Value what = a.get(0, "prefix");
    const List options = what.is_list() ? what.list() : List{what};
    return std::any_of(options.begin(), options.end(), [&](const Value& v) {
      return front ? s.starts_with(text_of(v, name)) : s.ends_with(text_of(v, name));
    });
  };
  const auto count = [&](std::size_t i, std::string_view named) {
    const Value v = a.get(i, named);
    return v.is_undefined() ? std::int64_t{-1} : integer_of(v, name);
  };
  if (name == "strip") return Value(strip(s, a.get(0, "chars"), true, true));
  if (name == "lstrip") return Value(strip(s, a.get(0, "chars"), true, false));
  if (name == "rstrip") return Value(strip(s, a.get(0, "chars"), false, true));
  if (name == "startswith") return Value(starts(true));
  if (name == "endswith") return Value(starts(false));
  if (name == "upper") return Value(raised(s));
  if (name == "lower") return Value(lowered(s));
  if (name == "title") return Value(title(s));
  if (name == "capitalize") return Value(capitalized(s));
  if (name == "split") return Value(split(s, a.get(0, "sep"), count(1, "maxsplit")));
  if (name == "splitlines") {
    List lines = split(replace(s, "\r\n", "\n", -1), Value("\n"), -1);
    if (!lines.empty() && lines.back().string().empty()) lines.pop_back();
    return Value(lines);
  }
  if (name == "replace")
    return Value(replace(s, text_of(a.get(0, "old"), name), text_of(a.get(1, "new"), name), count(2, "count")));
  if (name == "join") return Value(join(iterate(a.get(0, "iterable")), s, {}));
  if (name == "find") {
    const std::size_t at = s.find(text_of(a.get(0, "sub"), name));
    return at == std::string::npos ? Value(-1) : Value(length_of(Value(s.substr(0, at))));
  }
  if (name == "count") {
    const std::string& what = text_of(a.get(0, "sub"), name);
    std::int64_t found = 0;
    for (std::size_t at = s.find(what); at != std::string::npos && !what.empty(); at = s.find(what, at + what.size()))
      ++found;
    return Value(found);
  }
  if (name == "isdigit")
    return Value(!s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; }));
  fail(fmt::format("a text has no method '{}'", name));
}

}  // namespace

Value Arguments::get(std::size_t i, std::string_view name) const {
  if (i < positional.size()) return positional[i];
  for (const auto& [key, value] : named)
    if (key == name) return value;
  return {};
}

bool truth(const Value& v) {
  if (v.is_bool()) return v.boolean();
  if (v.is_number()) return v.real() != 0;
  if (v.is_string()) return !v.string().empty();
  if (v.is_list()) return !v.list().empty();
  return v.is_object() && !v.object().empty();
}

bool equal(const Value& a, const Value& b) {
  const auto numeric = [](const Value& v) { return v.is_number() || v.is_bool(); };
  if (numeric(a) && numeric(b)) return real_of(a, "==") == real_of(b, "==");
  if (a.data.index() != b.data.index()) return false;
  if (a.is_string()) return a.string() == b.string();
  if (a.is_list()) return std::equal(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), equal);
  if (!a.is_object()) return true;
  if (a.object().size() != b.object().size()) return false;
  return std::all_of(a.object().begin(), a.object().end(), [&](const auto& entry) {
    const Value* other = b.find(entry.first);
    return other != nullptr && equal(entry.second, *other);
  });
}

std::string to_text(const Value& v) {
  if (v.is_string()) return v.string();
  if (v.is_undefined()) return "";
  if (v.is_null()) return "None";
  if (v.is_bool()) return v.boolean() ? "True" : "False";
  if (v.is_integer()) return std::to_string(v.integer());
  if (v.is_real()) return real_text(v.real());
  std::string out(1, v.is_list() ? '[' : '{');
  bool first = true;
  const auto separate = [&] {
    if (!first) out += ", ";
    first = false;
  };
  if (v.is_list()) {
    for (const auto& one : v.list()) separate(), out += repr(one);
  } else {
    for (const auto& [key, value] : v.object()) separate(), out += repr(Value(key)) + ": " + repr(value);
  }
  return out + (v.is_list() ? ']' : '}');
}

Value binary(std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return Value(equal(a, b));
  if (op == "!=") return Value(!equal(a, b));
  if (op == "<") return Value(less(a, b));
  if (op == ">") return Value(less(b, a));
  if (op == "<=") return Value(!less(b, a));
  if (op == ">=") return Value(!less(a, b));
  if (op == "~") return Value(to_text(a) + to_text(b));
  if (op == "in" || op == "not in") {
    bool found = false;
    if (b.is_string()) {
      found = b.string().find(text_of(a, "in")) != std::string::npos;
    } else if (b.is_object()) {
      found = a.is_string() && b.find(a.string()) != nullptr;
    } else {
      for (const auto& one : iterate(b)) found |= equal(one, a);
    }
    return Value(found == (op == "in"));
  }
  if (op == "+" && a.is_string() && b.is_string()) return Value(a.string() + b.string());
  if (op == "+" && a.is_list() && b.is_list()) {
    List both = a.list();
    both.insert(both.end(), b.list().begin(), b.list().end());
    return Value(std::move(both));
  }
  if (op == "*" && a.is_string()) {
    const std::int64_t times = std::max<std::int64_t>(integer_of(b, "*"), 0);
    if (static_cast<double>(times) * static_cast<double>(a.string().size()) > static_cast<double>(kLongest))
      fail("a text became too long");
    std::string out;
    for (std::int64_t i = 0; i < times; ++i) out += a.string();
    return Value(std::move(out));
  }
  const bool whole = !a.is_real() && !b.is_real() && op != "/";
  const double x = real_of(a, op), y = real_of(b, op);
  double result = 0;
  if (op == "+") result = x + y;
  if (op == "-") result = x - y;
  if (op == "*") result = x * y;
  if (op == "**") result = std::pow(x, y);
  if (op == "/" || op == "//" || op == "%") {
    if (y == 0) fail("division by zero");
    result = op == "/" ? x / y : op == "//" ? std::floor(x / y) : x - std::floor(x / y) * y;
  }
  if (whole && std::abs(result) < 9e15 && result == std::floor(result)) return Value(static_cast<std::int64_t>(result));
  return Value(result);
}

Value item(const Value& of, const Value& key) {
  if (of.is_object()) {
    const Value* found = key.is_string() ? of.find(key.string()) : nullptr;
    return found == nullptr ? Value() : *found;
  }
  if (of.is_undefined()) fail(fmt::format("'{}' is looked for in a value that is undefined", to_text(key)));
  if (key.is_string() && of.is_list()) return {};
  if (!of.is_list() && !of.is_string()) return {};
  if (!key.is_integer()) return {};
  const List all = iterate(of);
  std::int64_t i = key.integer();
  if (i < 0) i += static_cast<std::int64_t>(all.size());
  return i < 0 || i >= static_cast<std::int64_t>(all.size()) ? Value() : all[static_cast<std::size_t>(i)];
}

Value slice(const Value& of, const Value& start, const Value& stop, const Value& step) {
  const List all = iterate(of);
  const auto size = static_cast<std::int64_t>(all.size());
  const std::int64_t by = step.is_integer() ? step.integer() : 1;
  if (by == 0) fail("a slice's step is zero");
  const auto bound = [&](const Value& v, std::int64_t fallback) {
    if (!v.is_integer()) return fallback;
    const std::int64_t at = v.integer() < 0 ? v.integer() + size : v.integer();
    return std::clamp<std::int64_t>(at, by > 0 ? 0 : -1, by > 0 ? size : size - 1);
  };
  const std::int64_t begin = bound(start, by > 0 ? 0 : size - 1), end = bound(stop, by > 0 ? size : -1);
  List out;
  for (std::int64_t i = begin; by > 0 ? i < end : i > end; i += by) out.push_back(all[static_cast<std::size_t>(i)]);
  return of.is_string() ? Value(join(out, "", {})) : Value(std::move(out));
}

List iterate(const Value& v) {
  if (v.is_list()) return v.list();
  if (v.is_undefined()) return {};
  List out;
  if (v.is_object()) {
    for (const auto& entry : v.object()) out.emplace_back(entry.first);
    return out;
  }
  const std::string& s = text_of(v, "a loop");
  for (std::size_t at = 0; at < s.size(); at += code_point_length(s[at]))
    out.emplace_back(s.substr(at, code_point_length(s[at])));
  return out;
}

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments) {
  const auto found = filters().find(name);
  if (found == filters().end()) fail(fmt::format("there is no filter '{}'", name));
  return found->second(value, arguments);
}

bool apply_test(std::string_view name, const Value& value, const Arguments& arguments) {
  const auto found = tests().find(name);
  if (found == tests().end()) fail(fmt::format("there is no test '{}'", name));
  return found->second(value, arguments);
}

Value call_method(const Value& object, std::string_view name, const Arguments& a) {
  if (object.is_string()) return text_method(object.string(), name, a);
  if (object.is_undefined()) fail(fmt::format("'{}' is called on a value that is undefined", name));
  if (object.is_object()) {
    if (name == "items") return Value(items_of(object));
    if (name == "keys") return Value(iterate(object));
    if (name == "values") {
      List out;
      for (const auto& entry : object.object()) out.push_back(entry.second);
      return Value(std::move(out));
    }
    if (name == "get") {
      const Value key = a.get(0, "key"), fallback = a.get(1, "default");
      const Value* found = key.is_string() ? object.find(key.string()) : nullptr;
      return found != nullptr ? *found : fallback.is_undefined() ? Value(Null{}) : fallback;
    }
  }
  if (object.is_list() && (name == "index" || name == "count")) {
    std::int64_t seen = 0;
    for (std::size_t i = 0; i < object.list().size(); ++i) {
      if (!equal(object.list()[i], a.get(0, "value"))) continue;
      if (name == "index") return Value(static_cast<std::int64_t>(i));
      ++seen;
    }
    if (name == "count") return Value(seen);
    fail("the value is not in the list");
  }
  fail(fmt::format("{} has no method '{}'", type_name(object), name));
}

bool is_function(std::string_view name) {
  return name == "range" || name == "namespace" || name == "dict" || name == "raise_exception" ||
         name == "strftime_now";
}

Value call_function(std::string_view name, const Arguments& a) {
  if (name == "raise_exception") fail(to_text(a.get(0, "message")));
  if (name == "strftime_now") {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    char buffer[256] = {};
    if (std::strftime(buffer, sizeof buffer, text_of(a.get(0, "format"), name).c_str(), &local) == 0) return Value("");
    return Value(buffer);
  }
  if (name == "range") {
    const bool one = a.positional.size() == 1;
    const std::int64_t start = one ? 0 : integer_of(a.get(0, "start"), name),
                       stop = integer_of(a.get(one ? 0 : 1, "stop"), name);
    const std::int64_t step = a.positional.size() > 2 ? integer_of(a.positional[2], name) : 1;
    if (step == 0) fail("a range's step is zero");
    if (std::abs(static_cast<double>(stop) - static_cast<double>(start)) >
        100000.0 * std::abs(static_cast<double>(step)))
      fail("a range is too long");
    List out;
    for (std::int64_t i = start; step > 0 ? i < stop : i > stop; i += step) out.emplace_back(i);
    return Value(std::move(out));
  }
  Object made;  // namespace, dict
  if (!a.positional.empty() && a.positional[0].is_object()) made = a.positional[0].object();
  const Value result(std::move(made));
  for (const auto& [key, value] : a.named) result.set(key, value);
  return result;
}

}  // namespace tenon::text::jinja
