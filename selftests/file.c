// SPDX-License-Identifier: GPL-2.0
/*
 * The character device as a file: open, ownership, fork and exec, permission
 * bits, read and mmap.
 */
#include "vdpa_test.h"

FIXTURE(file) {
	int fd;
	struct vdpa_caps caps;
};

FIXTURE_SETUP(file)
{
	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
}

FIXTURE_TEARDOWN(file)
{
	close(self->fd);
}

TEST_F(file, second_open_is_ebusy)
{
	EXPECT_ERRNO(EBUSY, vdpa_open());
	EXPECT_ERRNO(EBUSY, vdpa_open_flags(O_RDONLY));
}

TEST_F(file, reopen_after_close)
{
	int i;

	for (i = 0; i < 20; i++) {
		REOPEN();
	}
}

TEST_F(file, dup_keeps_the_device_open)
{
	int copy = dup(self->fd);

	ASSERT_LE(0, copy);
	ASSERT_EQ(0, close(self->fd));
	EXPECT_ERRNO(EBUSY, vdpa_open());
	ASSERT_EQ(0, close(copy));
	self->fd = vdpa_open();
	ASSERT_LE(0, self->fd);
}

TEST_F(file, close_resets_the_device)
{
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(negotiate(self->fd));
	ASSERT_EQ(STATUS_FEATURES, get_status(self->fd));
	REOPEN();
	EXPECT_EQ(0, get_status(self->fd));
	/* And nobody owns it. */
	EXPECT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
}

TEST_F(file, set_owner_twice_is_ebusy)
{
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	EXPECT_ERRNO(EBUSY, vioctl(self->fd, VHOST_SET_OWNER, NULL));
}

TEST_F(file, vring_ioctls_need_an_owner)
{
	static const unsigned long cmds[] = {
		VHOST_SET_VRING_NUM, VHOST_SET_VRING_ADDR,
		VHOST_SET_VRING_BASE, VHOST_GET_VRING_BASE,
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL,
		VHOST_SET_VRING_ERR, VHOST_VDPA_SET_VRING_ENABLE,
		VHOST_VDPA_GET_VRING_GROUP, VHOST_VDPA_GET_VRING_DESC_GROUP,
		VHOST_VDPA_SET_GROUP_ASID, VHOST_VDPA_GET_VRING_SIZE,
		VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
		VHOST_GET_VRING_BUSYLOOP_TIMEOUT,
		VHOST_SET_MEM_TABLE, VHOST_RESET_OWNER,
	};
	char buf[64] = {};
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		EXPECT_ERRNO(EPERM, vioctl(self->fd, cmds[i], buf)) {
			TH_LOG("command %#lx", cmds[i]);
		}
		/* Ownership is checked before the argument is looked at. */
		EXPECT_ERRNO(EPERM, vioctl(self->fd, cmds[i], BAD_PTR)) {
			TH_LOG("command %#lx", cmds[i]);
		}
	}
}

TEST_F(file, device_ioctls_need_no_owner)
{
	struct vdpa_caps caps;

	ASSERT_OK(vdpa_get_caps(self->fd, &caps));
	EXPECT_OK(set_status(self->fd, STATUS_ACK));
	EXPECT_EQ(STATUS_ACK, get_status(self->fd));
	EXPECT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2)));
	EXPECT_OK(set_status(self->fd, 0));
}

TEST_F(file, messages_need_an_owner)
{
	void *p = shared_pages(PAGE);

	ASSERT_NE(NULL, p);
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->caps.iova, PAGE, p));
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, 0, 0));
	EXPECT_ERRNO(EFAULT, iotlb_batch(self->fd, 0, true));
}

