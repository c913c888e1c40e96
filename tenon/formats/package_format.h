// What writer and reader of packages share.
#pragma once

namespace tenon::formats {

// Rises when an older reader would misread a new file; readers take every number up to their own.
inline constexpr int kPackageFormat = 1;

}  // namespace tenon::formats
