// Uses an installed Tenon from outside the project's tree.
#include <tenon/base/error.h>

#include <cstdio>

int main() {
  const tenon::ShapeError error({"consumer", "works", "", "", ""});
  std::puts(error.what());
  return 0;
}
