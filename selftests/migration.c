// SPDX-License-Identifier: GPL-2.0
/*
 * What moving a guest relies on: two devices that were provisioned alike are the
 * same to the last byte, and what one device saved another one continues, while
 * the guest sends frames and gets each of them back once and in order.
 * The tests want simulator NICs that loop frames back; disks are in disk_migration.c.
 */
#include <pthread.h>

#include "vdpa_test.h"
#include "migration.h"
#include "virtio.h"

#define MAC		"52:54:00:6d:69:67"
#define MTU		"1600"
#define RINGS		(2 * VQ_AREA)
#define BUFS		(VQ_MAX * BUF_SIZE)
#define GUEST_MEM	(RINGS + 2 * BUFS)
#define MOVES		24
#define TEST_S		300

/* A guest: it has memory, two queues and a thread that knows of no move. */
struct guest {
	struct luggage luggage;
	struct vq q[2];
	uint32_t sent;
	uint32_t received;
	bool stop;		/* send no more, and end when everything is back */
	int error;
	pthread_t thread;
};

FIXTURE(provisioned) {
	struct pair pair;
};

FIXTURE_SETUP(provisioned)
{
	PAIR_SETUP("sim_net", "NICs");
	NEEDS_ALIKE();
}

FIXTURE_TEARDOWN(provisioned)
{
	pair_remove(&self->pair);
}

TEST_F_TIMEOUT(provisioned, same_attributes_same_device, TEST_S)
{
	static const char *const attributes[] = {
		"mac " MAC,
		"mac " MAC " mtu " MTU,
		/* VERSION_1, ACCESS_PLATFORM, MAC. */
		"mac " MAC " device_features 0x300000020",
	};
	struct image image[2][2];
	int j, k;

	for (k = 0; k < ARRAY_SIZE(attributes); k++) {
		check_alike(_metadata, &self->pair, attributes[k], image);
		for (j = 0; j < 2; j++) {
			EXPECT_LE(6, image[0][j].config_len);
			EXPECT_EQ(0, memcmp(image[0][j].config, "\x52\x54\x00\x6d\x69\x67", 6));
		}
	}
}

static char *buffer(struct guest *g, int i, uint32_t slot)
{
	return g->luggage.mem + RINGS + i * BUFS + slot * BUF_SIZE;
}

static uint64_t buffer_iova(struct guest *g, int i, uint32_t slot)
{
	return g->luggage.iova + (buffer(g, i, slot) - g->luggage.mem);
}

static void post_rx(struct guest *g)
{
	uint32_t slot = vq_next_slot(&g->q[RX]);

	memset(buffer(g, RX, slot), 0xee, BUF_SIZE);
	vq_post(&g->q[RX], buffer_iova(g, RX, slot), BUF_SIZE, true);
}

static void post_tx(struct guest *g)
{
	uint32_t slot = vq_next_slot(&g->q[TX]);
	uint32_t len = nic_frame(buffer(g, TX, slot), g->sent);

	vq_post(&g->q[TX], buffer_iova(g, TX, slot), len, false);
	g->sent++;
}

/* Take what came, hold it against what was sent, and give the buffers back. */
static int receive(struct guest *g)
{
	char want[BUF_SIZE];
	uint32_t len;
	int slot;

	while ((slot = vq_take(&g->q[TX], &len)) >= 0)
		;
	if (slot != -EAGAIN)
		return slot;
	while ((slot = vq_take(&g->q[RX], &len)) >= 0) {
		char *got = buffer(g, RX, slot);

		if (len != nic_frame(want, g->received))
			return -EMSGSIZE;
		if (memcmp(got + HDR, want + HDR, len - HDR))
			return -EBADMSG;
		g->received++;
		post_rx(g);
	}
	return slot == -EAGAIN ? 0 : slot;
}

