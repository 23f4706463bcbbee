// SPDX-License-Identifier: GPL-2.0
/*
 * Time from kick to completion on a simulator NIC that loops frames back: a frame
 * is sent, and the call eventfds of both queues are waited for.
 *
 *   VHOST_VDPA_DEV=DEVICE kickbench
 *
 * One line a measurement: "CASE WHAT NANOSECONDS", for all frames together.
 */
#include <err.h>

#include "sync.h"
#include "virtio.h"

#define FRAMES	2000

/* Frames in batches of n, so many that FRAMES are sent. */
static void echo(struct nic *nic, int n)
{
	uint64_t t0 = now_ns();
	int i, r;

	for (i = 0; i < FRAMES; i += n) {
		r = nic_echo(nic, n);
		if (r)
			errx(1, "frame %d of %d: error %d", i, FRAMES, -r);
	}
	printf("kick of-%d %llu\n", n, (unsigned long long)(now_ns() - t0));
}

int main(void)
{
	struct nic nic;
	int fd = vdpa_open(), r;

	if (fd < 0)
		errx(1, "%s: error %d", vdpa_path(), -fd);
	r = vioctl(fd, VHOST_SET_OWNER, NULL);
	r = r ?: nic_init(&nic, fd);
	r = r ?: nic_map(&nic);
	r = r ?: nic_start(&nic, 0);
	if (r)
		errx(1, "the NIC does not start: error %d", -r);
	/* Once without looking at the clock. */
	r = nic_echo(&nic, 8);
	if (r)
		errx(1, "no echo: error %d", -r);
	echo(&nic, 1);
	echo(&nic, 32);
	return 0;
}
