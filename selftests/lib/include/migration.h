/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of moving guests share: their fixtures, what is alike, and a move. */
#ifndef VDPA_TEST_MIGRATION_H
#define VDPA_TEST_MIGRATION_H

#include "vdpa_test.h"
#include "pair.h"

/* The beginning of a fixture with a pair: of management devices with kind in their names. */
#define PAIR_SETUP(kind, what) do {					\
	pair_init(&self->pair);						\
	if (!pair_of(kind))						\
		SKIP(return, "no MGMTDEV that makes simulator " what);	\
} while (0)

#define NEEDS_ALIKE() do {						\
	if (!pair_alike())						\
		SKIP(return, "the devices are of different kinds");	\
} while (0)

/*
 * Make two devices that are to be the same to the last byte, compare them, and remove them. The
 * images are those of a legacy driver, and of a modern one after the handshake.
 */
static inline void check_alike(struct __test_metadata *_metadata, struct pair *p,
			       const char *attributes, struct image image[2][2])
{
	char text[2][1024];
	int i, j;

	for (i = 0; i < 2; i++) {
		ASSERT_OK(pair_add(p, i, attributes));
		ASSERT_OK(take_image(p->fd[i], &image[i][0]));
		ASSERT_OK(negotiate(p->fd[i]));
		ASSERT_OK(take_image(p->fd[i], &image[i][1]));
		ASSERT_OK(pair_told(i, text[i], sizeof(text[i])));
	}
	for (j = 0; j < 2; j++) {
		EXPECT_EQ(0, memcmp(&image[0][j], &image[1][j], sizeof(image[0][j]))) {
			TH_LOG("with %s", attributes);
		}
	}
	EXPECT_STREQ(text[0], text[1]);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pair_del(p, i));
}

/*
 * Move number i of a guest that goes on meanwhile; every fourth is called off. Returns the queues
 * that had something on its way, as bits.
 */
static inline unsigned int move_guest(struct __test_metadata *_metadata, struct pair *p,
				      struct luggage *l, int i)
{
	unsigned int left = 0;
	int k;

	ASSERT_OK(luggage_leave(l, p->fd[p->now]));
	/* The guest goes on meanwhile, so some of this is there at once. */
	usleep(2000);
	for (k = 0; k < l->n; k++)
		left |= (vq_left(l->q[k], l->base[k]) != 0) << k;
	if (i % 4 == 3) {
		/* This move is called off. */
		ASSERT_OK(vioctl(p->fd[p->now], VHOST_VDPA_RESUME, NULL));
		luggage_kick(l);
		return left;
	}
	ASSERT_OK(close(p->fd[p->now]));
	p->fd[p->now] = -1;
	p->now = !p->now;
	ASSERT_OK(luggage_arrive(l, p->fd[p->now])) {
		TH_LOG("move %d to %s", i, pair_names[p->now]);
	}
	ASSERT_OK(pair_reopen(p, !p->now));
	return left;
}

#endif
