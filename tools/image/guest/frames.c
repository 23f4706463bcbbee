// SPDX-License-Identifier: GPL-2.0
/*
 * Send raw Ethernet frames on an interface that returns every one of them, and
 * check each that comes back, byte by byte.
 *
 * Usage: frames [-u] [-w] [-r REPORT] IFACE COUNT BURST
 *
 * Frames go out in bursts, so that more than one descriptor is in flight. The
 * last line is "frames sent=N returned=N bad=N"; the status is 0 if all is well.
 *
 * -u  every other frame goes to the interface's own address, which a device
 *     returns only if it knows that address; else all go to everybody
 * -w  before anything is counted, one frame a second until one comes back: the
 *     last line goes on with "probes=N", which is 1 if none was lost
 * -r  one line "RESULT flow IFACE sent=N returned=N lost=N bad=N" every REPORT
 *     frames; a frame that does not come back is counted and not the end, and
 *     of the first that is wrong a line says how
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ETHERTYPE 0x88b5 /* for local experiments */
#define HEADER 14
#define MIN_FRAME 64
#define MAX_FRAME 1514
#define PROBE UINT32_MAX /* the number of a frame that is not counted */
#define PROBES_MAX 60

static size_t length_of(uint32_t seq)
{
	return MIN_FRAME + (seq * 97) % (MAX_FRAME - MIN_FRAME + 1);
}

static int unicast;

static void fill(uint8_t *frame, const uint8_t *mac, uint32_t seq)
{
	size_t i, len = length_of(seq);
	uint32_t x = seq * 2654435761u + 1;

	if (unicast && seq % 2)
		memcpy(frame, mac, 6);
	else
		memset(frame, 0xff, 6); /* broadcast: no filter has a say */
	memcpy(frame + 6, mac, 6);
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
	memcpy(frame + HEADER, &seq, sizeof(seq));
	for (i = HEADER + sizeof(seq); i < len; i++) {
		x = x * 1664525 + 1013904223;
		frame[i] = x >> 24;
	}
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* The frame that is there within the time: its number, or -1. */
static int64_t receive(int fd, uint8_t *frame, size_t size, ssize_t *len, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint32_t seq;

	if (poll(&p, 1, ms) != 1)
		return -1;
	*len = read(fd, frame, size);
	if (*len < HEADER + (ssize_t)sizeof(seq))
		return -1;
	memcpy(&seq, frame + HEADER, sizeof(seq));
	return seq;
}

int main(int argc, char **argv)
{
	static uint8_t out[MAX_FRAME], in[MAX_FRAME + 1];
	uint32_t sent = 0, returned = 0, lost = 0, bad = 0, report = 0, probes = 0, count, burst, i;
	int wait = 0;
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE) };
	struct ifreq ifr = { 0 };
	uint8_t mac[6];
	int fd, option;

	while ((option = getopt(argc, argv, "uwr:")) != -1) {
		if (option == 'u')
			unicast = 1;
		else if (option == 'w')
			wait = 1;
		else if (option == 'r')
			report = strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	argc -= optind;
	argv += optind;
	if (argc != 3) {
		fprintf(stderr, "usage: frames [-u] [-w] [-r REPORT] IFACE COUNT BURST\n");
		return 2;
	}
	count = strtoul(argv[1], NULL, 0);
	burst = strtoul(argv[2], NULL, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);

	/* Of no protocol until it is bound: it would receive from every interface. */
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0)
		fail("socket");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", argv[0]);
	if (ioctl(fd, SIOCGIFHWADDR, &ifr))
		fail("SIOCGIFHWADDR");
	memcpy(mac, ifr.ifr_hwaddr.sa_data, sizeof(mac));
	if (ioctl(fd, SIOCGIFFLAGS, &ifr))
		fail("SIOCGIFFLAGS");
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr))
		fail("SIOCSIFFLAGS");
	addr.sll_ifindex = if_nametoindex(argv[0]);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		fail("bind");

	while (wait && probes < PROBES_MAX) {
		ssize_t len;

		fill(out, mac, PROBE);
		if (write(fd, out, length_of(PROBE)) != (ssize_t)length_of(PROBE))
			fail("write");
		probes++;
		if (receive(fd, in, sizeof(in), &len, 1000) == PROBE)
			break;
	}
	while (sent < count) {
		uint32_t before = sent, done = sent;

		for (i = 0; i < burst && sent < count; i++, sent++) {
			fill(out, mac, sent);
			if (write(fd, out, length_of(sent)) != (ssize_t)length_of(sent))
				fail("write");
		}
		/* They come back in order; what is behind a gap tells of it. */
		while (done < sent) {
			ssize_t len = 0;
			int64_t seq = receive(fd, in, sizeof(in), &len, report ? 10000 : 20000);

			if (seq < 0) {
				if (!report) {
					fprintf(stderr, "frame %u did not come back\n", done);
					goto out;
				}
				lost += sent - done;
				break;
			}
			if (wait && seq == PROBE)
				continue;
			if (seq < done || seq >= sent) {
				/* Twice, too late, or never sent. */
				if (report && !bad)
					printf("RESULT bad %s frame %lld while waiting for %u of %u\n",
					       argv[0], (long long)seq, done, sent);
				bad++;
				continue;
			}
			if (seq > done && !lost)
				fprintf(stderr, "frame %u was lost\n", done);
			lost += seq - done;
			done = seq + 1;
			fill(out, mac, seq);
			returned++;
			for (i = 0; i < length_of(seq) && in[i] == out[i]; i++)
				;
			if (len != (ssize_t)length_of(seq) || i < length_of(seq)) {
				if (report && !bad)
					printf("RESULT bad %s frame %lld of %zu bytes has %zd, and %u are right\n",
					       argv[0], (long long)seq, length_of(seq), len, i);
				bad++;
			}
		}
		if (report && sent / report != before / report)
			printf("RESULT flow %s sent=%u returned=%u lost=%u bad=%u\n",
			       argv[0], sent, returned, lost, bad);
	}
out:
	printf("frames sent=%u returned=%u bad=%u", sent, returned, bad + lost);
	if (wait)
		printf(" probes=%u", probes);
	printf("\n");
	return !(sent == count && returned == count && !bad);
}
