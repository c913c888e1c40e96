// Where the user's code stands: for messages that point at a line.
#pragma once

#include <string>

namespace tenon::trace {

// The innermost frame of the caller's stack outside Tenon and the standard library: "model.cpp:12" when that code was
// compiled with -g, else the function's name; empty if neither is known. Takes microseconds to milliseconds.
std::string call_site();

}  // namespace tenon::trace
