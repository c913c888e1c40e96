// Weights of which compiled programs keep a form of their own between runs.
//
// Memory that somebody holds never changes, so who holds a buffer may keep what was packed of it for as long as it
// comes again. One holder for the whole process: programs for several sizes share what is packed, and whoever is about
// to be the only other owner gets the memory back.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "tenon/device/device.h"

namespace tenon::compiler {

class KeptWeights {
 public:
  class Source {
   public:
    KeptConstants packed;  // of these elements

   private:
    friend class KeptWeights;
    Ref<Buffer> buffer_;  // null: given back
  };
  static KeptWeights& of_process();

  // Of this memory, which is held until all who ask for it have let go of it, or it is given back.
  std::shared_ptr<Source> hold(const Ref<Buffer>& buffer);
  // Whether this is what is held of that memory.
  [[nodiscard]] bool holds(const Source& source, const Buffer& buffer) const;
  // Lets go of memory that a caller would like to be alone with.
  void give_back(const Buffer& buffer);

 private:
  mutable std::mutex mutex_;
  std::map<const Buffer*, std::weak_ptr<Source>> sources_;
};

}  // namespace tenon::compiler
