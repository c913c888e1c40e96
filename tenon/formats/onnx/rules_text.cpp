// Operators on strings, and the few of ai.onnx.ml that exports use.
#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <regex>
#include <set>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/movement.h"

namespace tenon::formats::onnx {
namespace {

std::string changed_case(std::string text, const std::string& action) {
  for (char& ch : text) {
    const auto byte = static_cast<unsigned char>(ch);
    if (byte >= 128) continue;
    if (action == "LOWER") ch = static_cast<char>(std::tolower(byte));
    if (action == "UPPER") ch = static_cast<char>(std::toupper(byte));
  }
  return text;
}

Values string_normalizer(Call& c) {
  const Texts& x = c.texts(0);
  const std::string action = c.text_attribute("case_change_action", "NONE");
  const bool exact = c.integer_attribute("is_case_sensitive", 0) != 0;
  std::set<std::string> stop;
  if (const auto* a = c.attribute("stopwords")) {
    for (const auto& word : a->strings) stop.insert(exact ? word : changed_case(word, "LOWER"));
  }
  Texts out;
  for (const auto& word : x.values) {
    if (stop.contains(exact ? word : changed_case(word, "LOWER"))) continue;
    out.values.push_back(changed_case(word, action));
  }
  if (out.values.empty()) out.values.emplace_back();
  out.shape = {static_cast<int64_t>(out.values.size())};
  if (x.shape.size() == 2) out.shape.insert(out.shape.begin(), 1);
  return {out};
}

Values string_concat(Call& c) {
  const Texts &a = c.texts(0), &b = c.texts(1);
  const Shape shape = broadcast_shapes(c.where, a.shape, b.shape);
  const auto places = [&](const Texts& t) {
    return expand(reshape(arange(static_cast<int64_t>(t.values.size())), t.shape), shape).to_vector<int64_t>();
  };
  const auto pa = places(a), pb = places(b);
  Texts out{shape, {}};
  for (size_t i = 0; i < pa.size(); ++i)
    out.values.push_back(a.values[static_cast<size_t>(pa[i])] + b.values[static_cast<size_t>(pb[i])]);
  return {out};
}

std::vector<std::string> split_text(const std::string& text, const std::string& delimiter, int64_t most) {
  std::vector<std::string> parts;
  if (delimiter.empty()) {
    // At runs of white space.
    size_t at = 0;
    const auto space = [](char ch) { return std::isspace(static_cast<unsigned char>(ch)) != 0; };
    while (true) {
      while (at < text.size() && space(text[at])) ++at;
      if (at >= text.size()) break;
      if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
        size_t end = text.size();
        while (end > at && space(text[end - 1])) --end;
        parts.push_back(text.substr(at, end - at));
        break;
      }
      size_t end = at;
      while (end < text.size() && !space(text[end])) ++end;
      parts.push_back(text.substr(at, end - at));
      at = end;
    }
    return parts;
  }
  size_t at = 0;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t found = text.find(delimiter, at);
    if (found == std::string::npos) break;
    parts.push_back(text.substr(at, found - at));
    at = found + delimiter.size();
  }
  parts.push_back(text.substr(at));
  return parts;
}

Values string_split(Call& c) {
  const Texts& x = c.texts(0);
  const std::string delimiter = c.text_attribute("delimiter", "");
  const int64_t most = c.integer_attribute("maxsplit", -1);
  std::vector<std::vector<std::string>> rows;
  size_t widest = 0;
  std::vector<int64_t> counts;
  for (const auto& text : x.values) {
    rows.push_back(split_text(text, delimiter, most));
    widest = std::max(widest, rows.back().size());
    counts.push_back(static_cast<int64_t>(rows.back().size()));
  }
  Texts out{x.shape, {}};
  out.shape.push_back(static_cast<int64_t>(widest));
  for (auto& row : rows) {
    row.resize(widest);
    out.values.insert(out.values.end(), row.begin(), row.end());
  }
  return {out, from_vector(counts, x.shape)};
}

