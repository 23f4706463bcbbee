/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VDUSE daemon of our own on the raw uapi, and the device that it serves.
 *
 * The daemon is a process, so that a test can stop it or kill it. It answers each
 * request as its plan for that type says: answer, refuse, be late, hold the request
 * back until vduse_release(), stop itself, or die, from a chosen request on. Tests and
 * daemon share one struct: plans one way, what the daemon saw the other.
 *
 * Queues are those of a device that inverts bytes: a buffer is a readable part and a
 * writable one of the same length. The daemon serves them in order, in the address
 * space of their group, and goes on where another daemon stopped.
 */
#ifndef VDPA_TEST_VDUSE_H
#define VDPA_TEST_VDUSE_H

#include <linux/vduse.h>

#include "netlink.h"
#include "queue.h"
#include "sync.h"

/* New in 7.3. */
#ifndef VDUSE_F_QUEUE_READY
#define VDUSE_F_QUEUE_READY	0
#define VDUSE_F_SUSPEND		1
#define VDUSE_GET_FEATURES	_IOR(VDUSE_BASE, 0x04, __u64)
#define VDUSE_SET_FEATURES	_IOW(VDUSE_BASE, 0x05, __u64)
#define VDUSE_SET_VQ_READY	(VDUSE_SET_VQ_GROUP_ASID + 1)
#define VDUSE_SUSPEND		(VDUSE_SET_VQ_GROUP_ASID + 2)
#endif

#define VDUSE_CONTROL	"/dev/vduse/control"
#define VDUSE_MGMTDEV	"vduse"

#define VDUSE_TYPES	6	/* of requests */
#define VDUSE_QUEUES	4
#define VDUSE_GROUPS	4

/* What the daemon does with a request. */
enum vduse_act {
	VDUSE_ANSWER,
	VDUSE_REFUSE,
	VDUSE_HOLD,	/* answer when released */
	VDUSE_DELAY,	/* answer after ms */
	VDUSE_STOP,	/* SIGSTOP itself, and answer when continued */
	VDUSE_DIE,	/* SIGKILL itself */
};

struct vduse_plan {
	enum vduse_act act;
	int after;		/* so many are answered first */
	int times;		/* so many are treated so, 0 for all of them */
	int ms;
	int status;		/* SET_STATUS: only with these bits, 0 for any */
};

/* What test and daemon tell each other. */
struct vduse_shared {
	struct vduse_plan plan[VDUSE_TYPES];
	int release;		/* 1: answer what is held, 2: refuse it */
	struct {
		int state;	/* 1: asked, 2: answered */
		uint32_t asid;
		uint64_t iova;
		int result;	/* 1: mapped, 0: not, or -errno */
	} query;

	int ready;		/* 1, or -errno */
	pid_t pid;
	int held;
	int seen[VDUSE_TYPES];	/* requests, however they were treated */
	uint8_t status;		/* the last one that was answered */
	bool suspended;
	bool vq_ready[VDUSE_QUEUES];	/* by SET_VQ_READY */
	uint32_t asid[VDUSE_GROUPS];
	int served[VDUSE_QUEUES];	/* buffers */
	bool started[VDUSE_QUEUES];
	int faults;		/* addresses that are not mapped */

	int client;		/* 1: a client is ready for its call, 2: it may make it */
};

struct vduse {
	const char *name;
	/* To be set before vduse_create(). */
	int version;
	uint64_t vduse_features;
	uint32_t nvqs, ngroups, nas;

	int control;
	int wake;		/* eventfd that the daemon polls */
	pid_t pid;
	struct vduse_shared *s;
	char node[NODE_LEN];
};

/* Start a daemon: 0 once it serves, or -errno. */
int vduse_start(struct vduse *v, bool adopt);

void vduse_kill(struct vduse *v);

/* SIGSTOP: true once it took effect. */
bool vduse_stop(struct vduse *v);

static inline void vduse_continue(struct vduse *v)
{
	kill(v->pid, SIGCONT);
}

void vduse_plan(struct vduse *v, int type, struct vduse_plan plan);

/* The same plan for all requests. */
void vduse_plan_all(struct vduse *v, enum vduse_act act);

void vduse_release(struct vduse *v, bool ok);

/* Whether an address is mapped: 1 or 0, or -errno. The daemon has to be alive. */
int vduse_mapped(struct vduse *v, uint32_t asid, uint64_t iova);

static inline int vduse_seen(struct vduse *v, int type)
{
	return LOAD(v->s->seen[type]);
}

int vduse_seen_all(struct vduse *v);

int vduse_set_timeout(struct vduse *v, int seconds);

/* Whether this kernel has VDUSE at all. */
bool vduse_there(void);

/* The features that VDUSE itself offers: none before 7.3. */
uint64_t vduse_offered(void);

int vduse_destroy(struct vduse *v);

/* The device, its daemon and its node: 0 or -errno. */
int vduse_create(struct vduse *v);

#endif
