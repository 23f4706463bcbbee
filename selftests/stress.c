// SPDX-License-Identifier: GPL-2.0
/*
 * Everything at once, for a short while: no call may fail in a way that it
 * never does alone, nothing may be left behind, and the kernel's log, which
 * tools/vm.sh reads afterwards, stays clean.
 */
#include <pthread.h>
#include <time.h>

#include "virtio.h"

#define SECONDS	3
#define SLOTS	8

FIXTURE(stress) {
	int fd;
	struct vdpa_caps caps;
	char *mem;
	long system;
};

FIXTURE_SETUP(stress)
{
	self->system = pinned_system();
	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	self->mem = shared_pages(SLOTS * 16 * PAGE);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(stress)
{
	close(self->fd);
	EXPECT_EQ(0, pinned_self());
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

struct worker {
	int (*turn)(struct worker *w);	/* one call: 0 or a line number */
	int fd;
	const struct vdpa_caps *caps;
	char *mem;
	unsigned int seed;
	int line;
	long turns;
	pthread_t thread;
};

static bool stop_workers;

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!w->line && !__atomic_load_n(&stop_workers, __ATOMIC_ACQUIRE)) {
		w->line = w->turn(w);
		w->turns++;
	}
	return NULL;
}

#define CHECK(cond) do { if (!(cond)) return __LINE__; } while (0)

static int turn_map(struct worker *w)
{
	int slot = rand_r(&w->seed) % SLOTS, pages = 1 + rand_r(&w->seed) % 16;
	uint64_t iova = w->caps->iova + slot * 32 * PAGE;
	int r;

	switch (rand_r(&w->seed) % 8) {
	case 0:
		r = iotlb_unmap(w->fd, 0, 0);
		break;
	case 1:
		r = iotlb_batch(w->fd, 0, true);
		break;
	case 2:
		r = iotlb_batch(w->fd, 0, false);
		break;
	case 3:
	case 4:
		r = iotlb_unmap(w->fd, iova, pages * PAGE);
		break;
	default:
		r = iotlb_map(w->fd, iova, pages * PAGE,
			      w->mem + slot * 16 * PAGE);
	}
	CHECK(!r || r == -EFAULT);
	return 0;
}

static int turn_status(struct worker *w)
{
	int r;

	switch (rand_r(&w->seed) % 4) {
	case 0:
		CHECK(!set_status(w->fd, 0));
		break;
	case 1:
		r = set_features(w->fd, FEATURES_MODERN);
		CHECK(!r || r == -EBUSY);
		break;
	case 2:
		r = set_status(w->fd, STATUS_FEATURES);
		CHECK(!r || r == -EINVAL);
		break;
	default:
		CHECK(get_status(w->fd) >= 0);
	}
	return 0;
}

static int turn_eventfds(struct worker *w)
{
	static const unsigned long cmds[] = {
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
	};
	unsigned long cmd = cmds[rand_r(&w->seed) % 3];
	int q = rand_r(&w->seed) % w->caps->nvqs;
	int fd = eventfd(rand_r(&w->seed) % 2, EFD_NONBLOCK), r;

	CHECK(fd >= 0);
	r = vring_file(w->fd, cmd, q, rand_r(&w->seed) % 4 ? fd : -1);
	r = r ?: vioctl(w->fd, VHOST_VDPA_SET_CONFIG_CALL, &fd);
	close(fd);
	CHECK(!r);
	return 0;
}

static int turn_queries(struct worker *w)
{
	struct vdpa_caps caps;
	struct {
		struct vhost_vdpa_config c;
		char buf[4];
	} config = { .c.len = 4 };

	CHECK(!vdpa_get_caps(w->fd, &caps));
	CHECK(!memcmp(&caps, w->caps, sizeof(caps)));
	CHECK(!vioctl(w->fd, VHOST_VDPA_GET_CONFIG, &config));
	CHECK(vring_get(w->fd, VHOST_GET_VRING_BASE, 0) != -EFAULT);
	CHECK(vdpa_open() == -EBUSY);
	return 0;
}

TEST_F(stress, all_at_once)
{
	static int (*const turns[])(struct worker *) = {
		turn_map, turn_map, turn_status, turn_eventfds, turn_queries,
	};
	struct worker w[ARRAY_SIZE(turns)] = {};
	int i;

	for (i = 0; i < ARRAY_SIZE(turns); i++) {
		w[i].turn = turns[i];
		w[i].fd = self->fd;
		w[i].caps = &self->caps;
		w[i].mem = self->mem;
		w[i].seed = i + 1;
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, work, &w[i]));
	}
	sleep(SECONDS);
	__atomic_store_n(&stop_workers, true, __ATOMIC_RELEASE);
	for (i = 0; i < ARRAY_SIZE(turns); i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].line) {
			TH_LOG("worker %d, after %ld turns", i, w[i].turns);
		}
		EXPECT_LT(0, w[i].turns);
	}
}

TEST_F(stress, opened_by_many)
{
	time_t end = time(NULL) + SECONDS;
	pid_t pids[4];
	int i, status;

	/* One at a time gets it, and each gets it clean. */
	ASSERT_EQ(0, close(self->fd));
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		while (!pids[i]) {
			int fd = vdpa_open();

			if (fd == -EBUSY)
				goto next;
			if (fd < 0 || get_status(fd) != 0 ||
			    vioctl(fd, VHOST_SET_OWNER, NULL) ||
			    iotlb_map(fd, self->caps.iova, PAGE, self->mem) ||
			    set_status(fd, STATUS_ACK))
				_exit(1);
			close(fd);
next:
			if (time(NULL) > end)
				_exit(0);
		}
	}
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	self->fd = vdpa_open();
	EXPECT_LE(0, self->fd);
}

TEST_F(stress, frames_beside_remaps)
{
	struct nic nic;
	int i, r = 0;

	if (self->caps.device_id != VIRTIO_ID_NET ||
	    (getenv("MGMTDEV") && !strstr(getenv("MGMTDEV"), "sim")))
		SKIP(return, "only simulators loop frames back");
	ASSERT_OK(nic_init(&nic, self->fd));
	ASSERT_OK(nic_map(&nic));
	ASSERT_OK(nic_start(&nic, 0));
	/* What is mapped stays reachable while its neighbours come and go. */
	for (i = 0; i < 200 && !r; i++) {
		uint64_t iova = nic.iova + 2 * NIC_MEM;

		r = iotlb_map(self->fd, iova, 16 * PAGE, self->mem);
		r = r ?: nic_echo(&nic, 2);
		r = r ?: iotlb_unmap(self->fd, iova, 16 * PAGE);
	}
	EXPECT_EQ(0, r);
}

TEST_HARNESS_MAIN
