// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls that concern one virtqueue, and those on groups and address
 * spaces that take their argument in the same struct.
 */
#include "vdpa_test.h"

FIXTURE(vring) {
	int fd;
	struct vdpa_caps caps;
	char *guard;
};

FIXTURE_SETUP(vring)
{
	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	self->guard = guarded_page();
	ASSERT_NE(NULL, self->guard);
}

FIXTURE_TEARDOWN(vring)
{
	close(self->fd);
}

static const struct {
	unsigned long cmd;
	size_t size;
	bool whole;	/* the struct is copied before the index is checked */
} vring_cmds[] = {
	{ VHOST_SET_VRING_NUM, sizeof(struct vhost_vring_state), true },
	{ VHOST_SET_VRING_BASE, sizeof(struct vhost_vring_state) },
	{ VHOST_GET_VRING_BASE, sizeof(struct vhost_vring_state) },
	{ VHOST_SET_VRING_ADDR, sizeof(struct vhost_vring_addr) },
	{ VHOST_SET_VRING_KICK, sizeof(struct vhost_vring_file) },
	{ VHOST_SET_VRING_CALL, sizeof(struct vhost_vring_file) },
	{ VHOST_SET_VRING_ERR, sizeof(struct vhost_vring_file) },
	{ VHOST_VDPA_SET_VRING_ENABLE, sizeof(struct vhost_vring_state) },
	{ VHOST_VDPA_GET_VRING_GROUP, sizeof(struct vhost_vring_state) },
	{ VHOST_VDPA_GET_VRING_DESC_GROUP, sizeof(struct vhost_vring_state) },
	{ VHOST_VDPA_GET_VRING_SIZE, sizeof(struct vhost_vring_state) },
	{ VHOST_VDPA_SET_GROUP_ASID, sizeof(struct vhost_vring_state) },
	{ VHOST_SET_VRING_BUSYLOOP_TIMEOUT, sizeof(struct vhost_vring_state) },
	{ VHOST_GET_VRING_BUSYLOOP_TIMEOUT, sizeof(struct vhost_vring_state) },
};

TEST_F(vring, bad_index_is_enobufs)
{
	struct vhost_vring_addr arg = {};
	uint32_t bad[] = { self->caps.nvqs, self->caps.nvqs + 1, 65535, 65536,
			   0x80000000, UINT32_MAX };
	int i, j;

	for (i = 0; i < ARRAY_SIZE(vring_cmds); i++) {
		for (j = 0; j < ARRAY_SIZE(bad); j++) {
			arg.index = bad[j];
			EXPECT_ERRNO(ENOBUFS, vioctl(self->fd, vring_cmds[i].cmd,
						     &arg)) {
				TH_LOG("command %#lx index %u",
				       vring_cmds[i].cmd, bad[j]);
			}
		}
	}
}

TEST_F(vring, faults)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(vring_cmds); i++)
		EXPECT_ERRNO(EFAULT, vioctl(self->fd, vring_cmds[i].cmd, BAD_PTR)) {
			TH_LOG("command %#lx", vring_cmds[i].cmd);
		}
}

/* The index is readable, what follows is not. */
TEST_F(vring, torn_argument)
{
	uint32_t *index = (uint32_t *)(self->guard + PAGE) - 1;
	int i;

	for (i = 0; i < ARRAY_SIZE(vring_cmds); i++) {
		int r;

		*index = 0;
		r = vioctl(self->fd, vring_cmds[i].cmd, index);
		/* What the parent lacks may be said first. */
		if (r != -EOPNOTSUPP)
			EXPECT_EQ(-EFAULT, r) {
				TH_LOG("command %#lx", vring_cmds[i].cmd);
			}
		*index = self->caps.nvqs;
		EXPECT_EQ(vring_cmds[i].whole ? -EFAULT : -ENOBUFS,
			  vioctl(self->fd, vring_cmds[i].cmd, index)) {
			TH_LOG("command %#lx", vring_cmds[i].cmd);
		}
	}
}

