// SPDX-License-Identifier: GPL-2.0
/*
 * The knobs that our simulators have in debugfs: the call that is to fail fails,
 * once; what is above the simulator notices, and goes on when the call works again.
 *
 * MGMTDEV says whose devices to make, NICs or disks.
 */
#include <endian.h>
#include <linux/if_ether.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <time.h>

#include "mgmt.h"
#include "queue.h"

#define NAME		"selftest_k"
#define SIZE		512
#define OUT		(2 * VQ_AREA)		/* offsets in the memory */
#define IN		(OUT + PAGE)
#define MEM		(IN + PAGE)
#define EXTRA		0x20000000UL		/* where single pages are mapped */
#define UNTOUCHED	0x5e
#define WAIT_MS		60000
#define QUIET_US	50000

FIXTURE(sim_faults) {
	char node[NODE_LEN];
	char dir[96];
	bool disk;
	bool whole_tables;	/* set_map, not dma_map */
	bool use_va;
	struct vdpa_caps caps;
	int fd;
	int nq;
	struct vq q[2];		/* a NIC receives on the first; a disk has one */
	char *mem;
	char *page;
	long system;
};

static bool parameter(const char *module, const char *name)
{
	char path[128], c = 0;
	int fd;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, &c, 1) != 1)
		c = 0;
	close(fd);
	return c == 'Y' || c == '1';
}

static int set_knob(const char *dir, const char *name, const char *value)
{
	char path[160];
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	r = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static long get_knob(const char *dir, const char *name)
{
	char path[160], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	if (read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = '?';
	close(fd);
	return text[0] >= '0' && text[0] <= '9' ? atol(text) : -EBADMSG;
}

/* How many maps address space 0 has; where one begins at iova, *found says so. */
static int maps_of(const char *dir, uint64_t iova, bool *found)
{
	unsigned long long start;
	char path[160], line[128];
	unsigned int asid;
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/maps", dir);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	*found = false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%u %llx", &asid, &start) != 2 || asid)
			continue;
		n++;
		*found |= start == iova;
	}
	fclose(f);
	return n;
}

#define FAIL(name, n)		set_knob(self->dir, "fail_" name, n)
#define LEFT(name)		get_knob(self->dir, "fail_" name)
/* The ops with which maps come and go. */
#define MAP_OP			(self->whole_tables ? "fail_set_map" : "fail_dma_map")
#define UNMAP_OP		(self->whole_tables ? "fail_set_map" : "fail_dma_unmap")

#define IS_MAPPED(iova) ({						\
	bool found_ = false;						\
	EXPECT_LE(0, maps_of(self->dir, iova, &found_));		\
	found_;								\
})

