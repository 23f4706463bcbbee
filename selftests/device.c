// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls that concern the device as a whole: id, status, features, backend
 * features, config, config interrupt, limits, suspend and resume.
 */
#include "vdpa_test.h"

FIXTURE(device) {
	int fd;
	struct vdpa_caps caps;
	char *guard;		/* a page with an inaccessible one behind it */
};

FIXTURE_SETUP(device)
{
	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	self->guard = guarded_page();
	ASSERT_NE(NULL, self->guard);
}

FIXTURE_TEARDOWN(device)
{
	close(self->fd);
}

TEST_F(device, getters_fault)
{
	static const struct {
		unsigned long cmd;
		size_t size;
	} cmds[] = {
		{ VHOST_VDPA_GET_DEVICE_ID, 4 },
		{ VHOST_VDPA_GET_STATUS, 1 },
		{ VHOST_GET_FEATURES, 8 },
		{ VHOST_GET_BACKEND_FEATURES, 8 },
		{ VHOST_VDPA_GET_VRING_NUM, 2 },
		{ VHOST_VDPA_GET_IOVA_RANGE, 16 },
		{ VHOST_VDPA_GET_CONFIG_SIZE, 4 },
		{ VHOST_VDPA_GET_VQS_COUNT, 4 },
		{ VHOST_VDPA_GET_GROUP_NUM, 4 },
		{ VHOST_VDPA_GET_AS_NUM, 4 },
	};
	char *edge = self->guard + PAGE;
	void *read_only = mmap(NULL, PAGE, PROT_READ,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	ASSERT_NE(MAP_FAILED, read_only);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		EXPECT_ERRNO(EFAULT, vioctl(self->fd, cmds[i].cmd, BAD_PTR)) {
			TH_LOG("command %#lx", cmds[i].cmd);
		}
		EXPECT_ERRNO(EFAULT, vioctl(self->fd, cmds[i].cmd, NULL)) {
			TH_LOG("command %#lx", cmds[i].cmd);
		}
		EXPECT_ERRNO(EFAULT, vioctl(self->fd, cmds[i].cmd, read_only)) {
			TH_LOG("command %#lx", cmds[i].cmd);
		}
		/* Exactly as many bytes as the type has, and not one more. */
		EXPECT_OK(vioctl(self->fd, cmds[i].cmd, edge - cmds[i].size)) {
			TH_LOG("command %#lx", cmds[i].cmd);
		}
		EXPECT_ERRNO(EFAULT, vioctl(self->fd, cmds[i].cmd,
					    edge - cmds[i].size + 1)) {
			TH_LOG("command %#lx", cmds[i].cmd);
		}
	}
}

TEST_F(device, setters_fault)
{
	static const unsigned long cmds[] = {
		VHOST_VDPA_SET_STATUS, VHOST_SET_FEATURES,
		VHOST_SET_BACKEND_FEATURES, VHOST_VDPA_SET_CONFIG_CALL,
		VHOST_VDPA_SET_CONFIG, VHOST_VDPA_GET_CONFIG,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		EXPECT_ERRNO(EFAULT, vioctl(self->fd, cmds[i], BAD_PTR)) {
			TH_LOG("command %#lx", cmds[i]);
		}
		/* The status byte alone fits before the inaccessible page. */
		EXPECT_ERRNO(EFAULT, vioctl(self->fd, cmds[i],
					    self->guard + PAGE - !!i)) {
			TH_LOG("command %#lx", cmds[i]);
		}
	}
}

TEST_F(device, device_id)
{
	/* Zero is reserved and no device is called that. */
	EXPECT_LT(0, self->caps.device_id);
	if (getenv("MGMTDEV") && strstr(getenv("MGMTDEV"), "sim_net"))
		EXPECT_EQ(VIRTIO_ID_NET, self->caps.device_id);
}

TEST_F(device, limits)
{
	struct vdpa_caps *c = &self->caps;

	EXPECT_LT(0, c->nvqs);
	EXPECT_LT(0, c->ngroups);
	EXPECT_LT(0, c->nas);
	EXPECT_LT(0, c->num_max);
	EXPECT_EQ(0, c->num_max & (c->num_max - 1));
	EXPECT_LE(c->range.first, c->range.last);
}

TEST_F(device, status_walk)
{
	EXPECT_EQ(0, get_status(self->fd));
	EXPECT_OK(set_status(self->fd, STATUS_ACK));
	EXPECT_EQ(STATUS_ACK, get_status(self->fd));
	EXPECT_OK(set_status(self->fd, STATUS_DRIVER));
	EXPECT_OK(set_features(self->fd, FEATURES_MODERN));
	EXPECT_OK(set_status(self->fd, STATUS_FEATURES));
	EXPECT_EQ(STATUS_FEATURES, get_status(self->fd));
	EXPECT_OK(set_status(self->fd, 0));
	EXPECT_EQ(0, get_status(self->fd));
}

