// oneDNN on the calling thread alone. The only file that includes dnnl is conv.cpp, through this one.
#pragma once

#include <dnnl.hpp>

#include "tenon/device/cpu/one_thread.h"
