// SPDX-License-Identifier: GPL-2.0
/* C side of rust_vdpa_sim_net.ko. */
#include "parent.h"
#include "sim_params.h"
