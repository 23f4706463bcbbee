// SPDX-License-Identifier: GPL-2.0
#include "bus.h"
#include "files.h"

/* Without memory: who calls this may be beside one that holds the lock of the address space. */
int bus_unbind(const char *name)
{
	return write_file(VDPA_BUS "drivers/vhost_vdpa/unbind", name);
}

int bus_bind(const char *name, char *node)
{
	return write_file(VDPA_BUS "drivers/vhost_vdpa/bind", name) ?: mgmt_find_node(name, node);
}

int bus_override(const char *name)
{
	int r = write_path("virtio_vdpa", VDPA_BUS "devices/%s/driver_override", name);

	r = r ?: bus_unbind(name);
	return r ?: write_file(VDPA_BUS "drivers_probe", name);
}

int bus_override_back(const char *name, char *node)
{
	int r = write_path("\n", VDPA_BUS "devices/%s/driver_override", name);

	r = r ?: write_file(VDPA_BUS "drivers/virtio_vdpa/unbind", name);
	return r ?: bus_bind(name, node);
}