static void *run_guest(void *arg)
{
	struct guest *g = arg;
	struct pollfd p[2] = {
		{ .fd = g->q[RX].call, .events = POLLIN },
		{ .fd = g->q[TX].call, .events = POLLIN },
	};
	uint64_t v;
	int i;

	while (!g->error) {
		bool stop = __atomic_load_n(&g->stop, __ATOMIC_ACQUIRE);
		uint32_t sent = g->sent;

		g->error = receive(g);
		if (stop && g->received == g->sent && !vq_in_flight(&g->q[TX]))
			break;
		/* A frame on its way has a buffer that waits for it. */
		while (!stop && g->sent - g->received < g->q[RX].num / 2 &&
		       vq_in_flight(&g->q[TX]) < g->q[TX].num)
			post_tx(g);
		if (g->sent != sent) {
			signal_eventfd(g->q[TX].kick);
			continue;
		}
		if (poll(p, 2, TEST_S * 1000 / 4) == 0)
			g->error = -ETIMEDOUT;
		for (i = 0; i < 2; i++)
			if (read(p[i].fd, &v, sizeof(v)) < 0 && errno != EAGAIN)
				g->error = -errno;
	}
	return NULL;
}

static int boot_guest(struct guest *g, bool packed)
{
	int i, r = luggage_pack(&g->luggage, GUEST_MEM);

	if (r)
		return r;
	for (i = 0; i < 2; i++)
		luggage_add_queue(&g->luggage, &g->q[i], packed, i * VQ_AREA);
	while (vq_in_flight(&g->q[RX]) < g->q[RX].num)
		post_rx(g);
	return 0;
}

FIXTURE(migration) {
	struct pair pair;
	struct guest guest;
};

FIXTURE_VARIANT(migration) {
	uint64_t features;
	const char *attributes;
};

FIXTURE_VARIANT_ADD(migration, split) {
	.features = 0,
	.attributes = "mac " MAC,
};

FIXTURE_VARIANT_ADD(migration, packed) {
	.features = FEATURE(VIRTIO_F_RING_PACKED),
	/* VERSION_1, ACCESS_PLATFORM, RING_PACKED, MAC. */
	.attributes = "mac " MAC " device_features 0x700000020",
};

FIXTURE_SETUP(migration)
{
	PAIR_SETUP("sim_net", "NICs");
}

FIXTURE_TEARDOWN(migration)
{
	pair_remove(&self->pair);
}

TEST_F_TIMEOUT(migration, under_load, TEST_S)
{
	uint64_t features = FEATURES_MODERN | variant->features;
	struct pair *p = &self->pair;
	struct guest *g = &self->guest;
	uint32_t loaded = 0, before;
	struct vdpa_caps caps;
	int i;

	for (i = 0; i < 2; i++) {
		if (variant->features && !pair_has_packed(i))
			SKIP(return, "the parent has no packed rings");
		ASSERT_OK(pair_add(p, i, variant->attributes));
		ASSERT_OK(vdpa_get_caps(p->fd[i], &caps));
		ASSERT_EQ(features, features & caps.features);
		if (!(caps.backend & BACKEND(SUSPEND)))
			SKIP(return, "the parent cannot suspend");
	}
	ASSERT_OK(boot_guest(g, variant->features));
	g->luggage.features = features;
	ASSERT_OK(luggage_arrive(&g->luggage, p->fd[0]));
	ASSERT_EQ(0, pthread_create(&g->thread, NULL, run_guest, g));

	for (i = 0; i < MOVES && !g->error; i++) {
		before = __atomic_load_n(&g->received, __ATOMIC_RELAXED);
		/* Once more around the rings before the next move. */
		while (__atomic_load_n(&g->received, __ATOMIC_RELAXED) - before < 2 * VQ_MAX &&
		       !__atomic_load_n(&g->error, __ATOMIC_RELAXED))
			usleep(1000);
		/* Receive buffers are always there: only frames that are to be sent count. */
		loaded += !!(move_guest(_metadata, p, &g->luggage, i) & 1 << TX);
	}
	__atomic_store_n(&g->stop, true, __ATOMIC_RELEASE);
	signal_eventfd(g->q[RX].call);
	pthread_join(g->thread, NULL);
	EXPECT_EQ(0, g->error);
	EXPECT_EQ(g->sent, g->received);
	EXPECT_EQ(g->sent, g->q[TX].taken);
	EXPECT_LT(0, loaded) {
		TH_LOG("no move had frames on their way");
	}
	TH_LOG("%u frames, %u of %d moves with frames on their way", g->sent, loaded, MOVES);
}

TEST_HARNESS_MAIN
