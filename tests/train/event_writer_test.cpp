// The golden file was written by TensorBoard's own classes: tools/goldens/tensorboard_events.py.
#include "tenon/train/event_writer.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tests/support/temp_folder.h"

namespace tenon::train {
namespace {

TEST(EventWriter, Crc32cKnownVectors) {
  // RFC 3720, appendix B.4.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending.push_back(c);
  EXPECT_EQ(crc32c(ascending), 0x46dd794eu);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
}

TEST(EventWriter, SameBytesAsTensorBoard) {
  const std::string ours = tfrecord(version_event(1700000000.25)) + tfrecord(session_start_event(1700000001.5, 100)) +
                           tfrecord(scalar_event(1700000002.5, 0, "train_loss", 4.25f)) +
                           tfrecord(scalar_event(1700000003.5, 300, "val_loss", 0.1f)) +
                           tfrecord(text_event(1700000004.5, std::int64_t{1} << 40, "sample", "To be — or not"));
  EXPECT_EQ(ours, read_text_file(TENON_SOURCE_DIR "/tests/train/goldens/events.tfevents"));
}

TEST(EventWriter, EveryFileHasItsOwnName) {
  const std::string folder = testing_support::temp_folder() + "/events";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  EventWriter first(folder), second(folder, 7);
  EXPECT_NE(first.path(), second.path());
  first.scalar("x", 1, 2.0);
  // 12 bytes of framing before and 4 after each payload.
  const auto bytes = read_text_file(first.path());
  EXPECT_EQ(bytes.size(), 2 * 16 + version_event(0).size() + scalar_event(0, 1, "x", 2).size());
}

TEST(EventWriter, MissingFolderIsATypedError) {
  try {
    EventWriter writer("/no/such/folder");
    FAIL() << "no error";
  } catch (const FileError& error) {
    EXPECT_EQ(error.parts().problem, "cannot open for appending");
    EXPECT_EQ(error.parts().got, "No such file or directory");
  }
}

}  // namespace
}  // namespace tenon::train
