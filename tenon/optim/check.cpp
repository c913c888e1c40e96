#include "tenon/optim/check.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"

namespace tenon::optim {

void check_option(std::string_view optimizer, std::string_view option, double value, double low, double high) {
  if (value >= low && value < high) return;
  throw ValueError({std::string(optimizer), fmt::format("option {} is out of range", option),
                    std::isinf(high) ? fmt::format("{} or more", low) : fmt::format("{} <= {} < {}", low, option, high),
                    fmt::format("{}", value), ""});
}

}  // namespace tenon::optim
