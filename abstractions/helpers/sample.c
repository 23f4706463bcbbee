// SPDX-License-Identifier: GPL-2.0
/* C side of rust_vdpa_sample.ko. */
#include "parent.h"