TEST_F(file, unknown_ioctl)
{
	static const unsigned long cmds[] = {
		_IO(VHOST_VIRTIO, 0x6f), _IOW(VHOST_VIRTIO, 0xf0, uint64_t),
		_IO('x', 1), VHOST_RESET_OWNER, VHOST_NEW_WORKER,
		VHOST_FREE_WORKER, VHOST_ATTACH_VRING_WORKER,
		VHOST_GET_VRING_WORKER, VHOST_GET_VRING_ENDIAN,
		VHOST_SET_VRING_ENDIAN, VHOST_NET_SET_BACKEND,
		VHOST_GET_FEATURES_ARRAY, VHOST_SET_FEATURES_ARRAY,
		VHOST_SET_LOG_BASE, VHOST_SET_LOG_FD,
	};
	uint64_t arg[16] = {};
	int i;

	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	for (i = 0; i < ARRAY_SIZE(cmds); i++)
		EXPECT_ERRNO(ENOTTY, vioctl(self->fd, cmds[i], arg)) {
			TH_LOG("command %#lx", cmds[i]);
		}
	/* What is unknown counts as a vring command: its index comes first. */
	EXPECT_ERRNO(EFAULT, vioctl(self->fd, _IO(VHOST_VIRTIO, 0x6f), NULL));
	arg[0] = self->caps.nvqs;
	EXPECT_ERRNO(ENOBUFS, vioctl(self->fd, _IO(VHOST_VIRTIO, 0x6f), arg));
}

TEST_F(file, log_ioctls_are_refused_first)
{
	/* Not even an owner is asked for. */
	EXPECT_ERRNO(ENOTTY, vioctl(self->fd, VHOST_SET_LOG_BASE, BAD_PTR));
	EXPECT_ERRNO(ENOTTY, vioctl(self->fd, VHOST_SET_LOG_FD, BAD_PTR));
}

TEST_F(file, mem_table)
{
	struct vhost_memory m = {};

	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	EXPECT_ERRNO(EFAULT, vioctl(self->fd, VHOST_SET_MEM_TABLE, BAD_PTR));
	EXPECT_OK(vioctl(self->fd, VHOST_SET_MEM_TABLE, &m));
	m.padding = 1;
	EXPECT_ERRNO(EOPNOTSUPP, vioctl(self->fd, VHOST_SET_MEM_TABLE, &m));
	m.padding = 0;
	m.nregions = 1U << 31;
	EXPECT_ERRNO(E2BIG, vioctl(self->fd, VHOST_SET_MEM_TABLE, &m));
}

TEST_F(file, fork_owner)
{
	uint8_t mode = 7;
	int r = vioctl(self->fd, VHOST_GET_FORK_FROM_OWNER, &mode);

	if (r == -EPERM)
		SKIP(return, "a kernel without VHOST_ENABLE_FORK_OWNER_CONTROL");
	ASSERT_OK(r);
	EXPECT_GE(VHOST_FORK_OWNER_TASK, mode);
	EXPECT_ERRNO(EFAULT, vioctl(self->fd, VHOST_GET_FORK_FROM_OWNER, BAD_PTR));
	EXPECT_ERRNO(EFAULT, vioctl(self->fd, VHOST_SET_FORK_FROM_OWNER, BAD_PTR));
	mode = 2;
	EXPECT_ERRNO(EINVAL, vioctl(self->fd, VHOST_SET_FORK_FROM_OWNER, &mode));
	mode = VHOST_FORK_OWNER_KTHREAD;
	EXPECT_OK(vioctl(self->fd, VHOST_SET_FORK_FROM_OWNER, &mode));
	mode = 7;
	EXPECT_OK(vioctl(self->fd, VHOST_GET_FORK_FROM_OWNER, &mode));
	EXPECT_EQ(VHOST_FORK_OWNER_KTHREAD, mode);
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	EXPECT_ERRNO(EBUSY, vioctl(self->fd, VHOST_SET_FORK_FROM_OWNER, &mode));
}

/* In another address space: 0 if all is as it should be, else a line number. */
static int check_not_owner(int fd)
{
	struct vdpa_caps caps;
	void *p = shared_pages(PAGE);

	if (vdpa_get_caps(fd, &caps))
		return __LINE__;
	if (vioctl(fd, VHOST_SET_OWNER, NULL) != -EBUSY)
		return __LINE__;
	if (vring_state(fd, VHOST_SET_VRING_NUM, 0, 16) != -EPERM)
		return __LINE__;
	if (vring_get(fd, VHOST_GET_VRING_BASE, 0) != -EPERM)
		return __LINE__;
	if (iotlb_map(fd, caps.iova, PAGE, p) != -EFAULT)
		return __LINE__;
	if (iotlb_unmap(fd, 0, 0) != -EFAULT)
		return __LINE__;
	/* The device as a whole is not the owner's alone. */
	if (get_status(fd) < 0)
		return __LINE__;
	return 0;
}

