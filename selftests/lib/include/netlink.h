/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What `vdpa dev add` and `vdpa dev del` do, without a process for each: for
 * tests that make devices by the hundred, or want an error number.
 */
#ifndef VDPA_TEST_NETLINK_H
#define VDPA_TEST_NETLINK_H

#include <linux/vdpa.h>

#include "mgmt.h"

int nl_dev(int cmd, const char *name, const char *mgmtdev);

/* Make a device on mgmtdev: 0 or -errno. Its node is there when this returns. */
int nl_add(const char *name, const char *mgmtdev, char *node);

static inline int nl_del(const char *name)
{
	return nl_dev(VDPA_CMD_DEV_DEL, name, NULL);
}

/* For cleaning up: the device may be gone already. */
static inline void nl_del_if_there(const char *name)
{
	nl_dev(VDPA_CMD_DEV_DEL, name, NULL);
}

bool nl_has_mgmtdev(const char *name);

#endif
