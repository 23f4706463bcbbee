/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The device under test: finding and opening it, calls that return -errno, IOTLB messages.
 *
 * VHOST_VDPA_DEV names the device (default: the first /dev/vhost-vdpa-*).
 * DRIVER is rust or c (default: whichever module is loaded).
 */
#ifndef VDPA_TEST_VDPA_H
#define VDPA_TEST_VDPA_H

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest.h"

#define PAGE		4096UL
#define BACKEND(bit)	(1ULL << VHOST_BACKEND_F_##bit)
#define FEATURE(bit)	(1ULL << (bit))

#define STATUS_ACK	VIRTIO_CONFIG_S_ACKNOWLEDGE
#define STATUS_DRIVER	(STATUS_ACK | VIRTIO_CONFIG_S_DRIVER)
#define STATUS_FEATURES	(STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define STATUS_RUNNING	(STATUS_FEATURES | VIRTIO_CONFIG_S_DRIVER_OK)

/* What the simulators insist on, and a modern guest acknowledges. */
#define FEATURES_MODERN	(FEATURE(VIRTIO_F_VERSION_1) | \
			 FEATURE(VIRTIO_F_ACCESS_PLATFORM))

/* The kernel's own errno that reaches userspace from mmap(). */
#ifndef ENOTSUPP
#define ENOTSUPP	524
#endif

/* An address that no process has anything at. */
#define BAD_PTR		((void *)1)

bool on_c_driver(void);

/* ioctl() that returns -errno. */
int vioctl(int fd, unsigned long cmd, void *arg);

/* The path of the device under test, or NULL. */
const char *vdpa_path(void);

int vdpa_open_flags(int flags);

static inline int vdpa_open(void)
{
	return vdpa_open_flags(O_RDWR);
}

/* The file of a node, or -errno. */
int node_open(const char *node);

/* The same, of which this process is the owner. */
int open_owned(const char *node);

/* What the device says of itself: all of it may be asked before SET_OWNER. */
struct vdpa_caps {
	uint32_t device_id;
	uint32_t nvqs;
	uint32_t ngroups;
	uint32_t nas;
	uint32_t config_size;
	uint16_t num_max;
	uint64_t features;
	uint64_t backend;
	struct vhost_vdpa_iova_range range;
	uint64_t iova;		/* where the tests map by default */
};

int vdpa_get_caps(int fd, struct vdpa_caps *c);

int get_status(int fd);

static inline int set_status(int fd, uint8_t status)
{
	return vioctl(fd, VHOST_VDPA_SET_STATUS, &status);
}

static inline int set_features(int fd, uint64_t features)
{
	return vioctl(fd, VHOST_SET_FEATURES, &features);
}

static inline int set_backend_features(int fd, uint64_t features)
{
	return vioctl(fd, VHOST_SET_BACKEND_FEATURES, &features);
}

/* Through the handshake to FEATURES_OK, without any queue. */
int negotiate_features(int fd, uint64_t features);

static inline int negotiate(int fd)
{
	return negotiate_features(fd, FEATURES_MODERN);
}

/* len bytes of the config space, from off on. */
int read_config(int fd, uint32_t off, void *buf, uint32_t len);

int write_config(int fd, uint32_t off, const void *buf, uint32_t len);

int vring_state(int fd, unsigned long cmd, unsigned int index, unsigned int num);

/* The value that a GET ioctl writes into num, or -errno. */
int vring_get(int fd, unsigned long cmd, unsigned int index);

int vring_file(int fd, unsigned long cmd, unsigned int index, int file);

static inline int set_group_asid(int fd, unsigned int group, unsigned int asid)
{
	return vring_state(fd, VHOST_VDPA_SET_GROUP_ASID, group, asid);
}

int vring_addr(int fd, unsigned int index, uint64_t desc, uint64_t avail, uint64_t used);

/*
 * As the kernel lays it out, with its hole: on 32-bit x86 struct vhost_msg has
 * none, so there the uapi's V1 messages have never worked.
 */
struct msg_v1 {
	uint32_t type;
	uint32_t hole;
	union {
		struct vhost_iotlb_msg iotlb;
		uint8_t padding[64];
	};
};

/* write() of a whole message: 0 or -errno, -EIO for any other length. */
int iotlb_write(int fd, const void *msg, size_t len);

int iotlb_v1(int fd, int type, uint64_t iova, uint64_t size, const void *uaddr, int perm);

int iotlb_v2(int fd, uint32_t asid, int type, uint64_t iova, uint64_t size, const void *uaddr,
	     int perm);

static inline int iotlb_map_asid(int fd, uint32_t asid, uint64_t iova, uint64_t size,
				 const void *uaddr)
{
	return iotlb_v2(fd, asid, VHOST_IOTLB_UPDATE, iova, size, uaddr, VHOST_ACCESS_RW);
}

static inline int iotlb_map(int fd, uint64_t iova, uint64_t size, const void *uaddr)
{
	return iotlb_map_asid(fd, 0, iova, size, uaddr);
}

static inline int iotlb_unmap(int fd, uint64_t iova, uint64_t size)
{
	return iotlb_v2(fd, 0, VHOST_IOTLB_INVALIDATE, iova, size, NULL, 0);
}

static inline int iotlb_batch(int fd, uint32_t asid, bool begin)
{
	return iotlb_v2(fd, asid, begin ? VHOST_IOTLB_BATCH_BEGIN : VHOST_IOTLB_BATCH_END, 0, 0,
			NULL, 0);
}

/* Ask everything of a file whose device is gone: 0 where all of it is -ENODEV. */
int check_gone(int fd);

#endif
