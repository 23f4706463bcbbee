/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Two devices of a test's own, between which a guest can move. MGMTDEV makes the
 * first, MGMTDEV_B (default: the same) the second.
 */
#ifndef VDPA_TEST_PAIR_H
#define VDPA_TEST_PAIR_H

#include "mgmt.h"

extern const char *const pair_names[2];

const char *pair_mgmtdev(int i);

int pair_add(int i, const char *attributes, char *node);

void pair_remove(int fd[2]);

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

/* Whether a device with packed rings can be made. */
bool pair_has_packed(int i);

/* Suspend a device, and say where its n queues are. */
int stop_at(int fd, uint32_t *base, int n);

#endif
