#include "tenon/serve/append.h"

namespace tenon::serve {

void append_all(std::string& out, std::initializer_list<std::string_view> pieces) {
  for (const std::string_view piece : pieces) out.append(piece);
}

}  // namespace tenon::serve
