#include "tenon/exec/observe.h"

namespace tenon::exec {
namespace detail {

constinit thread_local Observer* observer = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
constinit thread_local const std::string* layer = nullptr;

}  // namespace detail

std::string_view current_layer() {
  if (detail::layer == nullptr) return {};
  const std::string_view name = *detail::layer;
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

}  // namespace tenon::exec
