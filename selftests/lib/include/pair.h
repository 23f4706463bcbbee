/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Two devices of a test's own, between which a guest can move. MGMTDEV makes the
 * first, MGMTDEV_B (default: the same) the second.
 */
#ifndef VDPA_TEST_PAIR_H
#define VDPA_TEST_PAIR_H

#include "mgmt.h"
#include "queue.h"

#define PAIR_QUEUES	4	/* the most that a guest has */

struct pair {
	char node[2][NODE_LEN];
	int fd[2];
	int now;		/* which has the guest */
};

extern const char *const pair_names[2];

const char *pair_mgmtdev(int i);

/* Whether both are made by a management device with this in its name. */
bool pair_of(const char *kind);

/* Whether one makes both. */
bool pair_alike(void);

/* Whether a device with packed rings can be made. */
bool pair_has_packed(int i);

void pair_init(struct pair *p);

/* Make a device, open and own it: 0, or what is wrong. */
int pair_add(struct pair *p, int i, const char *attributes);

/* Close and remove a device: 0, or what is wrong. */
int pair_del(struct pair *p, int i);

/* The same for cleaning up. */
void pair_remove(struct pair *p);

/* Close a file and open it again, as for the next owner. */
int pair_reopen(struct pair *p, int i);

/* Everything that a guest can see of a device at rest. */
struct image {
	struct vdpa_caps caps;
	uint32_t config_len;
	unsigned char config[512];
	uint32_t groups[16];
	uint32_t sizes[16];
};

int take_image(int fd, struct image *image);

/* What "vdpa dev config show" says, without the name. */
int pair_told(int i, char *text, size_t len);

/* What a guest takes along. */
struct luggage {
	uint64_t features;
	char *mem;
	uint64_t iova;
	size_t len;
	int n;				/* queues, the first of all */
	struct vq *q[PAIR_QUEUES];
	uint32_t base[PAIR_QUEUES];	/* where they are while they are nowhere */
};

/* Its memory, with nothing in it and no queues: 0 or -ENOMEM. */
int luggage_pack(struct luggage *l, size_t len);

/* One more queue, empty, in its memory from off on. */
void luggage_add_queue(struct luggage *l, struct vq *q, bool packed, size_t off);

/* Suspend a device, and say where its queues are. */
int luggage_leave(struct luggage *l, int fd);

/* From an open device to one that goes on where the queues are. */
int luggage_arrive(struct luggage *l, int fd);

/* Kick all queues. */
void luggage_kick(struct luggage *l);

#endif
