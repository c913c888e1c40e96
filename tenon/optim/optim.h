// All optimisers.
#pragma once

#include "tenon/optim/adam.h"
#include "tenon/optim/clip.h"
#include "tenon/optim/ema.h"
#include "tenon/optim/grad_scaler.h"
#include "tenon/optim/sgd.h"
