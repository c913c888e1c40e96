// The ready-made datasets on real data and on small files with known content.
#include <chrono>

#include "tenon/data/char_text.h"
#include "tenon/data/csv_table.h"
#include "tenon/data/gzip.h"
#include "tenon/data/idx.h"
#include "tenon/data/idx_images.h"
#include "tenon/data/image_folder.h"
#include "tenon/data/loader.h"
#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;

class IdxImages : public ::testing::Test {
 protected:
  void write(const std::string& name, const HostArray& array) {
    const auto bytes = encode_idx(array);
    write_file_atomic(folder_ / name, name.ends_with(".gz") ? gzip(bytes) : bytes);
  }
  void write_pair(std::vector<std::uint8_t> pixels, std::vector<std::int64_t> shape, std::vector<std::uint8_t> labels) {
    const auto n = static_cast<std::int64_t>(labels.size());
    write("train-images-idx3-ubyte.gz", array_of(std::move(pixels), std::move(shape)));
    write("train-labels-idx1-ubyte", array_of(std::move(labels), {n}));
  }
  std::string format_error() {
    return error_text<FormatError>([&] { (void)idx_images(folder_.path(), Split::Train); });
  }
  TemporaryFolder folder_;
};

TEST_F(IdxImages, PixelsAreScaledAndLabelsAreWide) {
  write_pair({0, 255, 51, 102}, {2, 1, 2}, {7, 1});
  const auto set = idx_images(folder_.path(), Split::Train);
  EXPECT_EQ(set.size(), 2);
  EXPECT_EQ(set[0]["input"].shape(), Shape({1, 1, 2}));
  EXPECT_THAT(set[1]["input"].to_vector<float>(), ElementsAre(FloatNear(0.2F, 1e-7F), FloatNear(0.4F, 1e-7F)));
  EXPECT_EQ(set[0]["label"].dtype(), DType::I64);
  EXPECT_THAT(set.column("label").to_vector<int>(), ElementsAre(7, 1));
  EXPECT_EQ(class_count(set), 8);
  const auto flat = idx_images(folder_.path(), Split::Train, {.mean = {0.5F}, .stddev = {0.5F}, .flatten = true});
  EXPECT_EQ(flat[0]["input"].shape(), Shape({2}));
  EXPECT_THAT(flat[0]["input"].to_vector<float>(), ElementsAre(-1, 1));
}

TEST_F(IdxImages, ColourImagesHaveOneScaleForEachChannel) {
  write("test-images-idx4-ubyte", array_of<std::uint8_t>({0, 255, 0, 255}, {1, 2, 1, 2}));
  write("test-labels.idx1-ubyte", array_of<std::uint8_t>({0}, {1}));
  const auto set = idx_images(folder_.path(), Split::Test, {.mean = {0, 1}, .stddev = {1, 2}});
  EXPECT_EQ(set[0]["input"].shape(), Shape({2, 1, 2}));
  EXPECT_THAT(set[0]["input"].to_vector<float>(), ElementsAre(0, 1, -0.5F, 0));
}

