// SPDX-License-Identifier: GPL-2.0
/* Two devices in the hands of one process. */
#include <pthread.h>

#include "vdpa_test.h"
#include "mgmt.h"

#define PAGES	64

static const char *const names[] = { "selftest_a", "selftest_b" };

FIXTURE(two_devices) {
	int fd[2];
	struct vdpa_caps caps;
	char *mem;
	long system;
};

FIXTURE_SETUP(two_devices)
{
	int i;

	self->fd[0] = -1;
	self->fd[1] = -1;
	if (!getenv("MGMTDEV"))
		SKIP(return, "no MGMTDEV to make devices on");
	self->system = pinned_system();
	self->mem = private_pages(PAGES * PAGE);
	ASSERT_NE(NULL, self->mem);
	for (i = 0; i < 2; i++) {
		char node[NODE_LEN];

		ASSERT_EQ(0, mgmt_add(names[i], node));
		self->fd[i] = open_owned(node);
		ASSERT_LE(0, self->fd[i]);
	}
	ASSERT_OK(vdpa_get_caps(self->fd[0], &self->caps));
}

FIXTURE_TEARDOWN(two_devices)
{
	int i;

	for (i = 0; i < 2; i++)
		if (self->fd[i] >= 0)
			close(self->fd[i]);
	for (i = 0; i < 2; i++)
		mgmt_del_if_there(names[i]);
	EXPECT_UNPINNED();
}

TEST_F(two_devices, independent)
{
	uint64_t iova = self->caps.iova;

	EXPECT_OK(set_status(self->fd[0], STATUS_ACK));
	EXPECT_EQ(0, get_status(self->fd[1]));
	EXPECT_OK(iotlb_map(self->fd[0], iova, PAGE, shared_pages(PAGE)));
	EXPECT_OK(iotlb_map(self->fd[1], iova, PAGE, shared_pages(PAGE)));
	EXPECT_OK(iotlb_batch(self->fd[0], 0, true));
	EXPECT_OK(set_status(self->fd[1], 0));
	EXPECT_EQ(STATUS_ACK, get_status(self->fd[0]));
}

TEST_F(two_devices, each_pins_and_charges)
{
	uint64_t iova = self->caps.iova;

	if (!parent_pins(self->fd[0], iova))
		SKIP(return, "the parent maps by user address");
	ASSERT_OK(iotlb_map(self->fd[0], iova, PAGES * PAGE, self->mem));
	ASSERT_OK(iotlb_map(self->fd[1], iova, PAGES * PAGE, self->mem));
	EXPECT_EQ(2 * PAGES, pinned_self());
	ASSERT_EQ(0, close(self->fd[0]));
	self->fd[0] = -1;
	EXPECT_EQ(PAGES, pinned_self());
	EXPECT_OK(iotlb_unmap(self->fd[1], iova, PAGES * PAGE));
	EXPECT_EQ(0, pinned_self());
}

struct mapper {
	int fd;
	uint64_t iova;
	char *mem;
	pthread_barrier_t *start;
	int result;
};

/* Without capabilities, which are each thread's own. */
static void *map_at_once(void *arg)
{
	struct mapper *m = arg;

	m->result = drop_capabilities();
	pthread_barrier_wait(m->start);
	if (!m->result)
		m->result = iotlb_map(m->fd, m->iova, PAGES * PAGE, m->mem);
	return NULL;
}

TEST_F(two_devices, memlock_is_checked_and_charged_at_once)
{
	pthread_barrier_t start;
	int round, over = 0, none = 0, i;

	if (!parent_pins(self->fd[0], self->caps.iova))
		SKIP(return, "the parent maps by user address");
	/* Room for one of the two maps. */
	ASSERT_OK(limit_memlock(PAGES));
	ASSERT_EQ(0, pthread_barrier_init(&start, NULL, 2));
	for (round = 0; round < 300; round++) {
		struct mapper m[2];
		pthread_t t[2];

		for (i = 0; i < 2; i++) {
			m[i] = (struct mapper) {
				.fd = self->fd[i],
				.iova = self->caps.iova,
				.mem = self->mem,
				.start = &start,
			};
			ASSERT_EQ(0, pthread_create(&t[i], NULL, map_at_once, &m[i]));
		}
		for (i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		over += !m[0].result && !m[1].result;
		none += m[0].result && m[1].result;
		EXPECT_EQ(over ? 2 * PAGES : none ? 0 : PAGES, pinned_self());
		for (i = 0; i < 2; i++)
			if (!m[i].result)
				ASSERT_OK(iotlb_unmap(self->fd[i], m[i].iova,
						      PAGES * PAGE));
		if (over || none)
			break;
	}
	/* A race: C need not lose it. */
	if (over && on_c_driver())
		C_DIFFERS("memlock is checked before it is charged");
	else
		EXPECT_EQ(0, over);
	/* Nor may each keep the other out by charging what it then gives back. */
	EXPECT_EQ(0, none);
}

TEST_HARNESS_MAIN