TEST_F(vring, num_bounds)
{
	uint32_t max = self->caps.num_max, num;
	uint32_t q;

	for (q = 0; q < self->caps.nvqs; q++)
		for (num = 1; num <= max; num *= 2)
			EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, q, num));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 0));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 3));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_NUM, 0, max - 1));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_NUM, 0, max + 1));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_NUM, 0, max * 2));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 0x10000));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 0x80000000));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_NUM, 0, UINT32_MAX));
	/* The index goes before the number. */
	EXPECT_ERRNO(ENOBUFS, vring_state(self->fd, VHOST_SET_VRING_NUM,
					  self->caps.nvqs, 0));
}

TEST_F(vring, num_max_after_reset)
{
	uint16_t max = 0;

	ASSERT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 2));
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_OK(vioctl(self->fd, VHOST_VDPA_GET_VRING_NUM, &max));
	EXPECT_EQ(self->caps.num_max, max);
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, max));
}

TEST_F(vring, num_while_running)
{
	int r;

	ASSERT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 16));
	ASSERT_OK(negotiate(self->fd));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	r = vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 16);
	C_MAY_DIFFER(r == 0, "the size of a running queue changes");
	EXPECT_EQ(-EBUSY, r);
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 16));
}

TEST_F(vring, addr_arguments)
{
	struct vhost_vring_addr a = { .index = 0 };

	EXPECT_OK(vring_addr(self->fd, 0, 0x1000, 0x2000, 0x3000));
	/* Alignment: 2 for the available ring, 4 for the used and the log. */
	EXPECT_OK(vring_addr(self->fd, 0, 0x1001, 0x2002, 0x3004));
	EXPECT_ERRNO(EINVAL, vring_addr(self->fd, 0, 0x1000, 0x2001, 0x3000));
	EXPECT_ERRNO(EINVAL, vring_addr(self->fd, 0, 0x1000, 0x2000, 0x3001));
	EXPECT_ERRNO(EINVAL, vring_addr(self->fd, 0, 0x1000, 0x2000, 0x3002));
	a.log_guest_addr = 2;
	EXPECT_ERRNO(EINVAL, vioctl(self->fd, VHOST_SET_VRING_ADDR, &a));
	/* Flags: the log's bit is known, all others are not. */
	a.log_guest_addr = 0;
	a.flags = 1 << VHOST_VRING_F_LOG;
	EXPECT_OK(vioctl(self->fd, VHOST_SET_VRING_ADDR, &a));
	a.flags = 2;
	EXPECT_ERRNO(EOPNOTSUPP, vioctl(self->fd, VHOST_SET_VRING_ADDR, &a));
	a.flags = UINT32_MAX;
	EXPECT_ERRNO(EOPNOTSUPP, vioctl(self->fd, VHOST_SET_VRING_ADDR, &a));
	/* Flags go before alignment. */
	a.avail_user_addr = 1;
	EXPECT_ERRNO(EOPNOTSUPP, vioctl(self->fd, VHOST_SET_VRING_ADDR, &a));
}

TEST_F(vring, base)
{
	int r = vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0);

	/* vp_vdpa takes 0, once features are agreed, and nothing else. */
	if (r == -EOPNOTSUPP)
		SKIP(return, "the parent cannot place a queue");
	EXPECT_OK(r);
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0xffff));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0x10000));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_BASE, 0, UINT32_MAX));
}

TEST_F(vring, base_is_kept)
{
	int r;

	ASSERT_OK(negotiate(self->fd));
	r = vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0x1234);
	if (r == -EOPNOTSUPP)
		SKIP(return, "the parent cannot place a queue");
	ASSERT_OK(r);
	r = vring_get(self->fd, VHOST_GET_VRING_BASE, 0);
	if (r == -EOPNOTSUPP)
		SKIP(return, "the parent has no get_vq_state");
	EXPECT_EQ(0x1234, r);
	/* A refused base leaves the old one. */
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0x10000));
	EXPECT_EQ(0x1234, vring_get(self->fd, VHOST_GET_VRING_BASE, 0));
}

