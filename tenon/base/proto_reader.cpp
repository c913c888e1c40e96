#include "tenon/base/proto_reader.h"

#include <fmt/format.h>

#include "tenon/base/error.h"

namespace tenon {

void ProtoReader::fail(std::string_view reason) const {
  throw FormatError({.where = std::string(source_.where),
                     .problem = fmt::format("not {} at byte {} (protobuf: {})", source_.what, offset(), reason)});
}

}  // namespace tenon