TEST_F(device, status_bits_stay)
{
	ASSERT_OK(negotiate(self->fd));
	EXPECT_ERRNO(EINVAL, set_status(self->fd, STATUS_DRIVER));
	EXPECT_ERRNO(EINVAL, set_status(self->fd, STATUS_ACK));
	EXPECT_ERRNO(EINVAL, set_status(self->fd, VIRTIO_CONFIG_S_FAILED));
	EXPECT_EQ(STATUS_FEATURES, get_status(self->fd));
	/* The same again is no removal. */
	EXPECT_OK(set_status(self->fd, STATUS_FEATURES));
}

TEST_F(device, reset_repeatedly)
{
	int i;

	for (i = 0; i < 10; i++)
		ASSERT_OK(set_status(self->fd, 0));
	for (i = 0; i < 10; i++) {
		ASSERT_OK(negotiate(self->fd));
		ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
		ASSERT_OK(set_status(self->fd, 0));
		ASSERT_EQ(0, get_status(self->fd));
	}
}

TEST_F(device, features_offered)
{
	uint64_t again = 0;

	EXPECT_EQ(FEATURES_MODERN, self->caps.features & FEATURES_MODERN);
	EXPECT_OK(vioctl(self->fd, VHOST_GET_FEATURES, &again));
	EXPECT_EQ(self->caps.features, again);
}

TEST_F(device, features_refused_by_the_parent)
{
	ASSERT_OK(set_status(self->fd, STATUS_DRIVER));
	if (getenv("MGMTDEV") && !strstr(getenv("MGMTDEV"), "sim"))
		SKIP(return, "only simulators insist on ACCESS_PLATFORM");
	EXPECT_ERRNO(EINVAL, set_features(self->fd, FEATURE(VIRTIO_F_VERSION_1)));
	EXPECT_OK(set_features(self->fd, FEATURES_MODERN));
}

TEST_F(device, features_may_be_set_again)
{
	ASSERT_OK(set_status(self->fd, STATUS_DRIVER));
	EXPECT_OK(set_features(self->fd, FEATURES_MODERN));
	EXPECT_OK(set_features(self->fd, FEATURES_MODERN));
	EXPECT_OK(set_status(self->fd, STATUS_FEATURES));
}

TEST_F(device, features_after_features_ok_are_ebusy)
{
	ASSERT_OK(negotiate(self->fd));
	EXPECT_ERRNO(EBUSY, set_features(self->fd, FEATURES_MODERN));
	/* The state is checked before the pointer. */
	EXPECT_ERRNO(EBUSY, vioctl(self->fd, VHOST_SET_FEATURES, BAD_PTR));
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_OK(set_features(self->fd, FEATURES_MODERN));
}

TEST_F(device, backend_features_offered)
{
	uint64_t always = BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_BATCH) |
			  BACKEND(IOTLB_ASID);

	EXPECT_EQ(always, self->caps.backend & always);
	/* Bit 0 and all beyond PERSIST do not exist. */
	EXPECT_EQ(0, self->caps.backend & ~0x1feULL);
	EXPECT_OK(set_backend_features(self->fd, self->caps.backend));
	EXPECT_OK(set_backend_features(self->fd, 0));
}

TEST_F(device, backend_features_unknown)
{
	int bit;

	for (bit = 0; bit < 64; bit++) {
		if (bit >= VHOST_BACKEND_F_IOTLB_MSG_V2 &&
		    bit <= VHOST_BACKEND_F_IOTLB_PERSIST)
			continue;
		EXPECT_ERRNO(EOPNOTSUPP, set_backend_features(self->fd, 1ULL << bit)) {
			TH_LOG("bit %d", bit);
		}
	}
	EXPECT_ERRNO(EOPNOTSUPP, set_backend_features(self->fd, ~0ULL));
}

/* Each optional bit alone: taken if it is offered, refused if not. */
TEST_F(device, backend_features_optional)
{
	static const uint64_t bits[] = {
		BACKEND(SUSPEND), BACKEND(RESUME), BACKEND(IOTLB_PERSIST),
		BACKEND(DESC_ASID) | BACKEND(IOTLB_ASID),
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		bool offered = (self->caps.backend & bits[i]) == bits[i];

		EXPECT_EQ(offered ? 0 : -EOPNOTSUPP,
			  set_backend_features(self->fd, bits[i])) {
			TH_LOG("bits %#llx", (unsigned long long)bits[i]);
		}
	}
}

TEST_F(device, backend_features_desc_asid_needs_asid)
{
	EXPECT_ERRNO(EINVAL, set_backend_features(self->fd, BACKEND(DESC_ASID)));
	EXPECT_ERRNO(EINVAL, set_backend_features(self->fd, BACKEND(DESC_ASID) |
						  BACKEND(IOTLB_MSG_V2)));
}

TEST_F(device, enable_after_driver_ok_only_if_offered)
{
	uint64_t bit = BACKEND(ENABLE_AFTER_DRIVER_OK);
	int r = set_backend_features(self->fd, bit);

	if (self->caps.backend & bit) {
		EXPECT_EQ(0, r);
		return;
	}
	C_MAY_DIFFER(r == 0, "it takes the feature though it is not offered");
	EXPECT_EQ(-EOPNOTSUPP, r);
}

