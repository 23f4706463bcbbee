// SPDX-License-Identifier: GPL-2.0
/*
 * A device that goes away: `vdpa dev del` and unbinding, with the file closed
 * and with it open. The device is one of the test's own, made on MGMTDEV.
 *
 * With the file open the C driver waits for ever (item 5.11), so nothing of
 * that is tried on it.
 */
#include <pthread.h>

#include "virtio.h"

#define NAME		"selftest_rm"
#define PROMPT_MS	5000	/* how long a removal may take */

FIXTURE(removal) {
	char node[64];
	int fd;
	struct nic nic;
	long system;
};

static int run(const char *fmt, const char *arg)
{
	char cmd[256];
	int r;

	snprintf(cmd, sizeof(cmd), fmt, arg);
	r = system(cmd);
	return WIFEXITED(r) ? WEXITSTATUS(r) : -1;
}

/* The node of our device once it is there: 0 or -ENOENT. */
static int find_node(char *node, size_t len)
{
	int i;

	for (i = 0; i < 100; i++) {
		glob_t g;
		int found = 0;

		if (!glob("/sys/bus/vdpa/devices/" NAME "/vhost-vdpa-*", 0,
			  NULL, &g)) {
			snprintf(node, len, "/dev/%s",
				 strrchr(g.gl_pathv[0], '/') + 1);
			found = !access(node, F_OK);
			globfree(&g);
		}
		if (found)
			return 0;
		usleep(100000);
	}
	return -ENOENT;
}

static int add_device(char *node, size_t len)
{
	int r = run("vdpa dev add name " NAME " mgmtdev %s", getenv("MGMTDEV"));

	return r ? -EIO : find_node(node, len);
}

/* Run a removal beside us: its exit status, or -ETIMEDOUT. */
static int in_time(const char *cmd)
{
	struct pollfd p = { .events = POLLIN };
	pid_t pid = fork();
	int status;

	if (!pid) {
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	p.fd = syscall(SYS_pidfd_open, pid, 0);
	if (poll(&p, 1, PROMPT_MS) != 1)
		return -ETIMEDOUT;
	close(p.fd);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int del_device(void)
{
	return in_time("vdpa dev del " NAME);
}

FIXTURE_SETUP(removal)
{
	self->fd = -1;
	if (!getenv("MGMTDEV"))
		SKIP(return, "no MGMTDEV to make a device on");
	self->system = pinned_system();
	ASSERT_OK(add_device(self->node, sizeof(self->node)));
}

FIXTURE_TEARDOWN(removal)
{
	if (self->fd >= 0)
		close(self->fd);
	run("vdpa dev show %s >/dev/null 2>&1 && vdpa dev del " NAME, NAME);
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

#define NOT_ON_C() do {							\
	if (on_c_driver())						\
		SKIP(return, "C waits for ever: item 5.11");		\
} while (0)

#define OPEN_NODE() do {						\
	self->fd = open(self->node, O_RDWR | O_CLOEXEC);		\
	ASSERT_LE(0, self->fd);						\
} while (0)

TEST_F(removal, closed)
{
	int i;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, del_device());
		EXPECT_NE(0, access(self->node, F_OK));
		ASSERT_OK(add_device(self->node, sizeof(self->node)));
	}
}

TEST_F(removal, after_use)
{
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
	ASSERT_OK(nic_map(&self->nic));
	ASSERT_OK(nic_start(&self->nic, 0));
	ASSERT_OK(nic_echo(&self->nic, 4));
	ASSERT_EQ(0, close(self->fd));
	self->fd = -1;
	EXPECT_EQ(0, del_device());
}

/* Everything that can be asked of a file whose device is gone. */
static int check_gone(int fd)
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
	if (mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED ||
	    errno != ENODEV)
		return -__LINE__;
	return 0;
}

TEST_F(removal, h05_11_open)
{
	NOT_ON_C();
	OPEN_NODE();
	EXPECT_EQ(0, del_device());
	EXPECT_OK(check_gone(self->fd));
	EXPECT_EQ(0, close(self->fd));
	self->fd = -1;
}

TEST_F(removal, h05_11_mapped)
{
	NOT_ON_C();
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
	ASSERT_OK(nic_map(&self->nic));
	EXPECT_EQ(0, del_device());
	/* Pins and maps are gone already, not only at close. */
	EXPECT_EQ(0, pinned_self());
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
	EXPECT_OK(check_gone(self->fd));
}

