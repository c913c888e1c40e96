// A client of the model server in plain C++ and sockets: sends floats as binary data (Open Inference Protocol, REST)
// and prints the answer's floats. Needs no library; build it with: c++ -std=c++20 infer.cpp -o infer
//
//   infer HOST PORT MODEL INPUT VALUE...
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

int connect_to(const char* host, const char* port) {
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(host, port, &hints, &list) != 0) throw std::runtime_error("the host is not known");
  int fd = -1;
  for (const addrinfo* a = list; a != nullptr && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
      close(fd);
      fd = -1;
    }
  }
  freeaddrinfo(list);
  if (fd < 0) throw std::runtime_error("nobody listens there");
  return fd;
}

// One request on a connection of its own; the whole answer.
std::string exchange(const char* host, const char* port, const std::string& request) {
  const int fd = connect_to(host, port);
  for (size_t at = 0; at < request.size();) {
    const ssize_t n = send(fd, request.data() + at, request.size() - at, MSG_NOSIGNAL);
    if (n <= 0) throw std::runtime_error("the connection broke");
    at += static_cast<size_t>(n);
  }
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
  close(fd);
  return answer;
}

// The number after `name` in the answer's head; `otherwise` if it is not there.
size_t header(const std::string& head, const std::string& name, size_t otherwise) {
  const size_t at = head.find(name + ": ");
  return at == std::string::npos ? otherwise : std::strtoull(head.c_str() + at + name.size() + 2, nullptr, 10);
}

}  // namespace

int main(int count, char** words) try {
  if (count < 6) throw std::runtime_error("infer HOST PORT MODEL INPUT VALUE...");
  std::vector<float> values;
  for (int i = 5; i < count; ++i) values.push_back(std::strtof(words[i], nullptr));
  const std::string json = R"({"parameters": {"binary_data_output": true}, "inputs": [{"name": ")" +
                           std::string(words[4]) + R"(", "datatype": "FP32", "shape": [)" +
                           std::to_string(values.size()) + R"(], "parameters": {"binary_data_size": )" +
                           std::to_string(4 * values.size()) + "}}]}";
  std::string request = "POST /v2/models/" + std::string(words[3]) + "/infer HTTP/1.1\r\nHost: " + words[1] +
                        "\r\nConnection: close\r\nInference-Header-Content-Length: " + std::to_string(json.size()) +
                        "\r\nContent-Length: " + std::to_string(json.size() + 4 * values.size()) + "\r\n\r\n" + json;
  request.append(reinterpret_cast<const char*>(values.data()), 4 * values.size());  // little-endian, as this machine

  const std::string answer = exchange(words[1], words[2], request);
  const size_t end = answer.find("\r\n\r\n");
  if (end == std::string::npos) throw std::runtime_error("the answer is cut off");
  const std::string head = answer.substr(0, end), body = answer.substr(end + 4);
  if (head.find(" 200 ") == std::string::npos) throw std::runtime_error(body);
  // First JSON that describes the outputs, then their bytes; here there is one output.
  const size_t bytes_at = header(head, "Inference-Header-Content-Length", body.size());
  std::vector<float> out((body.size() - bytes_at) / 4);
  std::memcpy(out.data(), body.data() + bytes_at, 4 * out.size());
  for (const float v : out) std::printf("%g\n", static_cast<double>(v));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
