// Files: what is written is what is read, a failed write leaves nothing, refusals name path and reason.
#include "tenon/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "tenon/base/error.h"

namespace {

using testing::HasSubstr;
using testing::StartsWith;

class FileTest : public testing::Test {
 protected:
  FileTest() : folder_(std::filesystem::temp_directory_path() / ("tenon-file-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~FileTest() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::size_t entries() const {
    return std::size_t(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }
  std::filesystem::path folder_;
};

template <class Fn>
std::string file_error(Fn&& fn) {
  try {
    fn();
  } catch (const tenon::FileError& error) {
    return error.what();
  }
  return "no FileError was thrown";
}

TEST_F(FileTest, WhatIsWrittenIsReadBack) {
  const std::string text("a\0b\n", 4);
  const auto path = folder_ / "a.txt";
  tenon::write_file_atomic(path, text);
  EXPECT_EQ(tenon::read_text_file(path), text);
  EXPECT_EQ(tenon::read_file(path).size(), 4U);
  tenon::MappedFile mapped(path);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()), text);
  const tenon::MappedFile moved = std::move(mapped);
  EXPECT_EQ(moved.bytes().size(), 4U);
  tenon::write_file_atomic(path, "new");  // replaces
  EXPECT_EQ(tenon::read_text_file(path), "new");
  EXPECT_EQ(moved.bytes()[2], std::byte{'b'}) << "a map keeps the file it was made of";
  EXPECT_EQ(entries(), 1U) << "no temporary file stays behind";
}

TEST_F(FileTest, EmptyFile) {
  tenon::write_file_atomic(folder_ / "empty", "");
  EXPECT_TRUE(tenon::read_file(folder_ / "empty").empty());
  EXPECT_TRUE(tenon::MappedFile(folder_ / "empty").bytes().empty());
}

TEST_F(FileTest, APipeGetsTheBytesAndStaysAPipe) {
  const auto path = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = tenon::read_text_file(path); });
  tenon::write_file_atomic(path, "through a pipe");
  reader.join();
  EXPECT_EQ(got, "through a pipe");
  EXPECT_TRUE(std::filesystem::is_fifo(path));
  EXPECT_EQ(entries(), 1U);
  EXPECT_THAT(file_error([] { tenon::write_file_atomic("/dev/full", "x"); }), HasSubstr("No space left"));
}

TEST_F(FileTest, NothingAppearsWithoutCommit) {
  tenon::write_file_atomic(folder_ / "kept", "old");
  {
    tenon::AtomicFile file(folder_ / "kept");
    file.write("half a fi");
    EXPECT_EQ(tenon::read_text_file(folder_ / "kept"), "old");
  }
  EXPECT_EQ(tenon::read_text_file(folder_ / "kept"), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(FileTest, FilesWithoutASizeAreReadToTheirEnd) {
  if (!std::filesystem::exists("/proc/self/status")) GTEST_SKIP() << "no /proc here";
  EXPECT_THAT(tenon::read_text_file("/proc/self/status"), HasSubstr("Name:"));
}

TEST_F(FileTest, RefusalsNamePathAndReason) {
  const std::string missing = (folder_ / "missing.bin").string();
  EXPECT_THAT(file_error([&] { (void)tenon::read_file(missing); }),
              StartsWith(missing + ": cannot open the file: No such file or directory\n  try: check the path"));
  EXPECT_THAT(file_error([&] { tenon::MappedFile{missing}; }), HasSubstr("No such file or directory"));
  EXPECT_EQ(file_error([&] { (void)tenon::read_file(folder_); }),
            folder_.string() + ": cannot read; expected a file, got a folder");
  EXPECT_EQ(file_error([&] { tenon::write_file_atomic(folder_, "x"); }),
            folder_.string() + ": cannot write; expected a file's name, got a folder");
  const std::string nowhere = (folder_ / "no" / "such" / "file").string();
  EXPECT_THAT(file_error([&] { tenon::write_file_atomic(nowhere, "x"); }),
              StartsWith(nowhere + ": cannot create the file: No such file or directory"));
  EXPECT_EQ(file_error([&] { tenon::MappedFile{"/dev/null"}; }),
            "/dev/null: cannot map; expected a regular file, got a pipe or device");
}

TEST_F(FileTest, ALinkIsReplacedAndItsTargetIsNotTouched) {
  tenon::write_file_atomic(folder_ / "target", "old");
  std::filesystem::create_symlink(folder_ / "target", folder_ / "link");
  tenon::write_file_atomic(folder_ / "link", "new");
  EXPECT_EQ(tenon::read_text_file(folder_ / "target"), "old");
  EXPECT_EQ(tenon::read_text_file(folder_ / "link"), "new");
}

}  // namespace
