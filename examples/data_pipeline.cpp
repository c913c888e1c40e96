// From a table of text to shuffled batches made on threads, stopped in mid-epoch and resumed elsewhere.
#include <tenon/data/csv_table.h>
#include <tenon/tenon.h>

#include <cstdio>
#include <string>
#include <vector>

using namespace tenon;

namespace {

data::DataLoader make_loader(const data::Dataset& dataset) {
  return data::DataLoader(dataset, {.batch_size = 4, .shuffle = true, .seed = 7, .threads = 2});
}

}  // namespace

int main() {
  std::string text = "length,island,species\n";
  for (int i = 0; i < 20; ++i)
    text += std::to_string(30 + i) + (i % 3 ? ",Biscoe," : ",Dream,") + (i % 2 ? "Adelie\n" : "Gentoo\n");
  const data::CsvTable table = data::parse_csv(text, "penguins.csv");

  // Numbers are standardised, texts become one number per category, the label's texts become classes.
  const auto encoding = data::TableEncoding::fit(table, "species");
  const data::Dataset dataset = encoding.encode(table).map([](data::Example example, data::Random& random) {
    // Noise depends on the seed, the epoch and the example's number, never on which thread draws it.
    example["input"] = example["input"] + 0.01 * random.uniform();
    return example;
  });
  for (const auto& name : encoding.feature_names()) std::printf("%s ", name.c_str());
  std::printf("-> %zu classes, %lld examples\n", encoding.classes().size(), static_cast<long long>(dataset.size()));

  // Leave after two batches ...
  data::DataLoader first = make_loader(dataset);
  data::LoaderState state;
  std::vector<std::vector<double>> rest, resumed;
  int count = 0;
  for (auto& batch : first) {
    if (++count == 2) state = first.state();
    if (count > 2) rest.push_back(batch["input"].to_vector());
  }
  // ... and go on with the third, in another loader (or another process: the state is plain numbers).
  data::DataLoader second = make_loader(dataset);
  second.restore(state);
  for (auto& batch : second) resumed.push_back(batch["input"].to_vector());
  std::printf("%zu batches were left; resumed ones are the same: %s\n", rest.size(), rest == resumed ? "yes" : "no");
  return rest.size() == 3 && rest == resumed ? 0 : 1;
}