TEST_F(vring, packed_base)
{
	uint64_t packed = FEATURE(VIRTIO_F_RING_PACKED);

	if (!(self->caps.features & packed))
		SKIP(return, "the parent has no packed rings");
	ASSERT_OK(set_status(self->fd, STATUS_DRIVER));
	ASSERT_OK(set_features(self->fd, FEATURES_MODERN | packed));
	ASSERT_OK(set_status(self->fd, STATUS_FEATURES));
	/* Two indices, each with its wrap counter in the top bit. */
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0x80058003));
	EXPECT_EQ((int)0x80058003, vring_get(self->fd, VHOST_GET_VRING_BASE, 0));
}

TEST_F(vring, get_base_to_read_only_memory)
{
	struct vhost_vring_state *s = (void *)self->guard;

	ASSERT_EQ(0, mprotect(s, PAGE, PROT_READ));
	if (vring_get(self->fd, VHOST_GET_VRING_BASE, 0) == -EOPNOTSUPP)
		SKIP(return, "the parent has no get_vq_state");
	EXPECT_ERRNO(EFAULT, vioctl(self->fd, VHOST_GET_VRING_BASE, s));
}

TEST_F(vring, addr_and_base_while_running)
{
	struct vhost_vring_addr a = { .flags = 2 };

	ASSERT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 16));
	ASSERT_OK(negotiate(self->fd));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	EXPECT_ERRNO(EINVAL, vring_addr(self->fd, 0, 0x1000, 0x2000, 0x3000));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0));
	/* What is wrong with the argument itself is said first. */
	EXPECT_ERRNO(EOPNOTSUPP, vioctl(self->fd, VHOST_SET_VRING_ADDR, &a));
	EXPECT_ERRNO(ENOBUFS, vring_state(self->fd, VHOST_SET_VRING_BASE,
					  self->caps.nvqs, 0));
	EXPECT_ERRNO(EFAULT, vioctl(self->fd, VHOST_SET_VRING_ADDR, BAD_PTR));
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_OK(vring_addr(self->fd, 0, 0x1000, 0x2000, 0x3000));
}

TEST_F(vring, addr_and_base_while_suspended)
{
	if (!(self->caps.backend & BACKEND(SUSPEND)))
		SKIP(return, "the parent cannot suspend");
	ASSERT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 16));
	ASSERT_OK(negotiate(self->fd));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	EXPECT_OK(vring_addr(self->fd, 0, 0x1000, 0x2000, 0x3000));
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0));
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 16));
	if (self->caps.backend & BACKEND(RESUME)) {
		ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
		EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0));
	}
	/* A reset ends the suspension. */
	ASSERT_OK(set_status(self->fd, 0));
	ASSERT_OK(negotiate(self->fd));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 0));
}

TEST_F(vring, bad_eventfds)
{
	static const unsigned long cmds[] = {
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
	};
	int good = eventfd(0, 0), null = open("/dev/null", O_RDWR);
	int closed = dup(good), pipes[2], i;

	ASSERT_EQ(0, pipe(pipes));
	close(closed);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		EXPECT_OK(vring_file(self->fd, cmds[i], 0, VHOST_FILE_UNBIND));
		EXPECT_OK(vring_file(self->fd, cmds[i], 0, good));
		EXPECT_OK(vring_file(self->fd, cmds[i], 0, good));
		EXPECT_ERRNO(EBADF, vring_file(self->fd, cmds[i], 0, closed)) {
			TH_LOG("command %#lx", cmds[i]);
		}
		EXPECT_ERRNO(EBADF, vring_file(self->fd, cmds[i], 0, -2)) {
			TH_LOG("command %#lx", cmds[i]);
		}
		EXPECT_ERRNO(EBADF, vring_file(self->fd, cmds[i], 0, 1000000)) {
			TH_LOG("command %#lx", cmds[i]);
		}
		EXPECT_ERRNO(EINVAL, vring_file(self->fd, cmds[i], 0, null)) {
			TH_LOG("command %#lx", cmds[i]);
		}
		EXPECT_ERRNO(EINVAL, vring_file(self->fd, cmds[i], 0, pipes[0])) {
			TH_LOG("command %#lx", cmds[i]);
		}
		EXPECT_ERRNO(EINVAL, vring_file(self->fd, cmds[i], 0, self->fd)) {
			TH_LOG("command %#lx", cmds[i]);
		}
		/* Once more, and then left behind at close. */
		EXPECT_OK(vring_file(self->fd, cmds[i], 0, VHOST_FILE_UNBIND));
		EXPECT_OK(vring_file(self->fd, cmds[i], 0, good));
	}
	close(good);
}

