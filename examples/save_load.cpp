// Weights in a SafeTensors file: saved, loaded into another model, and what a wrong model is told.
#include <tenon/formats/safetensors.h>
#include <tenon/tenon.h>

#include <cstdio>
#include <filesystem>

using namespace tenon;

// A model is a plain struct: the members' names are the names in the file.
struct Net {
  nn::Linear hidden{4, 8};
  nn::Linear head{8, 3};
  Tensor operator()(const Tensor& x) const { return head(relu(hidden(x))); }
};
struct OtherNet {
  nn::Linear hidden{4, 8};
  nn::Linear top{8, 3};
};

int main() {
  const auto path = std::filesystem::temp_directory_path() / "tenon_example_save_load.safetensors";
  const Net trained;
  formats::save_safetensors(path, state_dict(trained), {{"made by", "examples/save_load.cpp"}});

  const auto file = formats::load_safetensors(path);
  for (const auto& [name, value] : file.tensors)
    std::printf("%-14s %s\n", name.c_str(), to_string(value.type()).c_str());

  const Net loaded;
  load_state_dict(loaded, file.tensors);
  const Tensor x = normal({2, 4});
  const bool same = trained(x).to_vector() == loaded(x).to_vector();
  std::printf("same outputs: %s\n", same ? "yes" : "no");

  bool explained = false;
  try {
    load_state_dict(OtherNet{}, file.tensors);
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    explained = true;
  }
  std::filesystem::remove(path);
  return same && explained ? 0 : 1;
}
