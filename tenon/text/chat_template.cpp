#include "tenon/text/chat_template.h"

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/text/jinja/ast.h"

namespace tenon::text {
namespace {

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// One template, or a list of named ones.
std::string source_of(const Value& entry, const std::string& where) {
  if (entry.is_string()) return entry.string();
  if (!entry.is_list()) fail_field(where, "chat_template", "a text or a list of named ones", &entry);
  for (const auto& named : entry.list())
    if (string_field(named, "name", "", where) == "default") return string_field(named, "template", "", where);
  fail_field(where, "chat_template", "one of the name 'default'", &entry);
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string where)
    : where_(std::move(where)), root_(jinja::parse(source, where_)) {}

std::string ChatTemplate::render(const Value& context) const { return jinja::run(*root_, context, where_); }

Chat Chat::load(const std::filesystem::path& folder) {
  const auto config_path = folder / "tokenizer_config.json", own = folder / "chat_template.jinja";
  Object constants;
  std::string source, where = own.string();
  bool found = is_file(own);
  if (found) source = read_text_file(own);
  if (is_file(config_path)) {
    const std::string config_where = config_path.string();
    const Value config = parse_json(read_text_file(config_path), config_where);
    for (const char* name : {"bos_token", "eos_token", "unk_token", "pad_token"})
      if (const Value* token = find_field(config, name)) {
        const Value* content = token->is_object() ? find_field(*token, "content") : token;
        if (content != nullptr && content->is_string()) constants.emplace_back(name, *content);
      }
    if (const Value* entry = found ? nullptr : find_field(config, "chat_template")) {
      source = source_of(*entry, config_where);
      where = config_where;
      found = true;
    }
  }
  if (!found)
    throw FileError({.where = folder.string(),
                     .problem = "no chat template in the folder",
                     .expected = "chat_template.jinja, or chat_template in tokenizer_config.json"});
  return {ChatTemplate(source, where), std::move(constants)};
}

std::string Chat::render(const List& messages, bool begin_answer, const Object& more) const {
  const Value context{constants_};
  context.set("messages", Value(messages));
  context.set("add_generation_prompt", Value(begin_answer));
  for (const auto& [name, value] : more) context.set(name, value);
  return template_.render(context);
}

std::string Chat::render(const std::vector<Message>& messages, bool begin_answer) const {
  List list;
  for (const auto& message : messages) list.emplace_back(Object{{"role", message.role}, {"content", message.content}});
  return render(list, begin_answer);
}

}  // namespace tenon::text
