// SPDX-License-Identifier: GPL-2.0
/* C side of rust_vdpa_sim_blk.ko. The first parameter is that of C's vdpa_sim_blk. */
#include <linux/mm.h>

#include "sim_params.h"

static bool shared_backend;
module_param(shared_backend, bool, 0444);
MODULE_PARM_DESC(shared_backend, "Let all disks keep their sectors in the same memory (default: N)");

static ullong capacity = 0x40000;
module_param(capacity, ullong, 0444);
MODULE_PARM_DESC(capacity, "Capacity of a disk in sectors of 512 bytes (default: 262144)");

static ushort num_queues = 1;
module_param(num_queues, ushort, 0444);
MODULE_PARM_DESC(num_queues, "Number of request queues of a disk, 1 to 64 (default: 1)");

bool vdpa_sim_blk_shared_backend(void)
{
	return shared_backend;
}

u64 vdpa_sim_blk_capacity(void)
{
	return capacity;
}

u16 vdpa_sim_blk_num_queues(void)
{
	return num_queues;
}

u64 vdpa_sim_blk_memory_size(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}

struct vdpa_sim_params vdpa_sim_blk_params(void)
{
	return sim_params();
}
