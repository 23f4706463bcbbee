/* SPDX-License-Identifier: GPL-2.0 */
/* Devices of a test's own, made on MGMTDEV with iproute2's vdpa tool. */
#ifndef VDPA_TEST_MGMT_H
#define VDPA_TEST_MGMT_H

#include "vdpa.h"

#define PROMPT_MS	20000	/* how long a removal may take on the slowest machine */
#define NODE_LEN	64

/* Wait until a device is there whose name in sysfs is like the pattern: the path of its node. */
int wait_node(const char *pattern, char *node, size_t len);

/* The node of a vdpa device once it is there: 0 or -ENOENT. */
int mgmt_find_node(const char *name, char *node);

/* Run a command beside us: its exit status, or -ETIMEDOUT. */
int mgmt_run_for(const char *cmd, int ms);

static inline int mgmt_run(const char *cmd)
{
	return mgmt_run_for(cmd, PROMPT_MS);
}

/* What a command prints, and its exit status or -errno. */
int mgmt_output(const char *cmd, char *text, size_t len);

/* Make a device, with options for the tool, and wait for its node. */
int mgmt_add_on(const char *name, const char *mgmtdev, const char *options, char *node);

int mgmt_add(const char *name, char *node);

int mgmt_del(const char *name);

/* The same for cleaning up: the device may be gone already. */
void mgmt_del_if_there(const char *name);

/* Take a device from vhost_vdpa and give it back, beside us as the tool does. */
int mgmt_unbind(const char *name);

int mgmt_bind(const char *name, char *node);

/* What `vdpa dev vstats show` says of a queue, and its exit status. */
int mgmt_vstats(const char *name, int idx, char *text, size_t len);

/* The first number behind a key in a text, or -1. */
long number_after(const char *text, const char *key);

#endif
