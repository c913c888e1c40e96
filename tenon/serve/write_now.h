// What both transports do with bytes for a socket that does not block. Asio's types are the callers': this header sees
// no network.
#pragma once

#include <cerrno>
#include <cstddef>

namespace tenon::serve {

// Writes what the socket takes at once (nearly always all of it); what it does not take stays in `buffers`. `error`:
// the connection broke.
template <class Socket, class Buffers, class Error>
void write_now(Socket& socket, Buffers& buffers, Error& error) {
  // One piece is send(), several are sendmsg(), which is dearer.
  size_t sent = buffers.size() == 1 ? socket.write_some(buffers[0], error) : socket.write_some(buffers, error);
  if (error && error.value() != EAGAIN) return;
  if (error) sent = 0;
  error.clear();
  size_t done = 0;
  while (done < buffers.size() && sent >= buffers[done].size()) sent -= buffers[done++].size();
  buffers.erase(buffers.begin(), buffers.begin() + static_cast<std::ptrdiff_t>(done));
  if (!buffers.empty()) buffers[0] += sent;
}

}  // namespace tenon::serve
