// The Open Inference Protocol's REST API (v2) over a Core, with what Triton's clients call beside it. Port 8000.
#pragma once

#include "tenon/serve/core.h"
#include "tenon/serve/http.h"

namespace tenon::serve {

struct V2RestOptions {
  // Loading and unloading: off, or open to requests with the header "Authorization: Bearer TOKEN".
  bool control = false;
  std::string control_token{};
};

// What the metadata of the server lists.
std::vector<std::string> v2_extensions();
// Compares in a time that does not depend on where they differ.
bool same_secret(std::string_view a, std::string_view b);

HttpHandler v2_rest(Core& core, V2RestOptions options = {});

}  // namespace tenon::serve
