// SPDX-License-Identifier: GPL-2.0
/* C side of rust_mlx5_compat.ko. */
#include <linux/module.h>

#include "../common/bindings.h"

static int max_iotlb_entries = 2048;
module_param(max_iotlb_entries, int, 0444);
MODULE_PARM_DESC(max_iotlb_entries,
		 "Maximum number of iotlb entries for each address space (default: 2048)");

int mlx5_compat_max_iotlb_entries(void)
{
	return max_iotlb_entries;
}
