// The text of the error that a call throws, for tests of what messages say.
#pragma once

#include <exception>
#include <string>

#include "tenon/base/error.h"

namespace tenon::testing_support {

// what() of the E that `run` throws; "no error" if it throws nothing, and "another error: ..." for one of another type.
template <class E = Error, class Run>
std::string error_text(Run&& run) {
  try {
    run();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "no error";
}

}  // namespace tenon::testing_support
