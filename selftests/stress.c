// SPDX-License-Identifier: GPL-2.0
/*
 * Everything at once, for a short while: no call may fail in a way that it
 * never does alone, nothing may be left behind, and the kernel's log, which
 * tools/vm.sh reads afterwards, stays clean.
 */
#include <time.h>

#include "vdpa_test.h"
#include "virtio.h"
#include "workers.h"

#define SECONDS	3

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
	self->mem = shared_pages(WORKER_MEM);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(stress)
{
	close(self->fd);
	EXPECT_UNPINNED();
}

TEST_F(stress, all_at_once)
{
	struct worker w[WORKERS];
	int i;

	ASSERT_EQ(0, workers_start(w, self->fd, &self->caps, self->mem, false));
	sleep(SECONDS);
	/* The line of workers.c at which one failed. */
	EXPECT_EQ(0, workers_stop(w));
	for (i = 0; i < WORKERS; i++)
		EXPECT_LT(0, w[i].turns);
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
