// The script of a character, as the UnicodeScripts pre-tokeniser groups them: Japanese and Chinese are one.
#pragma once

namespace tenon::text {

inline constexpr int no_script = -1;
inline constexpr int any_script = -2;  // a space belongs to the script around it
int script_of(char32_t c);

}  // namespace tenon::text
