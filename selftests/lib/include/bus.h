/* SPDX-License-Identifier: GPL-2.0 */
/* Devices on the vdpa bus, and which driver has them: 0 or -errno. */
#ifndef VDPA_TEST_BUS_H
#define VDPA_TEST_BUS_H

#include "mgmt.h"

#define VDPA_BUS	"/sys/bus/vdpa/"

/* Take a device from vhost_vdpa. */
int bus_unbind(const char *name);

/* Give it back, and wait for its node. */
int bus_bind(const char *name, char *node);

/* The same by driver_override, which gives it to virtio_vdpa. */
int bus_override(const char *name);

int bus_override_back(const char *name, char *node);

#endif
