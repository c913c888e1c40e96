// Chat templates: how a list of messages becomes the one text that a model was trained on.
//
// Published models bring them as Jinja templates. This is the part of Jinja that such templates use: output, if, for
// (with loop, conditions, unpacking, break and continue), set (also of a namespace, and as a block), macro, filter
// blocks, generation marks, expressions with Python's operators, slices and methods, filters and tests, and white space
// as `transformers` sets it (trim_blocks, lstrip_blocks). A template runs no code but its own, has no access to
// anything but the values that it is given, and stops after a fixed number of steps.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "tenon/text/value.h"

namespace tenon::text {

namespace jinja {
struct Node;
}

class ChatTemplate {
 public:
  // Errors: FormatError naming `where` and the line.
  explicit ChatTemplate(std::string_view source, std::string where = "chat template");

  // `context` is an object: messages, tools, add_generation_prompt, bos_token, eos_token and what else the template
  // reads. Errors: ValueError with the template's own text (raise_exception), or naming the line that went wrong.
  [[nodiscard]] std::string render(const Value& context) const;

 private:
  std::string where_;
  std::shared_ptr<const jinja::Node> root_;
};

struct Message {
  std::string role;  // "system", "user", "assistant", …
  std::string content;
};

// The template of a model's folder: chat_template.jinja, or in tokenizer_config.json (of several, the one called
// "default"), with its bos_token and eos_token.
class Chat {
 public:
  // Errors: FileError if the folder has no template; FormatError.
  static Chat load(const std::filesystem::path& folder);
  Chat(ChatTemplate chat_template, Object constants)
      : template_(std::move(chat_template)), constants_(std::move(constants)) {}
  // With `begin_answer` the text ends where the assistant's next message begins.
  [[nodiscard]] std::string render(const List& messages, bool begin_answer = true, const Object& more = {}) const;
  [[nodiscard]] std::string render(const std::vector<Message>& messages, bool begin_answer = true) const;

 private:
  ChatTemplate template_;
  Object constants_;
};

}  // namespace tenon::text
