// SPDX-License-Identifier: GPL-2.0
#include "call.h"
#include "vdpa.h"

static void *call_thread(void *arg)
{
	struct call *c = arg;

	c->result = c->fn(c);
	STORE(c->done, true);
	return NULL;
}

int call_start(struct call *c)
{
	c->done = false;
	return pthread_create(&c->thread, NULL, call_thread, c);
}

int call_ioctl(struct call *c)
{
	return vioctl(c->fd, c->cmd, c->arg);
}

int ioctl_start(struct call *c, int fd, unsigned long cmd, void *arg)
{
	*c = (struct call){ .fn = call_ioctl, .fd = fd, .cmd = cmd, .arg = arg };
	return call_start(c);
}

int call_wait(struct call *c, int ms)
{
	if (!WAIT_FOR(call_done(c), ms))
		return CALL_WAITS;
	pthread_join(c->thread, NULL);
	return c->result;
}
