// gRPC's own texts over HTTP/2: timeouts, percent-encoded messages, binary metadata. No HTTP/2 here.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace tenon::serve {

// The header grpc-timeout: up to eight digits and a unit (H M S m u n); none if it is not of that form.
std::optional<std::chrono::nanoseconds> read_grpc_timeout(std::string_view text);
// A status's message as the trailer grpc-message carries it, cut to `most` characters at a character's border.
std::string percent_encoded(std::string_view message, size_t most);
// A metadata value as the services see it: names that end in -bin are Base64 on the wire. RequestError for broken
// Base64.
std::string metadata_value(std::string_view name, std::string_view value);
// Names that are the protocol's and no metadata.
bool is_reserved_metadata(std::string_view name);

}  // namespace tenon::serve