TEST_F(file, forked_child_is_not_the_owner)
{
	int status;
	pid_t pid;

	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int line = check_not_owner(self->fd);

		if (line)
			fprintf(stderr, "# %s:%d: failed in the child\n",
				__FILE__, line);
		_exit(!!line);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	/* The parent still is. */
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 16));
}

TEST_F(file, child_keeps_the_device_open)
{
	int status, ends[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ends));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(ends[1]);
		_exit(read(ends[0], &c, 1) != 0);
	}
	ASSERT_EQ(0, close(self->fd));
	EXPECT_ERRNO(EBUSY, vdpa_open());
	close(ends[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	self->fd = vdpa_open();
	ASSERT_LE(0, self->fd);
}

TEST_F(file, exec_loses_ownership)
{
	int status;
	pid_t pid;

	/* The child owns the device, then becomes another program. */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char fd[16];

		if (vioctl(self->fd, VHOST_SET_OWNER, NULL))
			_exit(1);
		snprintf(fd, sizeof(fd), "%d", self->fd);
		setenv("VDPA_TEST_EXEC_FD", fd, 1);
		fcntl(self->fd, F_SETFD, 0);
		execl("/proc/self/exe", "file", NULL);
		_exit(2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	/* The owner is gone, the file is not: nobody else can take its place. */
	EXPECT_ERRNO(EBUSY, vioctl(self->fd, VHOST_SET_OWNER, NULL));
}

TEST_F(file, read_only_file)
{
	void *p = shared_pages(PAGE);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, close(self->fd));
	self->fd = vdpa_open_flags(O_RDONLY);
	ASSERT_LE(0, self->fd);
	/* Permission bits guard messages and mmap, not ioctls. */
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 16));
	EXPECT_ERRNO(EBADF, iotlb_map(self->fd, self->caps.iova, PAGE, p));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(file, read_is_refused)
{
	char buf[128];

	EXPECT_EQ(-1, read(self->fd, buf, sizeof(buf)));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(file, poll_is_always_ready)
{
	struct pollfd p = { .fd = self->fd, .events = POLLIN | POLLOUT };

	EXPECT_EQ(1, poll(&p, 1, 0));
	EXPECT_EQ(POLLIN | POLLOUT, p.revents);
}

static int doorbell(int fd, size_t len, int prot, int flags, off_t page)
{
	void *p = mmap(NULL, len, prot, flags, fd, page * PAGE);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, len);
	return 0;
}

TEST_F(file, doorbell_arguments)
{
	/* Readable, longer than a page, private: whatever the parent has. */
	EXPECT_ERRNO(EINVAL, doorbell(self->fd, PAGE, PROT_READ, MAP_SHARED, 0));
	EXPECT_ERRNO(EINVAL, doorbell(self->fd, PAGE, PROT_READ | PROT_WRITE,
				      MAP_SHARED, 0));
	EXPECT_ERRNO(EINVAL, doorbell(self->fd, 2 * PAGE, PROT_WRITE,
				      MAP_SHARED, 0));
	EXPECT_ERRNO(EINVAL, doorbell(self->fd, PAGE, PROT_WRITE, MAP_PRIVATE, 0));
}

TEST_F(file, doorbell_index)
{
	int first = doorbell(self->fd, PAGE, PROT_WRITE, MAP_SHARED, 0);
	/* Without doorbells the index is never looked at. */
	int want = first == -ENOTSUPP ? -ENOTSUPP : -EINVAL;

	if (first)
		EXPECT_EQ(-ENOTSUPP, first);
	EXPECT_EQ(want, doorbell(self->fd, PAGE, PROT_WRITE, MAP_SHARED,
				 self->caps.nvqs));
	EXPECT_EQ(want, doorbell(self->fd, PAGE, PROT_WRITE, MAP_SHARED, 65535));
	EXPECT_EQ(want, doorbell(self->fd, PAGE, PROT_WRITE, MAP_SHARED, 65536));
	EXPECT_EQ(want, doorbell(self->fd, PAGE, PROT_WRITE, MAP_SHARED,
				 0x7fffffffffL));
}

int main(int argc, char **argv)
{
	const char *fd = getenv("VDPA_TEST_EXEC_FD");

	if (fd) {
		int line = check_not_owner(atoi(fd));

		if (line)
			fprintf(stderr, "# %s:%d: failed after exec\n",
				__FILE__, line);
		return !!line;
	}
	return test_harness_run(argc, argv);
}