static int config_io(int fd, unsigned long cmd, uint32_t off, uint32_t len,
		     uint32_t room)
{
	struct vhost_vdpa_config *c = calloc(1, sizeof(*c) + room);
	int r;

	c->off = off;
	c->len = len;
	r = vioctl(fd, cmd, c);
	free(c);
	return r;
}

TEST_F(device, config_read)
{
	uint32_t size = self->caps.config_size, off;
	struct vhost_vdpa_config *all, *one;

	if (!size)
		SKIP(return, "the device has no config space");
	all = calloc(1, sizeof(*all) + size);
	one = calloc(1, sizeof(*one) + 1);
	all->len = size;
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_GET_CONFIG, all));
	/* A byte at a time tells the same. */
	for (off = 0; off < size; off++) {
		one->off = off;
		one->len = 1;
		ASSERT_OK(vioctl(self->fd, VHOST_VDPA_GET_CONFIG, one));
		EXPECT_EQ(all->buf[off], one->buf[0]);
	}
}

TEST_F(device, config_bounds)
{
	static const unsigned long cmds[] = {
		VHOST_VDPA_GET_CONFIG, VHOST_VDPA_SET_CONFIG,
	};
	uint32_t size = self->caps.config_size;
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		const struct { uint32_t off, len; } bad[] = {
			{ 0, 0 }, { size, 0 }, { size, 1 }, { size - 1, 2 },
			{ 0, size + 1 }, { size + 1, 1 }, { 1, size },
			{ 0, UINT32_MAX }, { UINT32_MAX, 1 }, { UINT32_MAX, 2 },
			{ UINT32_MAX, UINT32_MAX }, { 1, UINT32_MAX },
			{ 0x80000000, 0x80000000 }, { 0x80000000, 0x80000001 },
		};
		int j;

		for (j = 0; j < ARRAY_SIZE(bad); j++) {
			uint32_t off = bad[j].off, len = bad[j].len;

			EXPECT_ERRNO(EINVAL, config_io(self->fd, cmds[i], off,
						       len, size + 8)) {
				TH_LOG("offset %u length %u", off, len);
			}
		}
	}
	if (size)
		EXPECT_OK(config_io(self->fd, VHOST_VDPA_GET_CONFIG, size - 1, 1, 1));
}

TEST_F(device, config_faults)
{
	struct vhost_vdpa_config *c =
		(void *)(self->guard + PAGE - sizeof(*c));

	if (!self->caps.config_size)
		SKIP(return, "the device has no config space");
	/* The header is there, the buffer is not. */
	c->off = 0;
	c->len = 1;
	EXPECT_ERRNO(EFAULT, vioctl(self->fd, VHOST_VDPA_GET_CONFIG, c));
	EXPECT_ERRNO(EFAULT, vioctl(self->fd, VHOST_VDPA_SET_CONFIG, c));
	/* Bounds come before the buffer. */
	c->len = 0;
	EXPECT_ERRNO(EINVAL, vioctl(self->fd, VHOST_VDPA_GET_CONFIG, c));
	EXPECT_ERRNO(EINVAL, vioctl(self->fd, VHOST_VDPA_SET_CONFIG, c));
}

TEST_F(device, config_write)
{
	uint32_t size = self->caps.config_size;
	struct vhost_vdpa_config *c = calloc(1, sizeof(*c) + size);

	if (!size)
		SKIP(return, "the device has no config space");
	/* Back what was read: whether the parent takes it is its own affair. */
	c->len = size;
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_GET_CONFIG, c));
	EXPECT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG, c));
}

TEST_F(device, config_call_replaced)
{
	int a = eventfd(0, 0), b = eventfd(0, 0), i;
	int none = -1, closed = dup(a), null = open("/dev/null", O_RDWR);

	ASSERT_LE(0, closed);
	close(closed);
	EXPECT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &none));
	EXPECT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &a));
	EXPECT_ERRNO(EBADF, vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &closed));
	EXPECT_ERRNO(EINVAL, vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &null));
	for (i = 0; i < 100; i++)
		ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL,
				 i & 1 ? &a : &b));
	/* The file's own reference is enough. */
	close(a);
	close(b);
	EXPECT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &none));
}

TEST_F(device, config_call_left_at_close)
{
	int a = eventfd(0, 0);

	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &a));
	close(a);
}

TEST_F(device, suspend_and_resume)
{
	bool suspend = self->caps.backend & BACKEND(SUSPEND);
	bool resume = self->caps.backend & BACKEND(RESUME);

	/* Before DRIVER_OK both are nothing to do. */
	EXPECT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	EXPECT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	ASSERT_OK(negotiate(self->fd));
	EXPECT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	EXPECT_EQ(suspend ? 0 : -EOPNOTSUPP,
		  vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	EXPECT_EQ(resume ? 0 : -EOPNOTSUPP,
		  vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_EQ(STATUS_RUNNING, get_status(self->fd));
}

TEST_HARNESS_MAIN
