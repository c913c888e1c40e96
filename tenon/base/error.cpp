#include "tenon/base/error.h"

namespace tenon {
namespace {

std::string compose(const ErrorParts& parts) {
  std::string text = parts.where.empty() ? parts.problem : parts.where + ": " + parts.problem;
  if (!parts.expected.empty()) text += "; expected " + parts.expected;
  if (!parts.got.empty()) text += (parts.expected.empty() ? "; got " : ", got ") + parts.got;
  if (!parts.hint.empty()) text += "\n  try: " + parts.hint;
  return text;
}

}  // namespace

Error::Error(ErrorParts parts) : std::runtime_error(compose(parts)), parts_(std::move(parts)) {}

InternalError::InternalError(std::string_view what)
    : std::logic_error("internal error (please report it): " + std::string(what)) {}

}  // namespace tenon