static int owned(const char *node)
{
	int fd = open(node, O_RDWR | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = vioctl(fd, VHOST_SET_OWNER, NULL);
	return r ?: fd;
}

FIXTURE_SETUP(sim_faults)
{
	const char *parent = getenv("MGMTDEV");
	const char *module;
	int i;

	self->fd = -1;
	if (!parent || strncmp(parent, "rust_vdpasim_", 13))
		SKIP(return, "no simulator of ours: it has no knobs");
	/* It does not hear of all errors: see deviations. */
	NOT_TRIED_ON_C("item 5.4");
	self->disk = strstr(parent, "blk");
	module = self->disk ? "rust_vdpa_sim_blk" : "rust_vdpa_sim_net";
	snprintf(self->dir, sizeof(self->dir), "/sys/kernel/debug/%s/%s", module, NAME);
	self->whole_tables = parameter(module, "batch_mapping");
	self->use_va = parameter(module, "use_va");
	mgmt_del_if_there(NAME);
	ASSERT_OK(mgmt_add(NAME, self->node));
	if (access(self->dir, F_OK))
		SKIP(return, "no debugfs");
	self->system = pinned_system();
	self->nq = self->disk ? 1 : 2;
	for (i = 0; i < self->nq; i++) {
		self->q[i].kick = eventfd(0, EFD_NONBLOCK);
		self->q[i].call = eventfd(0, EFD_NONBLOCK);
	}
	self->mem = shared_pages(MEM);
	self->page = shared_pages(PAGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_NE(NULL, self->page);
	self->fd = owned(self->node);
	ASSERT_LE(0, self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
}

FIXTURE_TEARDOWN(sim_faults)
{
	if (self->fd >= 0)
		close(self->fd);
	mgmt_del_if_there(NAME);
	EXPECT_EQ(0, pinned_self());
	if (self->mem)
		EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

/* From reset to a running device without requests. */
static int start(int fd, struct vq *q, int nq, char *mem, uint64_t iova)
{
	int i, r = negotiate(fd);

	for (i = 0; i < nq && !r; i++) {
		vq_init(&q[i], false, 16, mem + i * VQ_AREA, iova + i * VQ_AREA);
		r = vq_set_up(&q[i], fd, i, 0);
	}
	return r ?: set_status(fd, STATUS_RUNNING);
}

/* Something to do: for a NIC a frame that comes back, for a disk a sector to be read. */
static void post(struct vq *q, int nq, char *mem, uint64_t iova)
{
	memset(mem + OUT, 0, PAGE);
	memset(mem + IN, UNTOUCHED, PAGE);
	if (nq == 1) {
		struct virtio_blk_outhdr header = { .type = htole32(VIRTIO_BLK_T_IN) };

		memcpy(mem + OUT, &header, sizeof(header));
		vq_post_chain(q, (struct vq_seg[]){
			{ iova + OUT, sizeof(header), false },
			{ iova + IN, SIZE + 1, true },
		}, 2);
	} else {
		memset(mem + OUT + sizeof(struct virtio_net_hdr_v1), 0xff, ETH_ALEN);
		vq_post(&q[0], iova + IN, PAGE, true);
		vq_post(&q[1], iova + OUT, sizeof(struct virtio_net_hdr_v1) + 64, false);
	}
	signal_eventfd(q[nq - 1].kick);
}

/* Whether it was done, so far. */
static bool is_done(struct vq *q, char *mem)
{
	uint32_t len;

	return vq_take(&q[0], &len) >= 0 && mem[IN] != UNTOUCHED;
}

/* Wait for it: 0 or -ETIMEDOUT. */
static int done(struct vq *q, int nq, char *mem)
{
	uint32_t len;
	int i;

	for (i = 0; !is_done(q, mem); i++) {
		if (i == WAIT_MS)
			return -ETIMEDOUT;
		usleep(1000);
	}
	/* The other half of an echo. */
	for (i = 0; nq > 1 && vq_take(&q[1], &len) < 0; i++) {
		if (i == WAIT_MS)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

#define MAP_ALL()	iotlb_map(self->fd, self->caps.iova, MEM, self->mem)
#define START()		start(self->fd, self->q, self->nq, self->mem, self->caps.iova)
#define POST()		post(self->q, self->nq, self->mem, self->caps.iova)
#define DONE()		done(self->q, self->nq, self->mem)
#define MAP_PAGE(at)	iotlb_map(self->fd, at, PAGE, self->page)

TEST_F(sim_faults, knobs)
{
	static const char *const knobs[] = {
		"fail_set_map", "fail_dma_map", "fail_dma_unmap", "fail_reset_map",
		"fail_reset", "fail_suspend", "fail_resume", "delay_completions_us",
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++) {
		EXPECT_EQ(0, get_knob(self->dir, knobs[i]));
		EXPECT_OK(set_knob(self->dir, knobs[i], "4294967295"));
		EXPECT_EQ(4294967295, get_knob(self->dir, knobs[i]));
		EXPECT_ERRNO(EINVAL, set_knob(self->dir, knobs[i], "many"));
		EXPECT_EQ(4294967295, get_knob(self->dir, knobs[i]));
		EXPECT_OK(set_knob(self->dir, knobs[i], "0"));
		EXPECT_EQ(0, get_knob(self->dir, knobs[i]));
	}
}

TEST_F(sim_faults, reset_on_open)
{
	ASSERT_OK(close(self->fd));
	ASSERT_OK(FAIL("reset", "1"));
	self->fd = owned(self->node);
	EXPECT_EQ(-EIO, self->fd);
	EXPECT_EQ(0, LEFT("reset"));
	self->fd = owned(self->node);
	ASSERT_LE(0, self->fd);
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	POST();
	EXPECT_OK(DONE());
}

/* Who opens a device is to reach nothing: where that cannot be had, it is not opened. */
TEST_F(sim_faults, maps_on_open)
{
	ASSERT_OK(close(self->fd));
	ASSERT_OK(set_knob(self->dir, UNMAP_OP, "1"));
	self->fd = owned(self->node);
	EXPECT_EQ(-EIO, self->fd);
	EXPECT_EQ(0, get_knob(self->dir, UNMAP_OP));
	self->fd = owned(self->node);
	ASSERT_LE(0, self->fd);
	EXPECT_FALSE(IS_MAPPED(0));
}

TEST_F(sim_faults, nth_map)
{
	ASSERT_OK(set_knob(self->dir, MAP_OP, "2"));
	ASSERT_OK(MAP_PAGE(EXTRA));
	EXPECT_EQ(1, get_knob(self->dir, MAP_OP));
	EXPECT_ERRNO(EFAULT, MAP_PAGE(EXTRA + 2 * PAGE));
	EXPECT_EQ(0, get_knob(self->dir, MAP_OP));
	EXPECT_TRUE(IS_MAPPED(EXTRA));
	EXPECT_FALSE(IS_MAPPED(EXTRA + 2 * PAGE));
	EXPECT_EQ(self->use_va ? 0 : 1, pinned_self());
	ASSERT_OK(MAP_PAGE(EXTRA + 2 * PAGE));
	EXPECT_TRUE(IS_MAPPED(EXTRA + 2 * PAGE));
	EXPECT_EQ(self->use_va ? 0 : 2, pinned_self());
}

TEST_F(sim_faults, unmap)
{
	ASSERT_OK(MAP_PAGE(EXTRA));
	ASSERT_OK(set_knob(self->dir, UNMAP_OP, "1"));
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, EXTRA, PAGE));
	EXPECT_EQ(0, get_knob(self->dir, UNMAP_OP));
	/* The device has it still, so it is pinned still. */
	EXPECT_TRUE(IS_MAPPED(EXTRA));
	EXPECT_EQ(self->use_va ? 0 : 1, pinned_self());
	EXPECT_ERRNO(EFAULT, MAP_PAGE(EXTRA));
	EXPECT_OK(iotlb_unmap(self->fd, EXTRA, PAGE));
	EXPECT_FALSE(IS_MAPPED(EXTRA));
	EXPECT_EQ(0, pinned_self());
}

/* What a NIC or a disk is at work on while maps fail is not touched by that. */
TEST_F(sim_faults, maps_of_a_running_device)
{
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	POST();
	ASSERT_OK(DONE());
	ASSERT_OK(set_knob(self->dir, MAP_OP, "1"));
	EXPECT_ERRNO(EFAULT, MAP_PAGE(EXTRA));
	POST();
	EXPECT_OK(DONE());
	ASSERT_OK(MAP_PAGE(EXTRA));
	ASSERT_OK(set_knob(self->dir, UNMAP_OP, "1"));
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, EXTRA, PAGE));
	POST();
	EXPECT_OK(DONE());
}

TEST_F(sim_faults, reset)
{
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	ASSERT_OK(FAIL("reset", "1"));
	EXPECT_ERRNO(EIO, set_status(self->fd, 0));
	EXPECT_EQ(0, LEFT("reset"));
	/* It runs as if nothing had been said. */
	EXPECT_EQ(STATUS_RUNNING, get_status(self->fd));
	POST();
	EXPECT_OK(DONE());
	EXPECT_OK(set_status(self->fd, 0));
	EXPECT_EQ(0, get_status(self->fd));
}

TEST_F(sim_faults, suspend_and_resume)
{
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	ASSERT_OK(FAIL("suspend", "1"));
	EXPECT_ERRNO(EIO, vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	EXPECT_EQ(0, LEFT("suspend"));
	POST();
	EXPECT_OK(DONE());

	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(FAIL("resume", "1"));
	EXPECT_ERRNO(EIO, vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_EQ(0, LEFT("resume"));
	POST();
	usleep(QUIET_US);
	EXPECT_FALSE(is_done(self->q, self->mem));
	EXPECT_EQ(1, vring_get(self->fd, VHOST_GET_VRING_BASE, 0));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_OK(DONE());
}

/*
 * A file is closed whatever the parent says. Nothing is pinned then, and a device that
 * was not reset, which may be at its queues still, reaches nothing.
 */
TEST_F(sim_faults, close)
{
	static const char *const ops[] = { "fail_reset", "fail_reset_map" };
	int i;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		ASSERT_OK(MAP_ALL());
		ASSERT_OK(START());
		POST();
		ASSERT_OK(DONE());
		ASSERT_OK(set_knob(self->dir, ops[i], "1"));
		ASSERT_OK(close(self->fd));
		EXPECT_EQ(0, get_knob(self->dir, ops[i])) {
			TH_LOG("%s", ops[i]);
		}
		EXPECT_FALSE(IS_MAPPED(self->caps.iova));
		EXPECT_FALSE(IS_MAPPED(0));
		EXPECT_EQ(0, pinned_self());
		self->fd = owned(self->node);
		ASSERT_LE(0, self->fd);
		EXPECT_EQ(0, get_status(self->fd));
		EXPECT_FALSE(IS_MAPPED(0));
	}
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	POST();
	EXPECT_OK(DONE());
	/* Without faults it is left as it was found: with the 1:1 map, and at rest. */
	ASSERT_OK(close(self->fd));
	self->fd = -1;
	EXPECT_TRUE(IS_MAPPED(0));
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ULL + t.tv_nsec / 1000;
}

/* Not before so much time has passed, however slow the machine is. */
TEST_F(sim_faults, delay)
{
	uint64_t began;

	/* Before its threads have anything to do: none is in the middle of a run. */
	ASSERT_OK(set_knob(self->dir, "delay_completions_us", "700000"));
	ASSERT_OK(MAP_ALL());
	began = now_us();
	ASSERT_OK(START());
	POST();
	EXPECT_OK(DONE());
	EXPECT_LE(700000, now_us() - began);
	/* An op waits for nobody who sleeps: what is posted meanwhile is not done after it. */
	POST();
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(set_knob(self->dir, "delay_completions_us", "0"));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_OK(DONE());
}

TEST_HARNESS_MAIN
