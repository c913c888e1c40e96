// Texts in attributes, which messages of an object header or a fractal heap hold.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tenon/formats/hdf5/heaps.h"
#include "tenon/formats/hdf5/object_header.h"

namespace tenon::formats::hdf5 {

// Calls `visit(name, texts)` for every attribute of text or a list of texts; others are passed over.
void read_text_attributes(File& file, GlobalHeap& heap, const ObjectHeader& header,
                          const std::function<void(std::string_view name, std::vector<std::string> texts)>& visit);

}  // namespace tenon::formats::hdf5