TEST_F(removal, h05_11_running)
{
	struct nic *nic = &self->nic;
	int err = eventfd(0, EFD_NONBLOCK), config = eventfd(0, EFD_NONBLOCK);
	uint16_t used;

	NOT_ON_C();
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(nic, self->fd));
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_ERR, TX, err));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &config));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 4));
	EXPECT_EQ(0, del_device());
	EXPECT_EQ(0, pinned_self());
	/* Whoever polls learns of it. */
	EXPECT_LT(0, drain(err));
	EXPECT_LT(0, drain(config));
	/* A kick goes nowhere. */
	used = nic_used(&nic->q[TX]);
	nic_post_rx(nic);
	nic_post_tx(nic);
	nic_kick(&nic->q[TX]);
	usleep(50000);
	EXPECT_EQ(used, nic_used(&nic->q[TX]));
	EXPECT_OK(check_gone(self->fd));
}

TEST_F(removal, h05_11_batch)
{
	NOT_ON_C();
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(nic_map(&self->nic));
	EXPECT_EQ(0, del_device());
	EXPECT_EQ(0, pinned_self());
	EXPECT_OK(check_gone(self->fd));
}

struct kicker {
	struct nic *nic;
	bool stop;
};

static void *kick_on(void *arg)
{
	struct kicker *k = arg;

	while (!__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE)) {
		get_status(k->nic->fd);
		nic_kick(&k->nic->q[TX]);
	}
	return NULL;
}

TEST_F(removal, h05_11_under_load)
{
	struct nic *nic = &self->nic;
	int i;

	NOT_ON_C();
	for (i = 0; i < 5; i++) {
		struct kicker k = { .nic = nic };
		pthread_t thread;
		int n;

		OPEN_NODE();
		ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
		ASSERT_OK(nic_init(nic, self->fd));
		ASSERT_OK(nic_map(nic));
		ASSERT_OK(nic_start(nic, 0));
		for (n = 0; n < 32; n++)
			nic_post_rx(nic);
		for (n = 0; n < 32; n++)
			nic_post_tx(nic);
		ASSERT_EQ(0, pthread_create(&thread, NULL, kick_on, &k));
		EXPECT_EQ(0, del_device());
		__atomic_store_n(&k.stop, true, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		EXPECT_OK(check_gone(self->fd));
		ASSERT_EQ(0, close(self->fd));
		self->fd = -1;
		ASSERT_OK(add_device(self->node, sizeof(self->node)));
	}
}

TEST_F(removal, h05_11_successor)
{
	int second;

	NOT_ON_C();
	OPEN_NODE();
	ASSERT_EQ(0, del_device());
	/* A device of the same name is another one. */
	ASSERT_OK(add_device(self->node, sizeof(self->node)));
	second = open(self->node, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, second);
	EXPECT_OK(set_status(second, STATUS_ACK));
	EXPECT_OK(check_gone(self->fd));
	EXPECT_EQ(0, close(self->fd));
	self->fd = -1;
	EXPECT_EQ(STATUS_ACK, get_status(second));
	close(second);
}

TEST_F(removal, unbind_and_bind)
{
	EXPECT_EQ(0, in_time("echo " NAME " >/sys/bus/vdpa/drivers/vhost_vdpa/unbind"));
	EXPECT_NE(0, access(self->node, F_OK));
	EXPECT_EQ(0, in_time("echo " NAME " >/sys/bus/vdpa/drivers/vhost_vdpa/bind"));
	ASSERT_OK(find_node(self->node, sizeof(self->node)));
	OPEN_NODE();
	EXPECT_EQ(0, get_status(self->fd));
}

TEST_F(removal, h05_11_unbind_while_open)
{
	int second;

	NOT_ON_C();
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
	ASSERT_OK(nic_map(&self->nic));
	EXPECT_EQ(0, in_time("echo " NAME " >/sys/bus/vdpa/drivers/vhost_vdpa/unbind"));
	EXPECT_EQ(0, pinned_self());
	EXPECT_OK(check_gone(self->fd));
	EXPECT_EQ(0, in_time("echo " NAME " >/sys/bus/vdpa/drivers/vhost_vdpa/bind"));
	ASSERT_OK(find_node(self->node, sizeof(self->node)));
	/* The old file does not hold the device busy. */
	second = open(self->node, O_RDWR | O_CLOEXEC);
	EXPECT_LE(0, second);
	close(second);
}

TEST_HARNESS_MAIN
