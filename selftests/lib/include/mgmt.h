/* SPDX-License-Identifier: GPL-2.0 */
/* Devices of a test's own, made on MGMTDEV with iproute2's vdpa tool. */
#ifndef VDPA_TEST_MGMT_H
#define VDPA_TEST_MGMT_H

#include "vdpa.h"

#define PROMPT_MS	20000	/* how long a removal may take on the slowest machine */
#define NODE_LEN	64

/* The node of a device once it is there: 0 or -ENOENT. */
int mgmt_find_node(const char *name, char *node);

/* Run a command beside us: its exit status, or -ETIMEDOUT. */
int mgmt_run_for(const char *cmd, int ms);

static inline int mgmt_run(const char *cmd)
{
	return mgmt_run_for(cmd, PROMPT_MS);
}

int mgmt_add(const char *name, char *node);

int mgmt_del(const char *name);

/* The same for cleaning up: the device may be gone already. */
void mgmt_del_if_there(const char *name);

#endif
