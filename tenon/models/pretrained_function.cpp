#include "tenon/models/pretrained_function.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <memory>

#include "tenon/base/error.h"
#include "tenon/models/keras.h"
#include "tenon/models/pretrained.h"
#include "tenon/models/residual_network.h"
#include "tenon/models/settings.h"
#include "tenon/models/t5.h"
#include "tenon/models/text_tasks.h"
#include "tenon/models/vit.h"
#include "tenon/nn/module.h"

namespace tenon::models {
namespace {

using Path = std::filesystem::path;

// The function of a model that lives as long as it: `run` is given the model and the inputs.
template <class Model, class Run>
void bind(PretrainedFunction& f, Model loaded, Run run) {
  const auto model = std::make_shared<const Model>(std::move(loaded));
  f.weights = nn::state_dict(*model);
  f.fn = [model, run](const Tensors& in) { return run(*model, in); };
}

InputSpec token_input(const std::string& name, const char* length, int64_t most) {
  return {name, DType::I64, {"batch", Dim(length, 1, most)}};
}

void tokens_in(PretrainedFunction& f, const std::vector<const char*>& names, int64_t most = INT64_MAX) {
  for (const char* name : names) f.inputs.push_back(token_input(name, "seq", most));
}

constexpr auto kOfTokens = [](const auto& model, const Tensors& in) { return Tensors{model(in[0])}; };

void load_writer(const Path& folder, PretrainedFunction& f) {
  const bool plain = f.architecture.empty() || f.architecture.ends_with("ForCausalLM") ||
                     f.architecture.ends_with("LMHeadModel") || f.architecture == "GPT2Model";
  f.outputs = {"logits"};
  if (f.type == "gpt2" && plain) {
    GPT2 model = load_gpt2(folder);
    tokens_in(f, {"input_ids"}, model.config.n_positions);
    bind(f, std::move(model), kOfTokens);
  } else if (f.type == "gpt2") {
    GPT2Task model = load_gpt2_task(folder);
    tokens_in(f, {"input_ids"}, model.config.n_positions);
    f.labels = model.labels;
    bind(f, std::move(model), kOfTokens);
  } else if (plain) {
    tokens_in(f, {"input_ids"});
    bind(f, load_llama(folder), kOfTokens);
  } else {
    tokens_in(f, {"input_ids"});
    LlamaTask model = load_llama_task(folder);
    f.labels = model.labels;
    bind(f, std::move(model), kOfTokens);
  }
}

void load_encoder(const Path& folder, PretrainedFunction& f) {
  const auto most = [](const BertConfig& c) { return c.max_position_embeddings - c.first_position; };
  // With one kind of token there is nothing to choose.
  const auto names = [](const BertConfig& c) {
    std::vector<const char*> list{"input_ids", "attention_mask"};
    if (c.type_vocab_size > 1) list.push_back("token_type_ids");
    return list;
  };
  constexpr auto kTypes = [](const Tensors& in) { return in.size() > 2 ? in[2] : Tensor(); };
  if (f.architecture.find("For") != std::string::npos) {
    BertTask model = load_bert_task(folder);
    tokens_in(f, names(model.body().config), most(model.body().config));
    f.outputs = {"logits"};
    f.labels = model.labels;
    bind(f, std::move(model),
         [=](const BertTask& m, const Tensors& in) { return Tensors{m(in[0], in[1], kTypes(in))}; });
    return;
  }
  Bert model = load_bert(folder);
  tokens_in(f, names(model.config), most(model.config));
  f.outputs = {"last_hidden_state"};
  if (model.pooler) f.outputs.emplace_back("pooler_output");
  bind(f, std::move(model), [=](const Bert& m, const Tensors& in) {
    const auto [hidden, pooled] = m(in[0], in[1], kTypes(in));
    return pooled.defined() ? Tensors{hidden, pooled} : Tensors{hidden};
  });
}

void load_t5_family(const Path& folder, PretrainedFunction& f) {
  tokens_in(f, {"input_ids", "attention_mask"});
  f.outputs = {"logits"};
  constexpr auto kMasked = [](const auto& m, const Tensors& in) { return Tensors{m(in[0], in[1])}; };
  if (f.architecture == "T5ForSequenceClassification") {
    auto model = load_t5_for_sequence_classification(folder);
    f.labels = model.labels;
    bind(f, std::move(model), kMasked);
    return;
  }
  if (f.architecture == "T5ForTokenClassification") {
    auto model = load_t5_for_token_classification(folder);
    f.labels = model.labels;
    bind(f, std::move(model), kMasked);
    return;
  }
  T5 model = load_t5(folder);
  if (!model.decoder) {
    f.outputs = {"last_hidden_state"};
    bind(f, std::move(model), [](const T5& m, const Tensors& in) { return Tensors{m.encode(in[0], in[1])}; });
    return;
  }
  f.inputs.push_back(token_input("decoder_input_ids", "decoder_seq", INT64_MAX));
  if (model.lm_head) {
    bind(f, std::move(model), [](const T5& m, const Tensors& in) { return Tensors{m(in[0], in[2], in[1])}; });
    return;
  }
  f.outputs = {"last_hidden_state"};
  bind(f, std::move(model),
       [](const T5& m, const Tensors& in) { return Tensors{m.decode(in[2], m.encode(in[0], in[1]), in[1])}; });
}

void load_vit_family(const Path& folder, PretrainedFunction& f) {
  const auto take = [&](const ViTConfig& c) {
    f.inputs.emplace_back("pixel_values", DType::F32,
                          std::vector<Dim>{"batch", c.num_channels, c.image_size, c.image_size});
  };
  if (f.architecture == "ViTForImageClassification") {
    ViTForImageClassification model = load_vit_for_image_classification(folder);
    take(model.vit.config);
    f.outputs = {"logits"};
    f.labels = model.labels;
    bind(f, std::move(model), kOfTokens);
    return;
  }
  ViT model = load_vit(folder);
  take(model.config);
  f.outputs = {"last_hidden_state"};
  if (model.pooler) f.outputs.emplace_back("pooler_output");
  bind(f, std::move(model), [](const ViT& m, const Tensors& in) {
    const auto [hidden, pooled] = m(in[0]);
    return pooled.defined() ? Tensors{hidden, pooled} : Tensors{hidden};
  });
}

void load_resnet_family(const Path& folder, PretrainedFunction& f) {
  const auto take = [&](const ResidualConfig& c) {
    f.inputs.emplace_back("pixel_values", DType::F32, std::vector<Dim>{"batch", c.num_channels, 224, 224});
  };
  if (f.architecture == "ResNetForImageClassification") {
    ResNetForImageClassification model = load_resnet_for_image_classification(folder);
    take(model.resnet.config);
    f.outputs = {"logits"};
    f.labels = model.labels;
    bind(f, std::move(model), kOfTokens);
    return;
  }
  ResidualNetwork model = load_resnet(folder);
  take(model.config);
  f.outputs = {"last_hidden_state"};
  bind(f, std::move(model), kOfTokens);
}

struct Family {
  std::string_view type;
  void (*load)(const Path&, PretrainedFunction&);
};
constexpr std::array kFamilies{
    Family{"bert", load_encoder}, Family{"roberta", load_encoder}, Family{"gpt2", load_writer},
    Family{"llama", load_writer}, Family{"mistral", load_writer},  Family{"qwen2", load_writer},
    Family{"t5", load_t5_family}, Family{"vit", load_vit_family},  Family{"resnet", load_resnet_family},
};

}  // namespace

PretrainedFunction load_pretrained_function(const Path& folder) {
  const Settings settings = read_settings(folder / "config.json");
  PretrainedFunction f;
  f.type = settings.string("model_type", "");
  f.architecture = settings.architecture();
  std::vector<std::string_view> types;
  for (const Family& family : kFamilies) {
    types.push_back(family.type);
    if (family.type != f.type) continue;
    family.load(folder, f);
    return f;
  }
  throw UnsupportedError({.where = settings.where,
                          .problem = fmt::format("the model type '{}' is not to be had", f.type),
                          .expected = fmt::format("{}", fmt::join(types, ", "))});
}

PretrainedFunction load_keras_function(const Path& path) {
  const auto model = std::make_shared<const KerasModel>(KerasModel::load(path));
  PretrainedFunction f;
  f.type = "keras";
  for (const KerasInput& input : model->inputs()) {
    if (input.extents.empty())
      throw UnsupportedError({.where = path.string(), .problem = "the file does not say how large the input is"});
    std::vector<Dim> dims;
    for (std::size_t k = 0; k < input.extents.size(); ++k) {
      if (input.extents[k] >= 0) {
        dims.emplace_back(input.extents[k]);
      } else if (k == 0) {
        dims.emplace_back("batch");
      } else {
        dims.emplace_back(fmt::format("size{}", k));
      }
    }
    f.inputs.emplace_back(input.name, input.dtype, dims);
  }
  f.weights = model->state_dict();
  f.outputs = model->output_names();
  f.fn = [model](const Tensors& in) {
    const std::vector<Tensor> out = model->run({in.begin(), in.end()});
    return Tensors(out.begin(), out.end());
  };
  return f;
}

}  // namespace tenon::models
