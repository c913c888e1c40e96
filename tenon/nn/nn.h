// All layers.
#pragma once

#include "tenon/nn/activation.h"
#include "tenon/nn/attention.h"
#include "tenon/nn/conv.h"
#include "tenon/nn/dropout.h"
#include "tenon/nn/embedding.h"
#include "tenon/nn/init.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/loss.h"
#include "tenon/nn/mode.h"
#include "tenon/nn/module.h"
#include "tenon/nn/norm.h"
#include "tenon/nn/pooling.h"
#include "tenon/nn/resample.h"
#include "tenon/nn/sequential.h"