Values regex_full_match(Call& c) {
  const Texts& x = c.texts(0);
  const std::string pattern = c.text_attribute("pattern", "");
  try {
    const std::regex expression(pattern, std::regex::ECMAScript);
    std::vector<bool> hits;
    for (const auto& text : x.values) hits.push_back(std::regex_match(text, expression));
    return {from_vector(hits, x.shape)};
  } catch (const std::regex_error& error) {
    c.unsupported("the pattern '" + pattern + "': " + error.what());
  }
}

// Counts of the n-grams of a vocabulary, with gaps up to max_skip_count.
Values tf_idf(Call& c) {
  const auto counts_at = c.integers_attribute("ngram_counts"), slots = c.integers_attribute("ngram_indexes");
  const int64_t least = c.integer_attribute("min_gram_length", 1), most = c.integer_attribute("max_gram_length", 1),
                skips = c.integer_attribute("max_skip_count", 0);
  // The words of the vocabulary and of the rows, as texts.
  std::vector<std::string> pool, words;
  Shape shape;
  if (const auto* a = c.attribute("pool_strings"); a && !a->strings.empty()) {
    pool = a->strings;
    words = c.texts(0).values;
    shape = c.texts(0).shape;
  } else {
    for (int64_t v : c.integers_attribute("pool_int64s")) pool.push_back(std::to_string(v));
    for (int64_t v : c.integers(0)) words.push_back(std::to_string(v));
    shape = c.tensor(0).shape();
  }
  std::map<std::vector<std::string>, int64_t> number;
  int64_t next = 0;
  for (size_t n = 0; n < counts_at.size(); ++n) {
    const auto length = static_cast<int64_t>(n) + 1;
    const auto end = n + 1 < counts_at.size() ? counts_at[n + 1] : static_cast<int64_t>(pool.size());
    for (int64_t at = counts_at[n]; at + length <= end; at += length)
      number[{pool.begin() + at, pool.begin() + at + length}] = next++;
  }
  const int64_t rows = shape.size() == 2 ? shape[0] : 1,
                width = rows == 0 ? 0 : static_cast<int64_t>(words.size()) / rows;
  int64_t columns = 0;
  for (int64_t s : slots) columns = std::max(columns, s + 1);
  std::vector<float> out(static_cast<size_t>(rows * columns), 0);
  const auto* weights = c.attribute("weights");
  const std::string mode = c.text_attribute("mode", "TF");
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<float> hits(slots.size(), 0);
    for (int64_t length = least; length <= most; ++length) {
      for (int64_t skip = 0; skip <= (length == 1 ? 0 : skips); ++skip) {
        const int64_t step = skip + 1;
        for (int64_t at = 0; at + (length - 1) * step < width; ++at) {
          std::vector<std::string> gram;
          for (int64_t k = 0; k < length; ++k) gram.push_back(words[static_cast<size_t>(r * width + at + k * step)]);
          const auto found = number.find(gram);
          if (found != number.end() && static_cast<size_t>(found->second) < hits.size())
            hits[static_cast<size_t>(found->second)] += 1;
        }
      }
    }
    for (size_t i = 0; i < slots.size(); ++i) {
      const float weight = weights && i < weights->floats.size() ? weights->floats[i] : 1;
      const float value = mode == "TF" ? hits[i] : (hits[i] > 0 ? 1 : 0) * (mode == "IDF" ? weight : 1);
      out[static_cast<size_t>(r * columns + slots[i])] = mode == "TFIDF" ? hits[i] * weight : value;
    }
  }
  return {from_vector(out, shape.size() == 2 ? Shape{rows, columns} : Shape{columns})};
}

// ---- ai.onnx.ml ----
Values binarizer(Call& c) {
  const Tensor x = c.tensor(0);
  return {cast(x > c.real_attribute("threshold", 0), x.dtype())};
}
Values array_feature_extractor(Call& c) {
  const Tensor x = c.tensor(0);
  const Tensor y = take(x, reshape(c.tensor(1), {-1}), -1);
  return {x.ndim() == 1 ? reshape(y, {1, -1}) : y};
}

