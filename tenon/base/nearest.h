// The name that the user probably meant.
#pragma once

#include <span>
#include <string_view>

namespace tenon {

// The entry of `names` with the fewest edits from `wanted`, or "" if none is near (more than a third of the
// letters differ). Capitals count as the small letter.
std::string_view nearest_name(std::string_view wanted, std::span<const std::string_view> names);

}  // namespace tenon
