// SPDX-License-Identifier: GPL-2.0
/*
 * Ring a virtio PCI device's doorbell for ever, without a driver's help, and tell what
 * answers: a device reads as 0, memory as what was written last.
 *
 * Usage: ring PCI-DIRECTORY QUEUE
 *
 * The device has a page for each doorbell. Every so many rings there is a line
 * "RESULT ring DEVICE rings=N memory=0|1". The kernel's parameter iomem=relaxed lets a
 * program map what a driver has.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define REPORT 250 /* rings */
#define PCI_CAPABILITIES 0x34
#define PCI_CAP_VENDOR 9
#define VIRTIO_CAP_NOTIFY 2

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint32_t u32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

int main(int argc, char **argv)
{
	uint8_t config[256], bar = 0, at;
	uint32_t offset = 0, step = 0;
	unsigned long long rings = 0;
	const char *name;
	char path[256];
	unsigned int queue;
	volatile uint16_t *bell;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: ring PCI-DIRECTORY QUEUE\n");
		return 2;
	}
	queue = strtoul(argv[2], NULL, 0);
	name = strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);

	snprintf(path, sizeof(path), "%s/config", argv[1]);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, config, sizeof(config)) != sizeof(config))
		fail(path);
	close(fd);
	for (at = config[PCI_CAPABILITIES]; at >= 0x40 && at <= sizeof(config) - 20; at = config[at + 1])
		if (config[at] == PCI_CAP_VENDOR && config[at + 3] == VIRTIO_CAP_NOTIFY) {
			bar = config[at + 4];
			offset = u32(config + at + 8);
			step = u32(config + at + 16);
		}
	/* QEMU gives queue n the n-th doorbell. */
	if (step != PAGE) {
		fprintf(stderr, "doorbells are %u bytes apart, not a page\n", step);
		return 1;
	}
	snprintf(path, sizeof(path), "%s/resource%u", argv[1], bar);
	fd = open(path, O_RDWR);
	if (fd < 0)
		fail(path);
	bell = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset + queue * PAGE);
	if (bell == MAP_FAILED)
		fail("mmap");

	for (;;) {
		*bell = queue;
		if (++rings % REPORT)
			continue;
		printf("RESULT ring %s rings=%llu memory=%d\n", name, rings, queue && *bell == queue);
		/* Others want the guest's only CPU, too. */
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	}
}