TEST_F(IdxImages, BadFoldersAndFilesAreNamed) {
  EXPECT_EQ(error_text<FileError>([&] { (void)idx_images(folder_ / "none", Split::Train); }),
            (folder_ / "none").string() +
                ": not a folder; expected a folder of IDX files, got nothing of this name\n"
                "  try: check the path; it is taken relative to the working directory");
  EXPECT_EQ(error_text<FileError>([&] { (void)idx_images(folder_.path(), Split::Test); }),
            folder_.path().string() +
                ": the folder lacks a file; expected t10k-images-idx3-ubyte or the same with .gz, got no such file");
  write_pair({1, 2, 3, 4}, {2, 1, 2}, {1, 2, 3});
  EXPECT_THAT(format_error(), HasSubstr("train-labels-idx1-ubyte: another number of labels than images; expected 2 "));
  EXPECT_THAT(format_error(), HasSubstr("got 3 labels"));
  write_pair({1, 2}, {2}, {1, 2});
  EXPECT_THAT(format_error(), HasSubstr("wrong rank for images at byte 3; expected [n, height, width] or [n, channels, "
                                        "height, width], got shape [2]\n  try: are these the labels?"));
  write_pair({1, 2}, {2, 1, 1}, {1, 2});
  write("train-labels-idx1-ubyte", array_of<std::uint8_t>({1, 2}, {1, 2}));
  EXPECT_THAT(format_error(), HasSubstr("wrong rank for labels at byte 3; expected 1 axis, got shape [1, 2]"));
  write("train-labels-idx1-ubyte", array_of<float>({1, 2}, {2}));
  EXPECT_THAT(format_error(), HasSubstr("wrong element type for labels at byte 2; expected integers, got f32"));
  write("train-images-idx3-ubyte", array_of<float>({1, 2}, {2, 1, 1}));
  EXPECT_THAT(format_error(), HasSubstr("wrong element type for images at byte 2; expected u8, got f32"))
      << "the plain file is preferred";
  write_file_atomic(folder_ / "train-images-idx3-ubyte", "not an IDX file");
  EXPECT_THAT(format_error(), HasSubstr("train-images-idx3-ubyte: not an IDX file: wrong magic number"));
  write_pair({1, 2}, {2, 1, 1}, {1, 2});
  std::filesystem::remove(folder_ / "train-images-idx3-ubyte");
  EXPECT_THAT(error_text<ValueError>([&] { (void)idx_images(folder_.path(), Split::Train, {.stddev = {0}}); }),
              HasSubstr("a standard deviation is not accepted; expected more than 0, got 0"));
  EXPECT_THAT(error_text<ValueError>([&] { (void)idx_images(folder_.path(), Split::Train, {.mean = {1, 2}}); }),
              HasSubstr("another number of values than channels; expected 1 or 1 of each"));
}

TEST(Mnist, LoadsInWellUnderASecondAndHasTheWellKnownMean) {
  if (!std::filesystem::exists(shared("mnist"))) GTEST_SKIP() << "needs the shared MNIST files";
  const auto start = std::chrono::steady_clock::now();
  const auto train = mnist(shared("mnist"));
  const double loading = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_EQ(train.size(), 60000);
  EXPECT_EQ(class_count(train), 10);
  double sum = 0;
  std::int64_t count = 0;
  const auto epoch_start = std::chrono::steady_clock::now();
  DataLoader loader(train, {.batch_size = 64, .shuffle = true, .seed = 1});
  for (auto& batch : loader) {
    for (const float v : batch["input"].data<float>()) sum += v;
    count += batch["input"].size();
  }
  const double epoch = std::chrono::duration<double>(std::chrono::steady_clock::now() - epoch_start).count();
  EXPECT_EQ(count, 60000 * 784);
  EXPECT_NEAR(sum / static_cast<double>(count), 0.1307, 0.0001);
  RecordProperty("loading_seconds", std::to_string(loading));
  RecordProperty("epoch_seconds", std::to_string(epoch));
  EXPECT_EQ(mnist(shared("mnist"), Split::Test).size(), 10000);
}

TEST(CharText, SplitsAndCutsWindows) {
  const auto text = CharText::from_text("abcabcabcabcabcabcab", 3, {.validation_fraction = 0.5});
  EXPECT_EQ(text.vocabulary().size(), 3);
  EXPECT_EQ(text.train_tokens()->size(), 10U);
  const auto validation = text.validation();
  EXPECT_EQ(validation.size(), 3) << "ten tokens hold three windows of three and their next characters";
  EXPECT_THAT(validation[1]["input"].to_vector<int>(), ElementsAre(1, 2, 0));
  EXPECT_THAT(validation[1]["label"].to_vector<int>(), ElementsAre(2, 0, 1));
  const auto train = text.train(50);
  EXPECT_EQ(train.size(), 50);
  std::vector<bool> starts(3);
  for (const auto& example : train) {
    const auto input = example["input"].to_vector<int>();
    const auto label = example["label"].to_vector<int>();
    EXPECT_EQ(label[0], input[1]);
    starts[static_cast<std::size_t>(input[0])] = true;
  }
  EXPECT_THAT(starts, ElementsAre(true, true, true));
  EXPECT_EQ(train.gather(std::vector<std::int64_t>{0, 1})["input"].shape(), Shape({2, 3}));
  const auto at = [&](Draw draw) { return train.batch(50).get(0, draw)["input"].to_vector<int>(); };
  EXPECT_EQ(at({1, 0}), at({1, 0}));
  EXPECT_NE(at({1, 0}), at({1, 1})) << "each epoch draws other windows";
}