TEST_F(vring, eventfds_survive_their_descriptors)
{
	int i;

	for (i = 0; i < 100; i++) {
		int fd = eventfd(0, 0);

		ASSERT_LE(0, fd);
		ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_KICK, 0, fd));
		ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, fd));
		ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_ERR, 0, fd));
		close(fd);
	}
}

TEST_F(vring, enable)
{
	uint32_t q;

	for (q = 0; q < self->caps.nvqs; q++) {
		EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, q, 16));
		EXPECT_OK(vring_state(self->fd, VHOST_VDPA_SET_VRING_ENABLE, q, 0));
	}
}

TEST_F(vring, get_vring_size)
{
	int r = vring_get(self->fd, VHOST_VDPA_GET_VRING_SIZE, 0);

	ASSERT_EQ(0x82, _IOC_NR(VHOST_VDPA_GET_VRING_SIZE));
	if (r == -EOPNOTSUPP)
		SKIP(return, "the parent has no get_vq_size");
	EXPECT_LT(0, r);
	EXPECT_GE(self->caps.num_max, r);
}

TEST_F(vring, get_vring_group)
{
	uint32_t q;

	for (q = 0; q < self->caps.nvqs; q++) {
		int r = vring_get(self->fd, VHOST_VDPA_GET_VRING_GROUP, q);

		if (r == -EOPNOTSUPP)
			SKIP(return, "the parent has no get_vq_group");
		EXPECT_LE(0, r);
		EXPECT_GT(self->caps.ngroups, r);
	}
}

TEST_F(vring, get_desc_group)
{
	int r = vring_get(self->fd, VHOST_VDPA_GET_VRING_DESC_GROUP, 0);

	/* Present exactly where its backend feature is. */
	if (!(self->caps.backend & BACKEND(DESC_ASID))) {
		EXPECT_EQ(-EOPNOTSUPP, r);
	} else {
		EXPECT_LE(0, r);
		EXPECT_GT(self->caps.ngroups, r);
	}
}

TEST_F(vring, set_group_asid)
{
	uint32_t nas = self->caps.nas, ngroups = self->caps.ngroups, g;
	int have = vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID, 0, 0);

	if (have)
		ASSERT_EQ(-EOPNOTSUPP, have);
	for (g = 0; g < ngroups && g < self->caps.nvqs; g++) {
		EXPECT_EQ(have, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID,
					    g, nas - 1));
		EXPECT_EQ(have, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID,
					    g, 0));
	}
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID, 0, nas));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID, 0,
					 UINT32_MAX));
	/* The index is held against the queues first, then the groups. */
	if (ngroups < self->caps.nvqs)
		EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID,
						 ngroups, 0));
	EXPECT_ERRNO(ENOBUFS, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID,
					  self->caps.nvqs, 0));
	/* Not while the device runs; a bad argument is said first even then. */
	ASSERT_OK(negotiate(self->fd));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	EXPECT_ERRNO(EBUSY, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID, 0, 0));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID, 0, nas));
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_EQ(have, vring_state(self->fd, VHOST_VDPA_SET_GROUP_ASID, 0, 0));
}

TEST_F(vring, busyloop_timeout)
{
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, 0, 77));
	EXPECT_EQ(77, vring_get(self->fd, VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 0));
}

TEST_HARNESS_MAIN
