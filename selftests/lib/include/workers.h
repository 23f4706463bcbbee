/* SPDX-License-Identifier: GPL-2.0 */
/* Threads that use one file all at once, each in a way of its own. */
#ifndef VDPA_TEST_WORKERS_H
#define VDPA_TEST_WORKERS_H

#include <pthread.h>

#include "vdpa.h"

/* The memory that workers map. */
#define SLOTS		8
#define SLOT_PAGES	16
#define WORKER_MEM	(SLOTS * SLOT_PAGES * PAGE)

struct worker {
	int (*turn)(struct worker *w);	/* one call: 0 or a line number */
	int fd;
	const struct vdpa_caps *caps;
	char *mem;
	unsigned int seed;
	bool may_vanish;	/* the device may be removed meanwhile */
	int line;
	long turns;
	pthread_t thread;
};

#define WORKERS	5

int workers_start(struct worker *w, int fd, const struct vdpa_caps *caps, char *mem,
		  bool may_vanish);

/* The line at which one of them failed, or 0. */
int workers_stop(struct worker *w);

/* A thread that exchanges call eventfds: those of some queues, and of config changes as -1. */
struct swapper {
	int fd;
	int first, last;
	bool stop;
	int failed;
	long swaps;
};

/* The thread, whose argument is the structure. */
void *swap_calls(void *arg);

#endif
