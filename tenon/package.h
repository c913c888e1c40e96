// Packages: a model as one file. See docs/package.md for the format.
#pragma once

#include "tenon/formats/package.h"
