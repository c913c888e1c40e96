// TensorBoard event files, written by hand: TFRecord framing around protobuf messages.
//
// A record is   u64 length | u32 masked_crc32c(length) | payload | u32 masked_crc32c(payload)   (little endian).
// A payload is an Event message. The fields written here (number: meaning), from TensorFlow's event.proto,
// summary.proto, tensor.proto:
//   Event            1: double wall_time  2: int64 step  3: string file_version  5: Summary  7: SessionLog
//   Summary          1: repeated Value          SessionLog  1: enum status (1 = START)
//   Value            1: string tag  2: float simple_value  8: TensorProto  9: SummaryMetadata
//   SummaryMetadata  1: PluginData {1: string plugin_name}
//   TensorProto      1: enum dtype (7 = string)  2: shape {2: dim {1: int64 size}}  8: repeated bytes string_val
// To add a kind of summary: one encode_ function in event_writer.cpp with its numbers listed above.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tenon/base/tfrecord.h"
#include "tenon/train/append_file.h"

namespace tenon::train {

// Event messages, without framing.
[[nodiscard]] std::string version_event(double wall_time);
[[nodiscard]] std::string session_start_event(double wall_time, std::int64_t step);
[[nodiscard]] std::string scalar_event(double wall_time, std::int64_t step, std::string_view tag, float value);
[[nodiscard]] std::string text_event(double wall_time, std::int64_t step, std::string_view tag, std::string_view text);

// One event file in a folder. A resumed run opens a further file, whose first event tells TensorBoard to
// forget what earlier files hold from `resumed_at` on.
class EventWriter {
 public:
  // resumed_at < 0: a fresh run. Throws FileError.
  explicit EventWriter(const std::string& folder, std::int64_t resumed_at = -1);
  void scalar(std::string_view tag, std::int64_t step, double value);
  void text(std::string_view tag, std::int64_t step, std::string_view text);
  [[nodiscard]] const std::string& path() const { return file_.path(); }

 private:
  AppendFile file_;
};

}  // namespace tenon::train
