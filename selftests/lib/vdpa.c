// SPDX-License-Identifier: GPL-2.0
#include "vdpa.h"

bool on_c_driver(void)
{
	const char *driver = getenv("DRIVER");

	if (driver)
		return !strcmp(driver, "c");
	return access("/sys/module/rust_vhost_vdpa", F_OK) != 0;
}

int vioctl(int fd, unsigned long cmd, void *arg)
{
	int r = ioctl(fd, cmd, arg);

	return r < 0 ? -errno : r;
}

const char *vdpa_path(void)
{
	static char path[64];
	const char *env = getenv("VHOST_VDPA_DEV");
	glob_t g;

	if (env)
		return env;
	if (!path[0] && !glob("/dev/vhost-vdpa-*", 0, NULL, &g)) {
		snprintf(path, sizeof(path), "%s", g.gl_pathv[0]);
		globfree(&g);
	}
	return path[0] ? path : NULL;
}

int vdpa_open_flags(int flags)
{
	int fd = open(vdpa_path(), flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int node_open(const char *node)
{
	int fd = open(node, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int open_owned(const char *node)
{
	int fd = node_open(node), r;

	if (fd < 0)
		return fd;
	r = vioctl(fd, VHOST_SET_OWNER, NULL);
	if (r)
		close(fd);
	return r ?: fd;
}

int vdpa_get_caps(int fd, struct vdpa_caps *c)
{
	int r = 0;

	memset(c, 0, sizeof(*c));
	r = r ?: vioctl(fd, VHOST_VDPA_GET_DEVICE_ID, &c->device_id);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_VQS_COUNT, &c->nvqs);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_GROUP_NUM, &c->ngroups);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_AS_NUM, &c->nas);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_CONFIG_SIZE, &c->config_size);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_VRING_NUM, &c->num_max);
	r = r ?: vioctl(fd, VHOST_GET_FEATURES, &c->features);
	r = r ?: vioctl(fd, VHOST_GET_BACKEND_FEATURES, &c->backend);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_IOVA_RANGE, &c->range);
	c->iova = 0x10000000;
	if (c->iova < c->range.first)
		c->iova = (c->range.first + PAGE - 1) & ~(PAGE - 1);
	return r;
}

int get_status(int fd)
{
	uint8_t status;
	int r = vioctl(fd, VHOST_VDPA_GET_STATUS, &status);

	return r ?: status;
}

int negotiate_features(int fd, uint64_t features)
{
	int r = set_status(fd, STATUS_ACK);

	r = r ?: set_status(fd, STATUS_DRIVER);
	r = r ?: set_features(fd, features);
	return r ?: set_status(fd, STATUS_FEATURES);
}

/* The head of the ioctls' argument, and room for what follows. */
struct config_access {
	struct vhost_vdpa_config head;
	unsigned char bytes[512];
};

int read_config(int fd, uint32_t off, void *buf, uint32_t len)
{
	struct config_access c = { .head = { .off = off, .len = len } };
	int r;

	if (len > sizeof(c.bytes))
		return -E2BIG;
	r = vioctl(fd, VHOST_VDPA_GET_CONFIG, &c);
	memcpy(buf, c.bytes, len);
	return r;
}

int write_config(int fd, uint32_t off, const void *buf, uint32_t len)
{
	struct config_access c = { .head = { .off = off, .len = len } };

	if (len > sizeof(c.bytes))
		return -E2BIG;
	memcpy(c.bytes, buf, len);
	return vioctl(fd, VHOST_VDPA_SET_CONFIG, &c);
}

int vring_state(int fd, unsigned long cmd, unsigned int index, unsigned int num)
{
	struct vhost_vring_state s = { .index = index, .num = num };

	return vioctl(fd, cmd, &s);
}

int vring_get(int fd, unsigned long cmd, unsigned int index)
{
	struct vhost_vring_state s = { .index = index, .num = 0xdeadbeef };
	int r = vioctl(fd, cmd, &s);

	if (r)
		return r;
	return s.index == index ? (int)s.num : -EBADMSG;
}

int vring_file(int fd, unsigned long cmd, unsigned int index, int file)
{
	struct vhost_vring_file f = { .index = index, .fd = file };

	return vioctl(fd, cmd, &f);
}

int vring_addr(int fd, unsigned int index, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct vhost_vring_addr a = {
		.index = index,
		.desc_user_addr = desc,
		.avail_user_addr = avail,
		.used_user_addr = used,
	};

	return vioctl(fd, VHOST_SET_VRING_ADDR, &a);
}

int iotlb_write(int fd, const void *msg, size_t len)
{
	ssize_t r = write(fd, msg, len);

	if (r < 0)
		return -errno;
	return r == (ssize_t)len ? 0 : -EIO;
}

int iotlb_v1(int fd, int type, uint64_t iova, uint64_t size, const void *uaddr, int perm)
{
	struct msg_v1 m = {
		.type = VHOST_IOTLB_MSG,
		.iotlb = {
			.iova = iova,
			.size = size,
			.uaddr = (uintptr_t)uaddr,
			.perm = perm,
			.type = type,
		},
	};

	return iotlb_write(fd, &m, sizeof(m));
}

int iotlb_v2(int fd, uint32_t asid, int type, uint64_t iova, uint64_t size, const void *uaddr,
	     int perm)
{
	struct vhost_msg_v2 m = {
		.type = VHOST_IOTLB_MSG_V2,
		.asid = asid,
		.iotlb = {
			.iova = iova,
			.size = size,
			.uaddr = (uintptr_t)uaddr,
			.perm = perm,
			.type = type,
		},
	};

	return iotlb_write(fd, &m, sizeof(m));
}

int check_gone(int fd)
{
	static const unsigned long cmds[] = {
		VHOST_VDPA_GET_DEVICE_ID, VHOST_VDPA_GET_STATUS,
		VHOST_VDPA_SET_STATUS, VHOST_VDPA_GET_CONFIG,
		VHOST_VDPA_SET_CONFIG, VHOST_GET_FEATURES, VHOST_SET_FEATURES,
		VHOST_VDPA_GET_VRING_NUM, VHOST_VDPA_GET_GROUP_NUM,
		VHOST_VDPA_GET_AS_NUM, VHOST_VDPA_SET_CONFIG_CALL,
		VHOST_GET_BACKEND_FEATURES, VHOST_SET_BACKEND_FEATURES,
		VHOST_VDPA_GET_IOVA_RANGE, VHOST_VDPA_GET_CONFIG_SIZE,
		VHOST_VDPA_GET_VQS_COUNT, VHOST_VDPA_SUSPEND,
		VHOST_VDPA_RESUME, VHOST_SET_OWNER, VHOST_SET_VRING_NUM,
		VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE,
		VHOST_GET_VRING_BASE, VHOST_SET_VRING_KICK,
		VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
		VHOST_VDPA_SET_VRING_ENABLE, VHOST_VDPA_GET_VRING_GROUP,
		VHOST_VDPA_SET_GROUP_ASID,
	};
	char arg[64] = {};
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		int r = vioctl(fd, cmds[i], arg);

		if (r != -ENODEV) {
			fprintf(stderr, "# command %#lx: %d\n", cmds[i], r);
			return r ?: -EPROTO;
		}
	}
	if (iotlb_map(fd, 0x10000000, PAGE, arg) != -ENODEV)
		return -__LINE__;
	if (iotlb_unmap(fd, 0, 0) != -ENODEV)
		return -__LINE__;
	if (mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED || errno != ENODEV)
		return -__LINE__;
	return 0;
}
