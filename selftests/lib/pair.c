// SPDX-License-Identifier: GPL-2.0
#include "pair.h"

const char *const pair_names[2] = { "selftest_from", "selftest_to" };

const char *pair_mgmtdev(int i)
{
	const char *b = getenv("MGMTDEV_B");

	return i && b ? b : getenv("MGMTDEV");
}

int pair_add(int i, const char *attributes, char *node)
{
	return mgmt_add_on(pair_names[i], pair_mgmtdev(i), attributes, node);
}

void pair_remove(int fd[2])
{
	int i;

	for (i = 0; i < 2; i++) {
		if (fd[i] >= 0)
			close(fd[i]);
		mgmt_del_if_there(pair_names[i]);
	}
}

int take_image(int fd, struct image *image)
{
	uint32_t i, off, len;
	int r;

	memset(image, 0, sizeof(*image));
	r = vdpa_get_caps(fd, &image->caps);
	if (r)
		return r;
	image->config_len = image->caps.config_size;
	if (image->config_len > sizeof(image->config))
		return -E2BIG;
	/* In pieces of each size, as drivers do. */
	for (off = 0; off < image->config_len && !r; off += len) {
		len = off % 7 + 1;
		if (len > image->config_len - off)
			len = image->config_len - off;
		r = read_config(fd, off, image->config + off, len);
	}
	for (i = 0; i < image->caps.nvqs && i < 16 && !r; i++) {
		image->groups[i] = vring_get(fd, VHOST_VDPA_GET_VRING_GROUP, i);
		image->sizes[i] = vring_get(fd, VHOST_VDPA_GET_VRING_SIZE, i);
	}
	return r;
}

int pair_told(int i, char *text, size_t len)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "vdpa -j dev config show %s | sed s/%s/NAME/", pair_names[i],
		 pair_names[i]);
	mgmt_output(cmd, text, len);
	return text[0] ? 0 : -ENODATA;
}

bool pair_has_packed(int i)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "vdpa mgmtdev show %s | grep -q RING_PACKED", pair_mgmtdev(i));
	return !mgmt_run(cmd);
}

int stop_at(int fd, uint32_t *base, int n)
{
	struct vhost_vring_state s;
	int i, r = vioctl(fd, VHOST_VDPA_SUSPEND, NULL);

	for (i = 0; i < n && !r; i++) {
		s = (struct vhost_vring_state){ .index = i };
		r = vioctl(fd, VHOST_GET_VRING_BASE, &s);
		base[i] = s.num;
	}
	return r;
}
