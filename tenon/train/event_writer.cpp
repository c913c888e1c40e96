#include "tenon/train/event_writer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <filesystem>

namespace tenon::train {
namespace {

// Little endian on every machine.
template <typename Unsigned>
void put_fixed(std::string& out, Unsigned value) {
  for (unsigned byte = 0; byte < sizeof(Unsigned); ++byte) out.push_back(static_cast<char>(value >> (8 * byte) & 0xff));
}

// Protobuf's wire format: a key (number << 3 | wire type), then the value.
enum class Wire : std::uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}
void put_key(std::string& out, std::uint32_t number, Wire wire) {
  put_varint(out, number << 3 | static_cast<std::uint32_t>(wire));
}
void put_int(std::string& out, std::uint32_t number, std::int64_t value) {
  put_key(out, number, Wire::varint);
  put_varint(out, static_cast<std::uint64_t>(value));
}
void put_double(std::string& out, std::uint32_t number, double value) {
  put_key(out, number, Wire::fixed64);
  put_fixed(out, std::bit_cast<std::uint64_t>(value));
}
void put_float(std::string& out, std::uint32_t number, float value) {
  put_key(out, number, Wire::fixed32);
  put_fixed(out, std::bit_cast<std::uint32_t>(value));
}
void put_bytes(std::string& out, std::uint32_t number, std::string_view value) {
  put_key(out, number, Wire::bytes);
  put_varint(out, value.size());
  out.append(value);
}

std::string event(double wall_time, std::int64_t step) {
  std::string out;
  put_double(out, 1, wall_time);
  if (step != 0) put_int(out, 2, step);
  return out;
}

std::string with_summary_value(std::string out, std::string_view value) {
  std::string summary;
  put_bytes(summary, 1, value);
  put_bytes(out, 5, summary);
  return out;
}

double now() {
  using namespace std::chrono;
  return duration<double>(system_clock::now().time_since_epoch()).count();
}

// The time orders the files of a run; TensorBoard asks for "tfevents" in the name.
std::string fresh_path(const std::string& folder) {
  const auto seconds = static_cast<std::int64_t>(now());
  for (int count = 0;; ++count) {
    auto path = fmt::format("{}/events.out.tfevents.{}.tenon.{}.{}", folder, seconds, ::getpid(), count);
    if (!std::filesystem::exists(path)) return path;
  }
}

}  // namespace

std::string version_event(double wall_time) {
  std::string out = event(wall_time, 0);
  put_bytes(out, 3, "brain.Event:2");
  return out;
}

std::string session_start_event(double wall_time, std::int64_t step) {
  std::string out = event(wall_time, step);
  std::string log;
  put_int(log, 1, 1);
  put_bytes(out, 7, log);
  return out;
}

std::string scalar_event(double wall_time, std::int64_t step, std::string_view tag, float value) {
  std::string entry;
  put_bytes(entry, 1, tag);
  put_float(entry, 2, value);
  return with_summary_value(event(wall_time, step), entry);
}

std::string text_event(double wall_time, std::int64_t step, std::string_view tag, std::string_view text) {
  std::string dim, shape, tensor, plugin, metadata, entry;
  put_int(dim, 1, 1);
  put_bytes(shape, 2, dim);
  put_int(tensor, 1, 7);
  put_bytes(tensor, 2, shape);
  put_bytes(tensor, 8, text);
  put_bytes(plugin, 1, "text");
  put_bytes(metadata, 1, plugin);
  put_bytes(entry, 1, tag);
  put_bytes(entry, 8, tensor);
  put_bytes(entry, 9, metadata);
  return with_summary_value(event(wall_time, step), entry);
}

EventWriter::EventWriter(const std::string& folder, std::int64_t resumed_at) : file_(fresh_path(folder)) {
  file_.append(tfrecord(version_event(now())));
  if (resumed_at >= 0) file_.append(tfrecord(session_start_event(now(), resumed_at)));
}

void EventWriter::scalar(std::string_view tag, std::int64_t step, double value) {
  file_.append(tfrecord(scalar_event(now(), step, tag, static_cast<float>(value))));
}

void EventWriter::text(std::string_view tag, std::int64_t step, std::string_view text) {
  file_.append(tfrecord(text_event(now(), step, tag, text)));
}

}  // namespace tenon::train
