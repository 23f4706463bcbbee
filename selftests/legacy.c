// SPDX-License-Identifier: GPL-2.0
/*
 * Drivers that know nothing of virtio 1.0: they read the config space before they
 * accept features, and never accept VIRTIO_F_VERSION_1. On a simulator NIC that
 * loops frames back.
 */
#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#include "vdpa_test.h"
#include "queue.h"

#define RX		0
#define TX		1
#define MEM		(2 * VQ_AREA + 2 * PAGE)
#define WAIT_MS		10000
#define LEN		100	/* of a frame */

/* A driver without VERSION_1; the simulators want the other bit of everybody. */
#define FEATURES_LEGACY	FEATURE(VIRTIO_F_ACCESS_PLATFORM)

static const unsigned char everybody[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const unsigned char own_mac[ETH_ALEN] = { 0x02, 0x6c, 0x65, 0x67, 0x61, 0x63 };
static const unsigned char other_mac[ETH_ALEN] = { 0x02, 0x6f, 0x74, 0x68, 0x65, 0x72 };

FIXTURE(legacy) {
	int fd;
	struct vdpa_caps caps;
	char *mem;
	struct vq q[2];
	bool ours;		/* the simulator; else C's */
};

FIXTURE_SETUP(legacy)
{
	const char *parent = getenv("MGMTDEV");
	int i;

	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
	if (self->caps.device_id != VIRTIO_ID_NET || !parent || !strstr(parent, "sim_net"))
		SKIP(return, "not a simulator NIC");
	self->ours = strstr(parent, "rust");
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	self->mem = shared_pages(MEM);
	ASSERT_NE(NULL, self->mem);
	for (i = 0; i < 2; i++) {
		self->q[i].kick = eventfd(0, EFD_NONBLOCK);
		self->q[i].call = eventfd(0, EFD_NONBLOCK);
	}
	ASSERT_OK(iotlb_map(self->fd, self->caps.iova, MEM, self->mem));
}

FIXTURE_TEARDOWN(legacy)
{
	close(self->fd);
}

/* As far as each kind of device has it. */
#define CONFIG_LEN	offsetof(struct virtio_net_config, speed)
#define STATUS_AT	offsetof(struct virtio_net_config, status)

static int get_config(int fd, struct virtio_net_config *net)
{
	return read_config(fd, 0, net, CONFIG_LEN);
}

static int set_mac(int fd, const unsigned char *mac)
{
	return write_config(fd, 0, mac, ETH_ALEN);
}

static int start(int fd, struct vq q[2], char *mem, uint64_t iova, uint64_t features)
{
	int i, r = set_status(fd, STATUS_ACK);

	r = r ?: set_status(fd, STATUS_DRIVER);
	r = r ?: set_features(fd, features);
	/* A legacy driver does not know FEATURES_OK. */
	if (features & FEATURE(VIRTIO_F_VERSION_1))
		r = r ?: set_status(fd, STATUS_FEATURES);
	for (i = 0; i < 2 && !r; i++) {
		vq_init(&q[i], false, 16, mem + i * VQ_AREA, iova + i * VQ_AREA);
		r = vq_set_up(&q[i], fd, i, 0);
	}
	return r ?: set_status(fd, (features & FEATURE(VIRTIO_F_VERSION_1) ? STATUS_RUNNING :
				    STATUS_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK));
}

/*
 * Send a frame behind a header of that length, with a buffer for what may come
 * back: 0 once the device took it.
 */
static int send_frame(struct vq q[2], char *mem, uint64_t iova, size_t header,
		      const unsigned char *dest)
{
	char *out = mem + 2 * VQ_AREA, *in = out + PAGE;
	uint32_t len;
	int i, r;

	if (!vq_in_flight(&q[RX])) {
		memset(in, 0xee, PAGE);
		vq_post(&q[RX], iova + 2 * VQ_AREA + PAGE, PAGE, true);
	}
	memset(out, 0, PAGE);
	memcpy(out + header, dest, ETH_ALEN);
	memcpy(out + header + ETH_ALEN, other_mac, ETH_ALEN);
	for (i = 2 * ETH_ALEN; i < LEN; i++)
		out[header + i] = (char)(i * 3);
	vq_post(&q[TX], iova + 2 * VQ_AREA, header + LEN, false);
	signal_eventfd(q[TX].kick);
	r = vq_take_within(&q[TX], &len, WAIT_MS);
	return r < 0 ? r : 0;
}

/*
 * The same, and wait for a frame to come back: how many bytes it has, or what is
 * wrong. Frames that were sent before it would come first.
 */
static int echo(struct vq q[2], char *mem, uint64_t iova, size_t header,
		const unsigned char *dest)
{
	char *out = mem + 2 * VQ_AREA, *in = out + PAGE;
	uint32_t len;
	int r = send_frame(q, mem, iova, header, dest);

	r = r ?: vq_take_within(&q[RX], &len, WAIT_MS);
	if (r < 0)
		return r;
	if (len < header || memcmp(in + header, out + header, len - header))
		return -EBADMSG;
	return len;
}

#define ECHO(header, dest) echo(self->q, self->mem, self->caps.iova, header, dest)
#define SEND(header, dest) send_frame(self->q, self->mem, self->caps.iova, header, dest)
#define START(features) start(self->fd, self->q, self->mem, self->caps.iova, features)

TEST_F(legacy, config_before_features)
{
	struct virtio_net_config before, after;

	ASSERT_OK(get_config(self->fd, &before));
	EXPECT_EQ(0, get_status(self->fd));
	EXPECT_LE(68, before.mtu);
	/* It counts as a driver without features, and settles nothing. */
	ASSERT_OK(START(FEATURES_MODERN));
	ASSERT_OK(get_config(self->fd, &after));
	EXPECT_EQ(0, memcmp(before.mac, after.mac, ETH_ALEN));
	EXPECT_EQ(before.mtu, after.mtu);
	EXPECT_EQ(before.status, after.status);
	EXPECT_EQ(LEN + sizeof(struct virtio_net_hdr_v1),
		  ECHO(sizeof(struct virtio_net_hdr_v1), everybody));
	/* Neither does it after a reset. */
	ASSERT_OK(set_status(self->fd, 0));
	ASSERT_OK(get_config(self->fd, &after));
	EXPECT_EQ(before.mtu, after.mtu);
}

TEST_F(legacy, no_version_1)
{
	ASSERT_OK(START(FEATURES_LEGACY));
	/* Without VERSION_1 and MRG_RXBUF a header counts no buffers. */
	EXPECT_EQ(LEN + sizeof(struct virtio_net_hdr),
		  ECHO(sizeof(struct virtio_net_hdr), everybody));
	EXPECT_EQ(LEN + sizeof(struct virtio_net_hdr),
		  ECHO(sizeof(struct virtio_net_hdr), everybody));
}

TEST_F(legacy, one_after_the_other)
{
	int i;

	for (i = 0; i < 4; i++) {
		bool old = i % 2 == 0;
		size_t header = old ? sizeof(struct virtio_net_hdr) :
				      sizeof(struct virtio_net_hdr_v1);

		ASSERT_OK(START(old ? FEATURES_LEGACY : FEATURES_MODERN));
		EXPECT_EQ(LEN + header, ECHO(header, everybody));
		ASSERT_OK(set_status(self->fd, 0));
		ASSERT_OK(iotlb_unmap(self->fd, 0, 0));
		ASSERT_OK(iotlb_map(self->fd, self->caps.iova, MEM, self->mem));
	}
}

TEST_F(legacy, mac_in_the_config_space)
{
	struct virtio_net_config net;
	size_t header = sizeof(struct virtio_net_hdr);

	ASSERT_OK(START(FEATURES_LEGACY));
	ASSERT_OK(set_mac(self->fd, own_mac));
	ASSERT_OK(get_config(self->fd, &net));
	EXPECT_EQ(0, memcmp(net.mac, own_mac, ETH_ALEN));
	/* It is in force at once, and nobody else's frames are. */
	EXPECT_EQ(LEN + header, ECHO(header, own_mac));
	EXPECT_OK(SEND(header, other_mac));
	EXPECT_EQ(LEN + header, ECHO(header, everybody));
}

TEST_F(legacy, only_legacy_drivers_write_it)
{
	struct virtio_net_config before, after;

	if (!self->ours)
		SKIP(return, "C's simulator lets any driver write");
	ASSERT_OK(START(FEATURES_MODERN));
	ASSERT_OK(get_config(self->fd, &before));
	EXPECT_OK(set_mac(self->fd, own_mac));
	ASSERT_OK(get_config(self->fd, &after));
	EXPECT_EQ(0, memcmp(&before, &after, CONFIG_LEN));
}

TEST_F(legacy, nothing_else_is_written)
{
	struct virtio_net_config before, after;
	unsigned char bytes[CONFIG_LEN - STATUS_AT];

	if (!self->ours)
		SKIP(return, "C's simulator lets drivers write everything");
	ASSERT_OK(START(FEATURES_LEGACY));
	ASSERT_OK(get_config(self->fd, &before));
	memset(bytes, 0x77, sizeof(bytes));
	EXPECT_OK(write_config(self->fd, STATUS_AT, bytes, sizeof(bytes)));
	ASSERT_OK(get_config(self->fd, &after));
	EXPECT_EQ(0, memcmp(&before, &after, CONFIG_LEN));
}

TEST_F(legacy, features)
{
	uint64_t features;

	/* What the parent demands it demands of everybody. */
	ASSERT_OK(set_status(self->fd, STATUS_ACK));
	ASSERT_OK(set_status(self->fd, STATUS_DRIVER));
	EXPECT_ERRNO(EINVAL, set_features(self->fd, 0));
	EXPECT_ERRNO(EINVAL, set_features(self->fd, FEATURE(VIRTIO_F_VERSION_1)));
	EXPECT_OK(set_features(self->fd, FEATURES_LEGACY));
	/* A driver may change its mind until FEATURES_OK, which no legacy one says. */
	EXPECT_OK(set_features(self->fd, FEATURES_MODERN));
	EXPECT_OK(set_features(self->fd, FEATURES_LEGACY));
	ASSERT_OK(set_status(self->fd, STATUS_FEATURES));
	EXPECT_ERRNO(EBUSY, set_features(self->fd, FEATURES_LEGACY));
	/* What is offered does not depend on the driver. */
	ASSERT_OK(vioctl(self->fd, VHOST_GET_FEATURES, &features));
	EXPECT_EQ(self->caps.features, features);
}

TEST_HARNESS_MAIN
