/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module parameters of the simulators. The first three are those of C's
 * vdpa_sim. Included once by the C object of each simulator.
 */
#include <linux/module.h>

#include "../common/bindings.h"

static bool use_va = true;
module_param(use_va, bool, 0444);
MODULE_PARM_DESC(use_va, "Let drivers map user virtual addresses (default: Y)");

static int batch_mapping = 1;
module_param(batch_mapping, int, 0444);
MODULE_PARM_DESC(batch_mapping, "Take all maps of an address space at once (default: 1)");

static int max_iotlb_entries = 2048;
module_param(max_iotlb_entries, int, 0444);
MODULE_PARM_DESC(max_iotlb_entries,
		 "Maximum number of iotlb entries for each address space. (default: 2048)");

static ushort queue_size = 256;
module_param(queue_size, ushort, 0444);
MODULE_PARM_DESC(queue_size,
		 "Largest size of a queue, a power of two from 4 to 32768 (default: 256)");

static struct vdpa_sim_params sim_params(void)
{
	return (struct vdpa_sim_params){
		.use_va = use_va,
		.batch_mapping = batch_mapping,
		.max_iotlb_entries = max_iotlb_entries,
		.queue_size = queue_size,
	};
}