TEST(CharText, TinyShakespeareAsNanoGptSplitsIt) {
  const auto path = shared("tinyshakespeare/data/tinyshakespeare/input.txt");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs the shared text";
  const CharText text(path, 64);
  EXPECT_EQ(text.train_tokens()->size(), 1003854U);
  EXPECT_EQ(text.validation_tokens()->size(), 111540U);
  EXPECT_EQ(text.validation().size(), (111540 - 1) / 64);
}

TEST(CharText, BadInputIsATypedError) {
  EXPECT_THAT(error_text<FileError>([] { CharText text("/nowhere/input.txt", 8); }),
              HasSubstr("/nowhere/input.txt: cannot"));
  EXPECT_EQ(error_text<ValueError>([] { (void)CharText::from_text("short", 8); }),
            "text: the training part of the text is too short for one window; expected more than 8 characters, got 4 "
            "characters\n  try: take a longer text or a smaller context");
  EXPECT_THAT(error_text<ValueError>([] { (void)CharText::from_text(std::string(60, 'a'), 8); }),
              HasSubstr("the validation part of the text is too short"));
  EXPECT_THAT(error_text<FormatError>([] { (void)CharText::from_text("caf\xe9 au lait", 2, {}, "menu.txt"); }),
              HasSubstr("menu.txt: the text is not UTF-8 at byte 3"));
  EXPECT_THAT(error_text<ValueError>([] {
                (void)CharText::from_text("abcd", 1, {.validation_fraction = 0, .vocabulary = CharVocabulary("abc")});
              }),
              HasSubstr("character 3 of the text is not in the vocabulary"));
  EXPECT_THAT(error_text<ValueError>([] { (void)CharText::from_text("abc", 1, {.validation_fraction = 1}); }),
              HasSubstr("validation_fraction is not accepted"));
  EXPECT_THAT(error_text<ValueError>([] { (void)CharText::from_text("abc", 0); }),
              HasSubstr("context is not accepted"));
}

const std::string kTable = "size,colour,kind\n1,red,a\n3,blue,b\n,red,a\n5,green,c\n";

TEST(TableEncoding, NumbersCategoriesAndClasses) {
  const auto table = parse_csv(kTable, "t.csv");
  const auto drop = TableEncoding::fit(table, "kind", {.missing = MissingValues::Drop, .standardize = false});
  EXPECT_THAT(drop.feature_names(), ElementsAre("size", "colour=blue", "colour=green", "colour=red"));
  EXPECT_THAT(drop.classes(), ElementsAre("a", "b", "c"));
  const auto set = drop.encode(table);
  EXPECT_EQ(set.size(), 3);
  EXPECT_THAT(set[1]["input"].to_vector<float>(), ElementsAre(3, 1, 0, 0));
  EXPECT_EQ(set[2]["label"].item<int>(), 2);
  const auto mean = TableEncoding::fit(table, "kind", {.missing = MissingValues::Mean});
  const auto filled = mean.encode(table);
  EXPECT_EQ(filled.size(), 4);
  EXPECT_EQ(filled[2]["input"].to_vector<float>()[0], 0) << "the mean, standardised";
  EXPECT_NEAR(filled[0]["input"].to_vector<float>()[0], -1.2247, 1e-4);
}

TEST(TableEncoding, NumericLabels) {
  const auto classes = parse_csv("x,y\n1,0\n2,2\n", "t");
  EXPECT_EQ(TableEncoding::fit(classes, "y").encode(classes)[1]["label"].dtype(), DType::I64);
  EXPECT_THAT(TableEncoding::fit(classes, "y").classes(), ElementsAre("0", "1", "2"));
  const auto values = parse_csv("x,y\n1,0.5\n2,2\n", "t");
  EXPECT_EQ(TableEncoding::fit(values, "y").encode(values)[0]["label"].dtype(), DType::F32);
}

