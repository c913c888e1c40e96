// OpenBLAS on the calling thread alone.
//
// Its OpenMP build runs threads of its own by OpenMP. Tenon's pool splits the work instead, into parts that the shapes
// alone decide, so each call runs with one OpenMP thread: the same bits for any number of threads.
#pragma once

// Of the OpenMP runtime that it is linked with; declared here because omp.h belongs to a compiler's own
// runtime.
extern "C" {
void omp_set_num_threads(int threads);
int omp_get_max_threads(void);
}

namespace tenon::cpu {

// While it lives, OpenMP loops started by this thread stay on it.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

}  // namespace tenon::cpu
