// SPDX-License-Identifier: GPL-2.0
/*
 * Send raw Ethernet frames on an interface that returns every one of them, and
 * check each that comes back, byte by byte.
 *
 * Usage: frames IFACE COUNT BURST
 *
 * Frames go out in bursts, so that more than one descriptor is in flight. The
 * last line is "frames sent=N returned=N bad=N"; the status is 0 if all is well.
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

static size_t length_of(uint32_t seq)
{
	return MIN_FRAME + (seq * 97) % (MAX_FRAME - MIN_FRAME + 1);
}

static void fill(uint8_t *frame, const uint8_t *mac, uint32_t seq)
{
	size_t i, len = length_of(seq);
	uint32_t x = seq * 2654435761u + 1;

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

int main(int argc, char **argv)
{
	static uint8_t out[MAX_FRAME], in[MAX_FRAME + 1];
	uint32_t sent = 0, returned = 0, bad = 0, count, burst, seq, i;
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE) };
	struct ifreq ifr = { 0 };
	uint8_t mac[6];
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: frames IFACE COUNT BURST\n");
		return 2;
	}
	count = strtoul(argv[2], NULL, 0);
	burst = strtoul(argv[3], NULL, 0);

	fd = socket(AF_PACKET, SOCK_RAW, htons(ETHERTYPE));
	if (fd < 0)
		fail("socket");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", argv[1]);
	if (ioctl(fd, SIOCGIFHWADDR, &ifr))
		fail("SIOCGIFHWADDR");
	memcpy(mac, ifr.ifr_hwaddr.sa_data, sizeof(mac));
	if (ioctl(fd, SIOCGIFFLAGS, &ifr))
		fail("SIOCGIFFLAGS");
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr))
		fail("SIOCSIFFLAGS");
	addr.sll_ifindex = if_nametoindex(argv[1]);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		fail("bind");

	while (sent < count) {
		uint32_t first = sent;

		for (i = 0; i < burst && sent < count; i++, sent++) {
			fill(out, mac, sent);
			if (write(fd, out, length_of(sent)) != (ssize_t)length_of(sent))
				fail("write");
		}
		/* They come back in order. */
		for (seq = first; seq < sent; seq++) {
			struct pollfd p = { .fd = fd, .events = POLLIN };
			ssize_t n;

			if (poll(&p, 1, 20000) != 1) {
				fprintf(stderr, "frame %u did not come back\n", seq);
				goto out;
			}
			n = read(fd, in, sizeof(in));
			fill(out, mac, seq);
			returned++;
			if (n != (ssize_t)length_of(seq) || memcmp(in, out, n))
				bad++;
		}
	}
out:
	printf("frames sent=%u returned=%u bad=%u\n", sent, returned, bad);
	return !(sent == count && returned == count && !bad);
}
