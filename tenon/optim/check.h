// Checks of optimiser options, shared by the optimisers.
#pragma once

#include <string_view>

namespace tenon::optim {

// ValueError naming the option unless low <= value < high (NaN never passes).
void check_option(std::string_view optimizer, std::string_view option, double value, double low, double high);

}  // namespace tenon::optim
