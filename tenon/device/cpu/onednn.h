// oneDNN on the calling thread alone. The only files that include dnnl are gemm.cpp and conv.cpp, through this one.
#pragma once

#include <dnnl.hpp>

#include "tenon/device/cpu/one_thread.h"