template <class T>
struct Column {
  std::vector<T> values;
  bool given = false;
};

Values label_encoder(Call& c) {
  const auto keys_text = c.attribute("keys_strings"), keys_int = c.attribute("keys_int64s"),
             keys_real = c.attribute("keys_floats");
  std::vector<std::string> keys, given;
  Shape shape;
  const auto tensor_list = [&](const char* name) -> Value {
    const auto* a = c.attribute(name);
    return a && a->tensor ? read_tensor(*a->tensor, nullptr, {}, c.where) : Value();
  };
  const auto as_keys = [](const Tensor& t) {
    std::vector<std::string> list;
    for (double v : t.to_vector<double>()) list.push_back(std::to_string(v));
    return list;
  };
  const Value key_tensor = tensor_list("keys_tensor"), value_tensor = tensor_list("values_tensor"),
              default_tensor = tensor_list("default_tensor");
  if (c.has(0) && c.in[0].texts()) {
    given = c.texts(0).values;
    shape = c.texts(0).shape;
    if (keys_text) keys = keys_text->strings;
    if (key_tensor.texts()) keys = key_tensor.texts()->values;
  } else {
    given = as_keys(c.tensor(0));
    shape = c.tensor(0).shape();
    if (keys_int) keys = as_keys(tensor_of(keys_int->ints));
    if (keys_real) keys = as_keys(from_vector(keys_real->floats, {static_cast<int64_t>(keys_real->floats.size())}));
    if (key_tensor.tensor()) keys = as_keys(reshape(*key_tensor.tensor(), {-1}));
  }
  std::map<std::string, size_t> place;
  for (size_t i = 0; i < keys.size(); ++i) place.emplace(keys[i], i);
  const auto pick = [&](const auto& values, const auto& fallback) {
    std::remove_cvref_t<decltype(values)> out;
    for (const auto& key : given) {
      const auto found = place.find(key);
      out.push_back(found != place.end() && found->second < values.size() ? values[found->second] : fallback);
    }
    return out;
  };
  if (const auto* a = c.attribute("values_strings"))
    return {Texts{shape, pick(a->strings, c.text_attribute("default_string", "_Unused"))}};
  if (const auto* a = c.attribute("values_int64s"))
    return {from_vector(pick(a->ints, c.integer_attribute("default_int64", -1)), shape)};
  if (const auto* a = c.attribute("values_floats"))
    return {from_vector(pick(a->floats, static_cast<float>(c.real_attribute("default_float", -0.0))), shape)};
  if (value_tensor.texts())
    return {Texts{shape, pick(value_tensor.texts()->values,
                              default_tensor.texts() ? default_tensor.texts()->values.at(0) : std::string("_Unused"))}};
  if (!value_tensor.tensor()) c.fail("no values");
  const Tensor& v = *value_tensor.tensor();
  const double fallback = default_tensor.tensor() ? reshape(*default_tensor.tensor(), {}).item<double>()
                          : is_float(v.dtype())   ? 0
                                                  : -1;
  return {cast(from_vector(pick(v.to_vector<double>(), fallback), shape), v.dtype())};
}

constexpr std::array kRules{
    Rule{"StringNormalizer", string_normalizer},
    Rule{"StringConcat", string_concat},
    Rule{"StringSplit", string_split},
    Rule{"RegexFullMatch", regex_full_match},
    Rule{"TfIdfVectorizer", tf_idf},
    Rule{"Binarizer", binarizer, "ai.onnx.ml"},
    Rule{"ArrayFeatureExtractor", array_feature_extractor, "ai.onnx.ml"},
    Rule{"LabelEncoder", label_encoder, "ai.onnx.ml"},
};

}  // namespace

std::span<const Rule> text_rules() { return kRules; }

}  // namespace tenon::formats::onnx
