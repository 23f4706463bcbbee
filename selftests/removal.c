// SPDX-License-Identifier: GPL-2.0
/*
 * A device that goes away: `vdpa dev del` and unbinding, with the file closed
 * and with it open. The device is one of the test's own, made on MGMTDEV.
 *
 * With the file open the C driver waits for ever, so nothing of
 * that is tried on it.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>

#include "vdpa_test.h"
#include "call.h"
#include "mgmt.h"
#include "virtio.h"
#include "workers.h"

#define NAME		"selftest_rm"

FIXTURE(removal) {
	char node[NODE_LEN];
	int fd;
	struct nic nic;
	long system;
};

static int add_device(char *node)
{
	return mgmt_add(NAME, node);
}

static int del_device(void)
{
	return mgmt_del(NAME);
}

FIXTURE_SETUP(removal)
{
	self->fd = -1;
	if (!getenv("MGMTDEV"))
		SKIP(return, "no MGMTDEV to make a device on");
	self->system = pinned_system();
	ASSERT_OK(add_device(self->node));
}

FIXTURE_TEARDOWN(removal)
{
	if (self->fd >= 0)
		close(self->fd);
	mgmt_del_if_there(NAME);
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

/* The rest of the test sends frames. */
#define NEEDS_NIC() do {						\
	if (self->nic.caps.device_id != VIRTIO_ID_NET)			\
		SKIP(return, "not a network device");			\
} while (0)

TEST_F(removal, closed)
{
	int i;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, del_device());
		EXPECT_NE(0, access(self->node, F_OK));
		ASSERT_OK(add_device(self->node));
	}
}

TEST_F(removal, after_use)
{
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
	NEEDS_NIC();
	ASSERT_OK(nic_map(&self->nic));
	ASSERT_OK(nic_start(&self->nic, 0));
	ASSERT_OK(nic_echo(&self->nic, 4));
	CLOSE_NODE();
	EXPECT_EQ(0, del_device());
}

TEST_F(removal, with_the_file_open)
{
	C_WAITS();
	OPEN_NODE();
	EXPECT_EQ(0, del_device());
	EXPECT_OK(check_gone(self->fd));
	EXPECT_EQ(0, close(self->fd));
	self->fd = -1;
}

TEST_F(removal, with_memory_mapped)
{
	C_WAITS();
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
	ASSERT_OK(nic_map(&self->nic));
	EXPECT_EQ(0, del_device());
	/* Pins and maps are gone already, not only at close. */
	EXPECT_UNPINNED();
	EXPECT_OK(check_gone(self->fd));
}

TEST_F(removal, while_running)
{
	struct nic *nic = &self->nic;
	int err = eventfd(0, EFD_NONBLOCK), config = eventfd(0, EFD_NONBLOCK);
	uint16_t used;

	C_WAITS();
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(nic, self->fd));
	NEEDS_NIC();
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
	nic_send(nic, 1);
	usleep(50000);
	EXPECT_EQ(used, nic_used(&nic->q[TX]));
	EXPECT_OK(check_gone(self->fd));
}

TEST_F(removal, in_an_open_batch)
{
	C_WAITS();
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

TEST_F(removal, under_load)
{
	struct nic *nic = &self->nic;
	int i;

	C_WAITS();
	for (i = 0; i < 5; i++) {
		struct kicker k = { .nic = nic };
		pthread_t thread;

		OPEN_NODE();
		ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
		ASSERT_OK(nic_init(nic, self->fd));
		NEEDS_NIC();
		ASSERT_OK(nic_map(nic));
		ASSERT_OK(nic_start(nic, 0));
		nic_post_frames(nic, 32);
		ASSERT_EQ(0, pthread_create(&thread, NULL, kick_on, &k));
		EXPECT_EQ(0, del_device());
		__atomic_store_n(&k.stop, true, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		EXPECT_OK(check_gone(self->fd));
		CLOSE_NODE();
		ASSERT_OK(add_device(self->node));
	}
}

TEST_F(removal, beside_everything)
{
	char *mem = shared_pages(WORKER_MEM);
	int i;

	C_WAITS();
	ASSERT_NE(NULL, mem);
	for (i = 0; i < 10; i++) {
		struct worker w[WORKERS];
		struct vdpa_caps caps;

		OPEN_NODE();
		ASSERT_OK(vdpa_get_caps(self->fd, &caps));
		ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
		ASSERT_EQ(0, workers_start(w, self->fd, &caps, mem, true));
		usleep(20000 * i);
		EXPECT_EQ(0, del_device());
		EXPECT_EQ(0, workers_stop(w));
		EXPECT_EQ(0, pinned_self());
		EXPECT_OK(check_gone(self->fd));
		CLOSE_NODE();
		ASSERT_OK(add_device(self->node));
	}
}

TEST_F(removal, successor_is_another_device)
{
	int second;

	C_WAITS();
	OPEN_NODE();
	ASSERT_EQ(0, del_device());
	/* A device of the same name is another one. */
	ASSERT_OK(add_device(self->node));
	second = node_open(self->node);
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
	EXPECT_EQ(0, mgmt_unbind(NAME));
	EXPECT_NE(0, access(self->node, F_OK));
	ASSERT_OK(mgmt_bind(NAME, self->node));
	OPEN_NODE();
	EXPECT_EQ(0, get_status(self->fd));
}

TEST_F(removal, unbind_while_open)
{
	int second;

	C_WAITS();
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
	ASSERT_OK(nic_map(&self->nic));
	EXPECT_EQ(0, mgmt_unbind(NAME));
	EXPECT_EQ(0, pinned_self());
	EXPECT_OK(check_gone(self->fd));
	ASSERT_OK(mgmt_bind(NAME, self->node));
	/* The old file does not hold the device busy. */
	second = node_open(self->node);
	EXPECT_LE(0, second);
	close(second);
}

/* Memory whose first access waits until we say so. */
static char *stuck_page(int *uffd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	reg.range.start = (uintptr_t)p;
	reg.range.len = PAGE;
	if (p == MAP_FAILED || *uffd < 0 || ioctl(*uffd, UFFDIO_API, &api) ||
	    ioctl(*uffd, UFFDIO_REGISTER, &reg))
		return NULL;
	return p;
}

static int release_page(int uffd, char *p)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (uintptr_t)p, .len = PAGE },
	};

	return ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
}

