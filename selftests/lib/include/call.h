/* SPDX-License-Identifier: GPL-2.0 */
/* Calls that may wait, made by a thread of their own. For those that must be killed: job.h. */
#ifndef VDPA_TEST_CALL_H
#define VDPA_TEST_CALL_H

#include <pthread.h>

#include "sync.h"

struct call {
	int (*fn)(struct call *c);	/* what is called, with what follows */
	int fd;
	unsigned long cmd;
	void *arg;
	const char *path;

	int result;
	bool done;
	pthread_t thread;
};

#define CALL_WAITS	(-EINPROGRESS)

/* Begin the call: 0, or what pthread_create() returns. */
int call_start(struct call *c);

/* The same for an ioctl. */
int ioctl_start(struct call *c, int fd, unsigned long cmd, void *arg);

/* As .fn: an ioctl. */
int call_ioctl(struct call *c);

static inline bool call_done(struct call *c)
{
	return LOAD(c->done);
}

/* What it returned, or CALL_WAITS after ms. */
int call_wait(struct call *c, int ms);

#endif
