// SPDX-License-Identifier: GPL-2.0
/* C side of rust_vdpa_sim_net.ko. */
#include "sim_params.h"

struct rvv_sim_params rvv_net_sim_params(void)
{
	return sim_params();
}
