#include "tenon/cli/interrupt.h"

#include <pthread.h>

#include <ctime>

namespace tenon::cli {

Interrupt::Interrupt() : signals_{}, before_{} {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
}

Interrupt::~Interrupt() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

bool Interrupt::requested() {
  if (requested_) return true;
  const timespec at_once{};
  requested_ = sigtimedwait(&signals_, nullptr, &at_once) > 0;
  if (requested_) pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  return requested_;
}

}  // namespace tenon::cli
