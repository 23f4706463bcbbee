/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls that may wait for the daemon are made by a process of their own: the test goes
 * on beside them, sees whether they end, and can kill them.
 */
#ifndef VDPA_TEST_JOB_H
#define VDPA_TEST_JOB_H

#include <sys/types.h>

struct job {
	pid_t pid;
	int pidfd;
	int *result;
};

#define JOB_RUNS	(-ETIMEDOUT)
#define JOB_KILLED	(-EOWNERDEAD)

int job_start(struct job *j, int (*fn)(void *arg), void *arg);

/* What fn returned, JOB_RUNS after ms, or JOB_KILLED. */
int job_wait(struct job *j, int ms);

/* kill -9, which frees it whatever it waits for: JOB_KILLED, what it returned, or JOB_RUNS. */
int job_kill(struct job *j, int ms);

/* Jobs: a device is removed, asked for, opened and closed. */
int job_del(void *name);

int job_show(void *name);

int job_open(void *node);

#endif
