#include "tenon/data/char_text.h"

#include <fmt/format.h>

#include <cstring>

#include "tenon/base/error.h"
#include "tenon/base/file.h"

namespace tenon::data {
namespace {

class WindowSource final : public Source {
 public:
  // count < 0: sequential.
  WindowSource(Tokens tokens, std::int64_t context, std::int64_t count)
      : tokens_(std::move(tokens)), context_(context), random_(count >= 0) {
    const auto length = static_cast<std::int64_t>(tokens_->size());
    if (context < 1) throw ValueError({"windows", "context is not accepted", "1 or more", std::to_string(context), ""});
    if (length <= context && (random_ || length > 0)) {
      throw ValueError({"windows", "the text is too short for one window", fmt::format("more than {} tokens", context),
                        fmt::format("{} tokens", length), "take a longer text or a smaller context"});
    }
    size_ = random_ ? count : (length - 1) / context;
  }
  [[nodiscard]] std::int64_t size() const override { return size_; }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override {
    return windows({&index, 1}, {}, draw);
  }
  [[nodiscard]] Example gather(std::span<const std::int64_t> indices, const Draw& draw) const override {
    return windows(indices, {static_cast<std::int64_t>(indices.size())}, draw);
  }

 private:
  [[nodiscard]] std::int64_t start(std::int64_t index, const Draw& draw) const {
    if (!random_) return index * context_;
    Random random(stream_key(draw.seed, static_cast<std::uint64_t>(draw.epoch), static_cast<std::uint64_t>(index)));
    return random.below(static_cast<std::int64_t>(tokens_->size()) - context_);
  }
  [[nodiscard]] Example windows(std::span<const std::int64_t> indices, Shape shape, const Draw& draw) const {
    shape.push_back(context_);
    Tensor input = empty(shape, DType::I64);
    Tensor label = empty(shape, DType::I64);
    std::byte* to_input = mutable_data(input);
    std::byte* to_label = mutable_data(label);
    const std::size_t row = static_cast<std::size_t>(context_) * sizeof(std::int64_t);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::int64_t* from = tokens_->data() + start(indices[i], draw);
      std::memcpy(to_input + i * row, from, row);
      std::memcpy(to_label + i * row, from + 1, row);
    }
    return {{"input", std::move(input)}, {"label", std::move(label)}};
  }

  Tokens tokens_;
  std::int64_t context_;
  bool random_;
  std::int64_t size_ = 0;
};

}  // namespace

Dataset random_windows(Tokens tokens, std::int64_t context, std::int64_t count) {
  if (count < 0) throw ValueError({"random_windows", "count is negative", "0 or more", std::to_string(count), ""});
  return Dataset(std::make_shared<WindowSource>(std::move(tokens), context, count));
}

Dataset sequential_windows(Tokens tokens, std::int64_t context) {
  return Dataset(std::make_shared<WindowSource>(std::move(tokens), context, -1));
}

CharText CharText::from_text(std::string_view text, std::int64_t context, const CharTextOptions& options,
                             std::string_view where) {
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1)) {
    throw ValueError({"CharTextOptions", "validation_fraction is not accepted", "0 up to, but not including, 1",
                      fmt::format("{}", options.validation_fraction), ""});
  }
  if (context < 1) throw ValueError({"CharText", "context is not accepted", "1 or more", std::to_string(context), ""});
  CharText result;
  result.context_ = context;
  result.vocabulary_ = options.vocabulary ? *options.vocabulary : CharVocabulary(text, where);
  std::vector<std::int64_t> tokens = result.vocabulary_.encode(text, where);
  const auto length = static_cast<double>(tokens.size());
  // nanoGPT's rule: int(n * 0.9) tokens are for training.
  const auto train = static_cast<std::ptrdiff_t>(length * (1 - options.validation_fraction));
  result.validation_ = std::make_shared<std::vector<std::int64_t>>(tokens.begin() + train, tokens.end());
  tokens.resize(static_cast<std::size_t>(train));
  result.train_ = std::make_shared<std::vector<std::int64_t>>(std::move(tokens));
  for (const auto& [part, name] :
       {std::pair(&result.train_, "training"), std::pair(&result.validation_, "validation")}) {
    const auto size = static_cast<std::int64_t>((*part)->size());
    const bool wanted = part == &result.train_ || options.validation_fraction > 0;
    if (wanted && size <= context) {
      throw ValueError({std::string(where), fmt::format("the {} part of the text is too short for one window", name),
                        fmt::format("more than {} characters", context), fmt::format("{} characters", size),
                        "take a longer text or a smaller context"});
    }
  }
  return result;
}

CharText::CharText(const std::filesystem::path& path, std::int64_t context, const CharTextOptions& options)
    : CharText(from_text(read_text_file(path), context, options, path.string())) {}

}  // namespace tenon::data