TEST(TableEncoding, BadInputIsATypedError) {
  const auto table = parse_csv(kTable, "t.csv");
  const auto strict = TableEncoding::fit(table, "kind");
  EXPECT_EQ(
      error_text<FormatError>([&] { (void)strict.encode(table, "t.csv"); }),
      "t.csv: column 'size' lacks a value in data row 3; expected a value in every row, got 1 missing in this column\n"
      "  try: {.missing = MissingValues::Drop} or MissingValues::Mean");
  EXPECT_THAT(error_text<IndexError>([&] { (void)TableEncoding::fit(table, "kin"); }),
              HasSubstr("try: column(\"kind\")"));
  const auto other = parse_csv("size,colour,kind\n1,pink,a\n", "u.csv");
  EXPECT_EQ(
      error_text<FormatError>([&] { (void)strict.encode(other, "u.csv"); }),
      "u.csv: column 'colour' has an unknown category in data row 1; expected one of blue, green, red, got 'pink'\n"
      "  try: fit the encoding on a table that has all categories");
  const auto changed = parse_csv("size,colour,kind\nbig,red,a\n", "u.csv");
  EXPECT_THAT(error_text<FormatError>([&] { (void)strict.encode(changed, "u.csv"); }),
              HasSubstr("column 'size' has changed its kind; expected numbers only, got text"));
}

TEST(CsvTable, RealTables) {
  if (!std::filesystem::exists(shared("penguins"))) GTEST_SKIP() << "needs the shared tables";
  const auto penguins =
      csv_table(shared("penguins/inst/extdata/penguins.csv"), "species", {.missing = MissingValues::Drop});
  EXPECT_EQ(penguins.size(), 333) << "the number of complete rows that the penguins' documentation gives";
  EXPECT_EQ(class_count(penguins), 3);
  CsvOptions csv;
  csv.header = false;
  csv.trim = true;
  const auto adult = csv_table(shared("adult/data/adult.data"), "column_14", {.missing = MissingValues::Mean}, csv);
  EXPECT_EQ(adult.size(), 32561);
  EXPECT_EQ(class_count(adult), 2);
}

TEST(ImageFolder, ClassesAreFoldersAndFilesAreReadOnDemand) {
  const TemporaryFolder folder;
  for (const char* name : {"cat", "dog"}) std::filesystem::create_directories(folder / name);
  std::filesystem::copy_file(golden("rgb.png"), folder / "cat/1.png");
  std::filesystem::copy_file(golden("grey.jpg"), folder / "dog/a.JPEG");
  write_file_atomic(folder / "dog/b.png", "broken");
  write_file_atomic(folder / "dog/notes.txt", "no image");
  const auto [set, classes] = image_folder(folder.path());
  EXPECT_THAT(classes, ElementsAre("cat", "dog"));
  ASSERT_EQ(set.size(), 3);
  const auto batch = set.gather(std::vector<std::int64_t>{0, 1});
  EXPECT_EQ(batch["input"].shape(), Shape({2, 3, 9, 13}));
  EXPECT_THAT(batch["label"].to_vector<int>(), ElementsAre(0, 1));
  const auto red = batch["input"].data<std::uint8_t>();
  EXPECT_EQ(red[1], 19) << "the second pixel's red, channels first";
  EXPECT_THAT(error_text<FormatError>([&, &images = set] { (void)images.get(2); }),
              HasSubstr("b.png: not an image that can be read"));
  EXPECT_THAT(error_text<FileError>([&] { (void)image_folder(folder / "cat"); }),
              HasSubstr("the folder has no images"));
  EXPECT_THAT(error_text<FileError>([&] { (void)image_folder(folder / "cow"); }), HasSubstr("cannot list the folder"));
}

}  // namespace
}  // namespace tenon::data::testing
