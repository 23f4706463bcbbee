// SPDX-License-Identifier: GPL-2.0
/* C side of rust_vdpa_sim_net.ko. */
#include "sim_params.h"

struct vdpa_sim_params vdpa_sim_net_params(void)
{
	return sim_params();
}