/* Calls that wait for the page of their argument. */
static int call_message(struct call *c)
{
	return iotlb_write(c->fd, c->arg, sizeof(struct vhost_msg_v2));
}

static int call_update(struct call *c)
{
	return iotlb_map(c->fd, 0x10000000, PAGE, c->arg);
}

/*
 * An owner that never answers a page fault, in the middle of each kind of call:
 * removal waits for none of them.
 */
FIXTURE(stuck) {
	char node[NODE_LEN];
	int fd;
	int uffd;
	char *page;
	long system;
	struct call call;
};

FIXTURE_VARIANT(stuck) {
	int (*fn)(struct call *c);
	unsigned long cmd;
};

FIXTURE_VARIANT_ADD(stuck, message) {
	.fn = call_message,
};

FIXTURE_VARIANT_ADD(stuck, update) {
	.fn = call_update,
};

FIXTURE_VARIANT_ADD(stuck, get_config) {
	.cmd = VHOST_VDPA_GET_CONFIG,
};

FIXTURE_VARIANT_ADD(stuck, get_features) {
	.cmd = VHOST_GET_FEATURES,
};

FIXTURE_VARIANT_ADD(stuck, set_status) {
	.cmd = VHOST_VDPA_SET_STATUS,
};

FIXTURE_VARIANT_ADD(stuck, set_backend_features) {
	.cmd = VHOST_SET_BACKEND_FEATURES,
};

FIXTURE_VARIANT_ADD(stuck, set_vring_addr) {
	.cmd = VHOST_SET_VRING_ADDR,
};

FIXTURE_VARIANT_ADD(stuck, set_vring_kick) {
	.cmd = VHOST_SET_VRING_KICK,
};

FIXTURE_VARIANT_ADD(stuck, set_vring_call) {
	.cmd = VHOST_SET_VRING_CALL,
};

FIXTURE_VARIANT_ADD(stuck, set_mem_table) {
	.cmd = VHOST_SET_MEM_TABLE,
};

FIXTURE_SETUP(stuck)
{
	struct pollfd p = { .events = POLLIN };
	int i;

	self->fd = -1;
	C_WAITS();
	if (!getenv("MGMTDEV"))
		SKIP(return, "no MGMTDEV to make a device on");
	self->page = stuck_page(&self->uffd);
	if (!self->page)
		SKIP(return, "no userfaultfd");
	self->system = pinned_system();
	ASSERT_OK(add_device(self->node));
	OPEN_NODE();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	self->call.fn = variant->fn ?: call_ioctl;
	self->call.fd = self->fd;
	self->call.cmd = variant->cmd;
	self->call.arg = self->page;
	ASSERT_EQ(0, call_start(&self->call));
	/* It waits, or has been refused: an UPDATE need not sleep for a fault. */
	p.fd = self->uffd;
	for (i = 0; i < 50 && !poll(&p, 1, 100); i++)
		if (call_done(&self->call))
			break;
	ASSERT_GT(50, i);
	if (variant->fn != call_update)
		ASSERT_FALSE(call_done(&self->call));
}

FIXTURE_TEARDOWN(stuck)
{
	if (self->fd < 0)
		return;
	release_page(self->uffd, self->page);
	pthread_join(self->call.thread, NULL);
	close(self->fd);
	mgmt_del_if_there(NAME);
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

TEST_F(stuck, removal_does_not_wait)
{
	EXPECT_EQ(0, del_device());
	if (variant->fn != call_update)
		EXPECT_FALSE(call_done(&self->call));
	EXPECT_OK(check_gone(self->fd));
	/* It goes on without harm; what it learned before the removal it may tell. */
	ASSERT_EQ(0, release_page(self->uffd, self->page));
	pthread_join(self->call.thread, NULL);
	EXPECT_GE(0, self->call.result);
	EXPECT_EQ(0, pinned_self());
	EXPECT_OK(check_gone(self->fd));
	CLOSE_NODE();
}

TEST_F(stuck, close_is_not_needed)
{
	/* A device of the same name can be made, used and removed meanwhile. */
	char node[NODE_LEN];
	int second;

	EXPECT_EQ(0, del_device());
	ASSERT_OK(add_device(node));
	second = node_open(node);
	EXPECT_LE(0, second);
	EXPECT_EQ(0, get_status(second));
	close(second);
	EXPECT_EQ(0, del_device());
}

TEST_HARNESS_MAIN
