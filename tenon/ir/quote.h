// Text and numbers as they stand in the text form of a graph.
#pragma once

#include <string>
#include <string_view>

namespace tenon::ir {

// "a \"b\"\n": quotes, backslashes and control bytes are escaped (\" \\ \n \t \xHH); UTF-8 stays as it is.
std::string quote(std::string_view text);
// The shortest decimal that reads back as the same number: "0.1", "1.0", "1e+300", "inf", "-0.0". A NaN that is
// not the usual one keeps its bits: "nan(7ff8000000000001)".
std::string shortest(double value);
std::string shortest(float value);

}  // namespace tenon::ir
