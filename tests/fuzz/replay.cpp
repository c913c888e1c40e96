// Stands in for libFuzzer: runs a fuzz target on seeds, and on mutations of them that are the same in every run.
//   fuzz_NAME MUTATIONS SEED_FILE…
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

Bytes read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A copy on the heap of exactly this size, so that a read beyond its end is seen by the address sanitizer.
void run(const Bytes& bytes) {
  const Bytes exact(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

// One to four of: a bit flipped, a byte set to an extreme, bytes cut out, doubled, or taken from another seed.
Bytes mutated(Bytes bytes, const Bytes& other, std::mt19937_64& random) {
  const auto below = [&](size_t n) { return static_cast<std::ptrdiff_t>(random() % n); };
  const uint8_t extremes[] = {0, 1, 0x7f, 0x80, 0xff, '"', '[', '9'};
  for (auto times = 1 + below(4); times > 0; --times) {
    if (bytes.empty()) bytes.push_back(0);
    const auto at = below(bytes.size());
    const auto length = 1 + below(std::min<size_t>(16, bytes.size() - static_cast<size_t>(at)));
    switch (below(5)) {
      case 0:
        bytes[static_cast<size_t>(at)] ^= static_cast<uint8_t>(1U << below(8));
        break;
      case 1:
        bytes[static_cast<size_t>(at)] = extremes[below(std::size(extremes))];
        break;
      case 2:
        bytes.erase(bytes.begin() + at, bytes.begin() + at + length);
        break;
      case 3: {
        const Bytes part(bytes.begin() + at, bytes.begin() + at + length);
        bytes.insert(bytes.begin() + at, part.begin(), part.end());
        break;
      }
      default:
        if (!other.empty()) bytes[static_cast<size_t>(at)] = other[static_cast<size_t>(below(other.size()))];
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MUTATIONS SEED_FILE...\n", argv[0]);
    return 2;
  }
  std::vector<Bytes> seeds;
  for (int i = 2; i < argc; ++i) {
    seeds.push_back(read(argv[i]));
    run(seeds.back());
    for (size_t cut = 0; cut < std::min<size_t>(seeds.back().size(), 128); ++cut)
      run(Bytes(seeds.back().begin(), seeds.back().begin() + static_cast<std::ptrdiff_t>(cut)));
  }
  std::mt19937_64 random(1);
  const int count = std::atoi(argv[1]);
  for (int i = 0; i < count; ++i) {
    const Bytes& seed = seeds[random() % seeds.size()];
    const Bytes& other = seeds[random() % seeds.size()];
    run(mutated(seed, other, random));
  }
  std::printf("%zu seeds, %d mutations\n", seeds.size(), count);
  return 0;
}
