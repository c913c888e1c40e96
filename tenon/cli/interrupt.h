// Interrupt: asks "did the user press Ctrl-C?" between two steps.
//
// While one lives, SIGINT and SIGTERM are held back and requested() looks whether one has come; no handler and no
// global flag. Make it before any thread, since threads inherit what is held back. After the first request the
// signals act at once again, so that a second Ctrl-C ends a program that hangs.
#pragma once

#include <csignal>

namespace tenon::cli {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  [[nodiscard]] bool requested();

 private:
  sigset_t signals_;
  sigset_t before_;
  bool requested_ = false;
};

}  // namespace tenon::cli
