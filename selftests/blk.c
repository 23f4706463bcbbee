// SPDX-License-Identifier: GPL-2.0
/*
 * Requests of every shape to a block simulator: what they do, how they end, how
 * much they say was written, and that sectors survive what queues do not.
 *
 * On C's simulator the same requests are made. Where its answer is another one by
 * intent of ours, the expectation says so: see the column of C.
 */
#include <endian.h>
#include <linux/virtio_blk.h>

#include "vdpa_test.h"
#include "queue.h"

#define QUEUES_MAX	4
#define RING_SIZE	64
#define RING_AREA	0x4000UL
#define HEAD		(QUEUES_MAX * RING_AREA)
#define STATUS		(HEAD + PAGE)
#define DATA		(HEAD + 2 * PAGE)
#define DATA_SIZE	0x80000UL
#define BLK_MEM		(DATA + DATA_SIZE)
#define WAIT_MS		20000
#define UNTOLD		0xee
#define SEGS_MAX	40

struct seg {
	uint64_t at;	/* offset in the memory, or an IOVA beyond it */
	uint32_t len;
	bool in;	/* for the device to write */
};

struct queue {
	struct vring vr;
	int kick, call;
	uint16_t next;	/* descriptor */
};

struct blk {
	int fd;
	bool c;		/* C's simulator */
	struct vdpa_caps caps;
	uint64_t capacity;
	uint8_t *mem;
	int nq;
	struct queue q[QUEUES_MAX];
};

/* How a request ended: its used length, and its status. */
struct end {
	uint32_t used;
	int status;
};

static int blk_set_up(struct blk *b, int base)
{
	int i, r = 0;

	for (i = 0; i < b->nq && !r; i++) {
		struct queue *q = &b->q[i];
		uint64_t iova = b->caps.iova + i * RING_AREA;

		memset(b->mem + i * RING_AREA, 0, RING_AREA);
		vring_init(&q->vr, RING_SIZE, b->mem + i * RING_AREA, PAGE);
		q->vr.avail->idx = base;
		q->vr.used->idx = base;
		q->next = 0;
		r = vring_place(b->fd, i, &q->vr, iova, base);
		r = r ?: vring_file(b->fd, VHOST_SET_VRING_KICK, i, q->kick);
		r = r ?: vring_file(b->fd, VHOST_SET_VRING_CALL, i, q->call);
		r = r ?: vring_state(b->fd, VHOST_VDPA_SET_VRING_ENABLE, i, 1);
	}
	return r;
}

static int blk_start(struct blk *b, uint64_t leave_out, int base)
{
	uint64_t want = b->caps.features & ~leave_out;
	int r;

	/* The rings here are split ones, without indices of events. */
	want &= ~(FEATURE(VIRTIO_F_RING_PACKED) | FEATURE(VIRTIO_RING_F_EVENT_IDX));
	r = negotiate_features(b->fd, want);
	r = r ?: blk_set_up(b, base);
	return r ?: set_status(b->fd, STATUS_RUNNING);
}

/* Make a chain available; the device is not told yet. Returns its head. */
static uint16_t post(struct blk *b, int i, const struct seg *segs, int n)
{
	struct queue *q = &b->q[i];
	uint16_t head = q->next;
	int k;

	for (k = 0; k < n; k++) {
		struct vring_desc *d = &q->vr.desc[q->next];

		q->next = (q->next + 1) % RING_SIZE;
		d->addr = b->caps.iova + segs[k].at;
		d->len = segs[k].len;
		d->flags = (segs[k].in ? VRING_DESC_F_WRITE : 0) |
			   (k + 1 < n ? VRING_DESC_F_NEXT : 0);
		d->next = q->next;
	}
	q->vr.avail->ring[q->vr.avail->idx % RING_SIZE] = head;
	__atomic_store_n(&q->vr.avail->idx, q->vr.avail->idx + 1, __ATOMIC_RELEASE);
	return head;
}

/* Wait until all that is available is used. C forgets to tell of some, so look. */
static int wait_all(struct queue *q)
{
	return vring_wait(&q->vr, q->vr.avail->idx, WAIT_MS);
}

static void header(struct blk *b, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr *h = (void *)(b->mem + HEAD);

	h->type = htole32(type);
	h->ioprio = htole32(7);
	h->sector = htole64(sector);
	b->mem[STATUS] = UNTOLD;
}

/* Make the request and wait: its end, with used -1 if it has none. */
static struct end request(struct blk *b, int i, const struct seg *segs, int n)
{
	struct queue *q = &b->q[i];
	struct end end = { .used = -1, .status = -1 };
	const struct vring_used_elem *e;
	uint16_t head = post(b, i, segs, n);

	signal_eventfd(q->kick);
	if (wait_all(q))
		return end;
	e = &q->vr.used->ring[(uint16_t)(vring_used_idx(&q->vr) - 1) % RING_SIZE];
	if (e->id != head)
		return end;
	end.used = e->len;
	end.status = b->mem[STATUS];
	return end;
}

/* A request of header, data and status. */
static struct end simple(struct blk *b, int i, uint32_t type, uint64_t sector,
			 uint32_t len, bool in)
{
	struct seg segs[] = {
		{ HEAD, sizeof(struct virtio_blk_outhdr), false },
		{ DATA, len, in },
		{ STATUS, 1, true },
	};

	header(b, type, sector);
	if (!len) {
		segs[1] = segs[2];
		return request(b, i, segs, 2);
	}
	return request(b, i, segs, 3);
}

static void fill(uint8_t *at, size_t len, unsigned int seed)
{
	size_t k;

	for (k = 0; k < len; k++)
		at[k] = seed * 31 + k * 7 + k / 251;
}

static bool filled(const uint8_t *at, size_t len, unsigned int seed)
{
	size_t k;

	for (k = 0; k < len; k++)
		if (at[k] != (uint8_t)(seed * 31 + k * 7 + k / 251))
			return false;
	return true;
}

static bool is_c(void)
{
	const char *parent = getenv("MGMTDEV");

	return parent && !strcmp(parent, "vdpasim_blk");
}

#define EXPECT_END(want_used, want_status, call) do {			\
	struct end end_ = (call);					\
	EXPECT_EQ((want_status), end_.status);				\
	EXPECT_EQ((want_used), end_.used);				\
} while (0)

#define OK	VIRTIO_BLK_S_OK
#define IOERR	VIRTIO_BLK_S_IOERR
#define UNSUPP	VIRTIO_BLK_S_UNSUPP

FIXTURE(blk) {
	struct blk b;
};

FIXTURE_SETUP(blk)
{
	struct blk *b = &self->b;
	int i;

	OPEN_OR_SKIP(b->fd);
	ASSERT_OK(vdpa_get_caps(b->fd, &b->caps));
	if (b->caps.device_id != VIRTIO_ID_BLOCK)
		SKIP(return, "not a block device");
	if (!getenv("MGMTDEV") || !strstr(getenv("MGMTDEV"), "sim_blk"))
		SKIP(return, "not a block simulator");
	b->c = is_c();
	ASSERT_OK(vioctl(b->fd, VHOST_SET_OWNER, NULL));
	/* Among them that maps outlive a reset. */
	ASSERT_OK(set_backend_features(b->fd, b->caps.backend));
	ASSERT_OK(set_status(b->fd, STATUS_ACK));
	ASSERT_OK(set_status(b->fd, STATUS_DRIVER));
	ASSERT_OK(set_features(b->fd, FEATURES_MODERN));
	ASSERT_OK(read_config(b->fd, 0, &b->capacity, sizeof(b->capacity)));
	b->capacity = le64toh(b->capacity);
	ASSERT_OK(set_status(b->fd, 0));
	b->nq = b->caps.nvqs < QUEUES_MAX ? b->caps.nvqs : QUEUES_MAX;
	for (i = 0; i < b->nq; i++) {
		b->q[i].kick = eventfd(0, EFD_NONBLOCK);
		b->q[i].call = eventfd(0, EFD_NONBLOCK);
	}
	b->mem = shared_pages(BLK_MEM);
	ASSERT_NE(NULL, b->mem);
	ASSERT_OK(iotlb_map(b->fd, b->caps.iova, BLK_MEM, b->mem));
	ASSERT_OK(blk_start(b, 0, 0));
}

FIXTURE_TEARDOWN(blk)
{
	close(self->b.fd);
}

TEST_F(blk, config_space)
{
	struct blk *b = &self->b;
	struct virtio_blk_config config;

	EXPECT_LE(sizeof(config), b->caps.config_size);
	ASSERT_OK(read_config(b->fd, 0, &config, sizeof(config)));
	EXPECT_EQ(b->capacity, le64toh(config.capacity));
	EXPECT_EQ(512, le32toh(config.blk_size));
	EXPECT_EQ(b->caps.nvqs, le16toh(config.num_queues));
	EXPECT_EQ(1, le16toh(config.min_io_size));
	EXPECT_EQ(1, le32toh(config.opt_io_size));
	/* With header and status, a request finds room in the queue. */
	EXPECT_LE(1, le32toh(config.seg_max));
	EXPECT_GE(b->caps.num_max, le32toh(config.seg_max) + 2);
	EXPECT_EQ(0, config.physical_block_exp);
	EXPECT_EQ(1, le32toh(config.max_discard_seg));
	EXPECT_EQ(1, le32toh(config.max_write_zeroes_seg));
	EXPECT_EQ(UINT32_MAX, le32toh(config.max_discard_sectors));
	EXPECT_EQ(b->c ? UINT32_MAX : 0x20000, le32toh(config.max_write_zeroes_sectors));
	EXPECT_EQ(b->c ? 512 : 1, le32toh(config.discard_sector_alignment));
	EXPECT_EQ(b->c ? 4096 : 65536, le32toh(config.size_max));
	EXPECT_EQ(b->c ? 32 : 126, le32toh(config.seg_max));
	EXPECT_EQ(0, config.write_zeroes_may_unmap);

	/* Nothing in it is writable. */
	config.capacity = 1;
	config.wce = 1;
	EXPECT_OK(write_config(b->fd, 0, &config, sizeof(config)));
	ASSERT_OK(read_config(b->fd, 0, &config, sizeof(config)));
	EXPECT_EQ(b->capacity, le64toh(config.capacity));
	EXPECT_EQ(0, config.wce);
}

TEST_F(blk, what_is_written_is_read)
{
	struct blk *b = &self->b;
	uint64_t places[] = { 0, 1, 127, 128, 1000, b->capacity - 8 };
	unsigned int k;

	for (k = 0; k < 6; k++) {
		fill(b->mem + DATA, 4096, k);
		EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_OUT, places[k] / 8 * 8, 4096, false));
	}
	for (k = 2; k < 6; k++) {
		memset(b->mem + DATA, 0, 4096);
		EXPECT_END(4097, OK, simple(b, 0, VIRTIO_BLK_T_IN, places[k] / 8 * 8, 4096, true));
		EXPECT_TRUE(filled(b->mem + DATA, 4096, k));
	}
	/* Sectors beside them, and a large request over all. */
	EXPECT_END(DATA_SIZE / 2 + 1, OK,
		   simple(b, 0, VIRTIO_BLK_T_IN, 0, DATA_SIZE / 2, true));
	EXPECT_TRUE(filled(b->mem + DATA, 4096, 1));
	EXPECT_TRUE(filled(b->mem + DATA + 120 * 512, 4096, 2));
	EXPECT_TRUE(filled(b->mem + DATA + 128 * 512, 4096, 3));
}

TEST_F(blk, segments_of_all_sizes)
{
	struct blk *b = &self->b;
	struct seg out[SEGS_MAX], in[SEGS_MAX];
	uint32_t left = 8192, len;
	int n = 0, k;

	/* The header in three pieces, the data in ever larger ones. */
	out[n++] = (struct seg) { HEAD, 5, false };
	out[n++] = (struct seg) { HEAD + 5, 10, false };
	out[n++] = (struct seg) { HEAD + 15, 1, false };
	for (k = 0; left; k++, left -= len) {
		len = k < 30 ? 1 + k * 13 : left;
		len = len < left ? len : left;
		out[n++] = (struct seg) { DATA + 8192 - left, len, false };
	}
	memcpy(in, out, sizeof(in));
	for (k = 3; k < n; k++)
		in[k].in = true;
	/* The status behind the last byte of data, in the same segment. */
	out[n] = (struct seg) { STATUS, 1, true };

	header(b, VIRTIO_BLK_T_OUT, 77);
	fill(b->mem + DATA, 8192, 99);
	EXPECT_END(1, OK, request(b, 0, out, n + 1));
	memset(b->mem + DATA, 0xcc, 8200);
	header(b, VIRTIO_BLK_T_IN, 77);
	in[n - 1].len++;
	EXPECT_EQ(8193, request(b, 0, in, n).used);
	EXPECT_TRUE(filled(b->mem + DATA, 8192, 99));
	EXPECT_EQ(OK, b->mem[DATA + 8192]);
	EXPECT_EQ(0xcc, b->mem[DATA + 8193]);

	/* Header and data in one segment. */
	header(b, VIRTIO_BLK_T_OUT, 78);
	memset(b->mem + HEAD + 16, 0x42, 512);
	out[0] = (struct seg) { HEAD, 16 + 512, false };
	out[1] = (struct seg) { STATUS, 1, true };
	EXPECT_END(1, OK, request(b, 0, out, 2));
	EXPECT_END(1025, OK, simple(b, 0, VIRTIO_BLK_T_IN, 77, 1024, true));
	EXPECT_TRUE(filled(b->mem + DATA, 512, 99));
	EXPECT_TRUE(all_bytes(b->mem + DATA + 512, 512, 0x42));
}

TEST_F(blk, ranges_are_checked)
{
	struct blk *b = &self->b;
	uint64_t end = b->capacity;
	uint64_t bad[] = { end, end + 1, 1ULL << 55, 1ULL << 63, UINT64_MAX };
	/* C says that a byte was written where the status is not the first one. */
	uint32_t used = b->c;
	unsigned int k;

	for (k = 0; k < 5; k++) {
		EXPECT_END(used, IOERR, simple(b, 0, VIRTIO_BLK_T_IN, bad[k], 512, true));
		EXPECT_END(1, IOERR, simple(b, 0, VIRTIO_BLK_T_OUT, bad[k], 512, false));
		EXPECT_END(1, IOERR, simple(b, 0, VIRTIO_BLK_T_IN, bad[k], 0, true));
	}
	EXPECT_END(used, IOERR, simple(b, 0, VIRTIO_BLK_T_IN, end - 1, 1024, true));
	EXPECT_END(1, IOERR, simple(b, 0, VIRTIO_BLK_T_OUT, end - 1, 1024, false));
	EXPECT_END(513, OK, simple(b, 0, VIRTIO_BLK_T_IN, end - 1, 512, true));
	EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_IN, end - 1, 0, true));
}

/* C moves what is no whole sector, too, beyond the end of its buffer. */
TEST_F(blk, whole_sectors_only)
{
	struct blk *b = &self->b;
	uint32_t lens[] = { 1, 511, 513, 1023 };
	unsigned int k;

	for (k = 0; k < 4; k++) {
		EXPECT_END(b->c ? lens[k] + 1 : 0, b->c ? OK : IOERR,
			   simple(b, 0, VIRTIO_BLK_T_IN, 0, lens[k], true));
		EXPECT_END(1, b->c ? OK : IOERR,
			   simple(b, 0, VIRTIO_BLK_T_OUT, 0, lens[k], false));
	}
}

TEST_F(blk, name)
{
	struct blk *b = &self->b;

	memset(b->mem + DATA, 0xcc, 64);
	EXPECT_END(21, OK, simple(b, 0, VIRTIO_BLK_T_GET_ID, 0, 20, true));
	EXPECT_EQ(0, memcmp(b->mem + DATA, "vdpa_blk_sim\0\0\0\0\0\0\0\0", 20));
	EXPECT_EQ(0xcc, b->mem[DATA + 20]);
	EXPECT_END(b->c, IOERR, simple(b, 0, VIRTIO_BLK_T_GET_ID, 1, 20, true));
	/* Longer buffers are not filled; C counts the status as if they were. */
	EXPECT_END(20 + b->c, OK, simple(b, 0, VIRTIO_BLK_T_GET_ID, 0, 40, true));
	EXPECT_EQ(0xcc, b->mem[DATA + 39]);
	if (b->c)
		return;
	/* In a shorter one C writes the status where there is no room. */
	memset(b->mem + DATA, 0xcc, 64);
	EXPECT_END(5, OK, simple(b, 0, VIRTIO_BLK_T_GET_ID, 0, 4, true));
	EXPECT_EQ(0, memcmp(b->mem + DATA, "vdpa\xcc", 5));
}

TEST_F(blk, flush)
{
	EXPECT_END(1, OK, simple(&self->b, 0, VIRTIO_BLK_T_FLUSH, 0, 0, true));
	EXPECT_END(1, IOERR, simple(&self->b, 0, VIRTIO_BLK_T_FLUSH, 1, 0, true));
}

TEST_F(blk, unknown_requests)
{
	uint32_t types[] = { 2, 3, 5, 10, 14, 15, 26, 0x80000000, UINT32_MAX };
	struct blk *b = &self->b;
	unsigned int k;

	for (k = 0; k < 9; k++)
		EXPECT_END(1, b->c ? IOERR : UNSUPP, simple(b, 0, types[k], 0, 512, false));
}

static struct end range(struct blk *b, uint32_t type, uint64_t sector,
			uint32_t sectors, uint32_t flags, uint32_t len)
{
	struct virtio_blk_discard_write_zeroes *r = (void *)(b->mem + DATA);

	r->sector = htole64(sector);
	r->num_sectors = htole32(sectors);
	r->flags = htole32(flags);
	return simple(b, 0, type, 0, len, false);
}

TEST_F(blk, discard_and_write_zeroes)
{
	struct blk *b = &self->b;
	uint32_t types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES }, t;
	uint64_t end = b->capacity;
	int k;

	for (k = 0; k < 2; k++) {
		t = types[k];
		EXPECT_END(1, IOERR, range(b, t, end, 1, 0, 16));
		EXPECT_END(1, IOERR, range(b, t, end - 1, 2, 0, 16));
		EXPECT_END(1, IOERR, range(b, t, 1, UINT32_MAX, 0, 16));
		EXPECT_END(1, IOERR, range(b, t, UINT64_MAX, 1, 0, 16));
		EXPECT_END(1, IOERR, range(b, t, 1ULL << 55, 1, 0, 16));
		EXPECT_END(1, IOERR, range(b, t, 0, 1, 0, 15));
		EXPECT_END(1, IOERR, range(b, t, 0, 1, 0, 17));
		EXPECT_END(1, IOERR, range(b, t, 0, 1, 0, 32));
		EXPECT_END(1, UNSUPP, range(b, t, 0, 1, 2, 16));
		EXPECT_END(1, UNSUPP, range(b, t, 0, 1, UINT32_MAX, 16));
	}
	EXPECT_END(1, UNSUPP, range(b, VIRTIO_BLK_T_DISCARD, 0, 1, 1, 16));

	for (k = 0; k < 2; k++) {
		fill(b->mem + DATA, 0x20000, 5);
		EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_OUT, 64, 0x20000, false));
		/* Both keep what they discard. */
		EXPECT_END(1, OK, range(b, VIRTIO_BLK_T_DISCARD, 64, 256, 0, 16));
		EXPECT_END(0x20001, OK, simple(b, 0, VIRTIO_BLK_T_IN, 64, 0x20000, true));
		EXPECT_TRUE(filled(b->mem + DATA, 0x20000, 5));
		/* Zeroes from the second sector to the last but one. */
		EXPECT_END(1, OK, range(b, VIRTIO_BLK_T_WRITE_ZEROES, 65, 254, k, 16));
		EXPECT_END(0x20001, OK, simple(b, 0, VIRTIO_BLK_T_IN, 64, 0x20000, true));
		EXPECT_TRUE(filled(b->mem + DATA, 512, 5));
		EXPECT_TRUE(all_bytes(b->mem + DATA + 512, 254 * 512, 0));
		EXPECT_FALSE(all_bytes(b->mem + DATA + 255 * 512, 512, 0));
	}
}

TEST_F(blk, not_negotiated)
{
	struct blk *b = &self->b;
	uint64_t out = FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);

	ASSERT_OK(set_status(b->fd, 0));
	ASSERT_OK(blk_start(b, out, 0));
	/* C does not ask what was negotiated. */
	EXPECT_END(1, b->c ? OK : UNSUPP, range(b, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 16));
	EXPECT_END(1, b->c ? OK : UNSUPP, range(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0, 16));
}

/* Chains that are no requests: the queue goes on behind them. */
TEST_F(blk, cut_short)
{
	struct blk *b = &self->b;
	struct seg segs[] = {
		{ HEAD, 15, false },
		{ STATUS, 1, true },
	};
	struct seg nothing[] = { { HEAD, 16 + 512, false } };

	header(b, VIRTIO_BLK_T_FLUSH, 0);
	/* C says nothing where it could. */
	EXPECT_END(b->c ? 0 : 1, b->c ? UNTOLD : IOERR, request(b, 0, segs, 2));
	EXPECT_END(b->c ? 0 : 1, b->c ? UNTOLD : IOERR, request(b, 0, segs + 1, 1));
	header(b, VIRTIO_BLK_T_OUT, 3);
	EXPECT_END(0, UNTOLD, request(b, 0, nothing, 1));
	EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_FLUSH, 0, 0, true));
}

/* Data that is not mapped fails the request, and nothing else. */
TEST_F(blk, unmapped_data)
{
	struct blk *b = &self->b;
	struct seg segs[] = {
		{ HEAD, 16, false },
		{ BLK_MEM + PAGE, 512, true },
		{ STATUS, 1, true },
	};

	header(b, VIRTIO_BLK_T_IN, 0);
	EXPECT_END(b->c, IOERR, request(b, 0, segs, 3));
	segs[1].in = false;
	header(b, VIRTIO_BLK_T_OUT, 0);
	EXPECT_END(1, IOERR, request(b, 0, segs, 3));
	EXPECT_END(513, OK, simple(b, 0, VIRTIO_BLK_T_IN, 0, 512, true));
}

/* A ring that makes no sense stops, and only that: others and later ones work. */
TEST_F(blk, broken_ring)
{
	struct blk *b = &self->b;
	struct queue *q = &b->q[0];

	if (b->c)
		SKIP(return, "C goes on with whatever it finds");
	q->vr.avail->idx += RING_SIZE + 5;
	signal_eventfd(q->kick);
	if (b->nq > 1)
		EXPECT_END(513, OK, simple(b, 1, VIRTIO_BLK_T_IN, 0, 512, true));
	usleep(20000);
	EXPECT_EQ(0, vring_used_idx(&q->vr));
	ASSERT_OK(set_status(b->fd, 0));
	ASSERT_OK(blk_start(b, 0, 0));
	EXPECT_END(513, OK, simple(b, 0, VIRTIO_BLK_T_IN, 0, 512, true));
}

TEST_F(blk, sectors_survive_reset_and_close)
{
	struct blk *b = &self->b;

	fill(b->mem + DATA, 4096, 17);
	EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_OUT, 4000, 4096, false));
	ASSERT_OK(set_status(b->fd, 0));
	ASSERT_OK(blk_start(b, 0, 0xfff8));
	memset(b->mem + DATA, 0, 4096);
	EXPECT_END(4097, OK, simple(b, 0, VIRTIO_BLK_T_IN, 4000, 4096, true));
	EXPECT_TRUE(filled(b->mem + DATA, 4096, 17));
	close(b->fd);
	b->fd = vdpa_open();
	ASSERT_LE(0, b->fd);
	ASSERT_OK(vioctl(b->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(set_backend_features(b->fd, b->caps.backend));
	ASSERT_OK(iotlb_map(b->fd, b->caps.iova, BLK_MEM, b->mem));
	ASSERT_OK(blk_start(b, 0, 0));
	memset(b->mem + DATA, 0, 4096);
	EXPECT_END(4097, OK, simple(b, 0, VIRTIO_BLK_T_IN, 4000, 4096, true));
	EXPECT_TRUE(filled(b->mem + DATA, 4096, 17));
}

/* What is made available while the device is suspended is served afterwards, once. */
TEST_F(blk, suspend_and_resume)
{
	struct blk *b = &self->b;
	struct seg segs[] = {
		{ HEAD, 16, false },
		{ DATA, 512, false },
		{ STATUS, 1, true },
	};
	int k;

	if (!(b->caps.backend & BACKEND(SUSPEND)) || !(b->caps.backend & BACKEND(RESUME)))
		SKIP(return, "the parent cannot suspend and resume");
	EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_OUT, 9, 512, false));
	ASSERT_OK(vioctl(b->fd, VHOST_VDPA_SUSPEND, NULL));
	header(b, VIRTIO_BLK_T_OUT, 9);
	fill(b->mem + DATA, 512, 3);
	for (k = 0; k < 20; k++)
		post(b, 0, segs, 3);
	signal_eventfd(b->q[0].kick);
	usleep(20000);
	EXPECT_EQ(1, vring_used_idx(&b->q[0].vr));
	EXPECT_EQ(1, vring_get(b->fd, VHOST_GET_VRING_BASE, 0));
	ASSERT_OK(vioctl(b->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_OK(wait_all(&b->q[0]));
	EXPECT_EQ(21, vring_used_idx(&b->q[0].vr));
	EXPECT_EQ(OK, b->mem[STATUS]);
	EXPECT_END(513, OK, simple(b, 0, VIRTIO_BLK_T_IN, 9, 512, true));
	EXPECT_TRUE(filled(b->mem + DATA, 512, 3));
}

/*
 * Drivers that know nothing of virtio 1.0: they read the config space before they
 * accept features, never accept VERSION_1, know no FEATURES_OK and one queue.
 */
#define LEGACY_FEATURES	(FEATURE(VIRTIO_F_ACCESS_PLATFORM) | FEATURE(VIRTIO_BLK_F_FLUSH))
#define LEGACY_RUNNING	(STATUS_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK)

/* Up to everything but DRIVER_OK. */
static int legacy_begin(struct blk *b)
{
	int r = set_status(b->fd, 0);

	b->nq = 1;
	r = r ?: set_status(b->fd, STATUS_ACK);
	r = r ?: set_status(b->fd, STATUS_DRIVER);
	r = r ?: set_features(b->fd, LEGACY_FEATURES);
	return r ?: blk_set_up(b, 0);
}

static int legacy_start(struct blk *b)
{
	return legacy_begin(b) ?: set_status(b->fd, LEGACY_RUNNING);
}

TEST_F(blk, legacy_config_before_features)
{
	struct virtio_blk_config modern, before, again;
	struct blk *b = &self->b;

	ASSERT_OK(read_config(b->fd, 0, &modern, sizeof(modern)));
	ASSERT_OK(set_status(b->fd, 0));
	ASSERT_OK(read_config(b->fd, 0, &before, sizeof(before)));
	/* Fields are in the machine's own order, which is that of modern drivers, too. */
	EXPECT_EQ(0, memcmp(&modern, &before, sizeof(before)));
	EXPECT_EQ(0, get_status(b->fd));
	/* It counts as a driver without features, and settles nothing. */
	ASSERT_OK(blk_start(b, 0, 0));
	EXPECT_END(513, OK, simple(b, 0, VIRTIO_BLK_T_IN, 0, 512, true));
	ASSERT_OK(legacy_start(b));
	ASSERT_OK(read_config(b->fd, 0, &again, sizeof(again)));
	EXPECT_EQ(0, memcmp(&modern, &again, sizeof(again)));
	EXPECT_END(513, OK, simple(b, 0, VIRTIO_BLK_T_IN, 0, 512, true));
}

TEST_F(blk, legacy_no_version_1)
{
	struct virtio_blk_config before, after;
	struct blk *b = &self->b;
	uint64_t features;

	ASSERT_OK(legacy_start(b));
	ASSERT_OK(vioctl(b->fd, VHOST_GET_FEATURES, &features));
	EXPECT_EQ(b->caps.features, features);
	EXPECT_EQ(LEGACY_RUNNING, get_status(b->fd));
	fill(b->mem + DATA, 4096, 40);
	EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_OUT, 96, 4096, false));
	EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_FLUSH, 0, 0, true));
	memset(b->mem + DATA, 0, 4096);
	EXPECT_END(4097, OK, simple(b, 0, VIRTIO_BLK_T_IN, 96, 4096, true));
	EXPECT_TRUE(filled(b->mem + DATA, 4096, 40));
	EXPECT_END(21, OK, simple(b, 0, VIRTIO_BLK_T_GET_ID, 0, 20, true));
	/* The SCSI commands of old are not known, and it has not accepted the others. */
	EXPECT_END(1, b->c ? IOERR : UNSUPP,
		   simple(b, 0, VIRTIO_BLK_T_SCSI_CMD, 0, 512, false));
	EXPECT_END(1, b->c ? OK : UNSUPP, range(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0, 16));
	/* It may write to the config space, where it finds nothing that can be written. */
	ASSERT_OK(read_config(b->fd, 0, &before, sizeof(before)));
	memset(&after, 0x77, sizeof(after));
	EXPECT_OK(write_config(b->fd, 0, &after, sizeof(after)));
	ASSERT_OK(read_config(b->fd, 0, &after, sizeof(after)));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(after)));
}

/* What a legacy driver asks for before DRIVER_OK is done then, without another kick. */
TEST_F(blk, legacy_before_driver_ok)
{
	struct blk *b = &self->b;
	struct seg segs[] = {
		{ HEAD, sizeof(struct virtio_blk_outhdr), false },
		{ DATA, 512, true },
		{ STATUS, 1, true },
	};

	if (b->c)
		SKIP(return, "C waits for another kick");
	ASSERT_OK(legacy_begin(b));
	header(b, VIRTIO_BLK_T_IN, 0);
	post(b, 0, segs, 3);
	signal_eventfd(b->q[0].kick);
	ASSERT_OK(set_status(b->fd, LEGACY_RUNNING));
	EXPECT_OK(wait_all(&b->q[0]));
	EXPECT_EQ(OK, b->mem[STATUS]);
}

TEST_F(blk, legacy_and_modern_in_turn)
{
	struct blk *b = &self->b;
	int nq = b->nq, k;

	for (k = 0; k < 6; k++) {
		b->nq = nq;
		ASSERT_OK(set_status(b->fd, 0));
		ASSERT_OK(k % 2 ? legacy_start(b) : blk_start(b, 0, 0));
		if (k) {
			memset(b->mem + DATA, 0, 4096);
			EXPECT_END(4097, OK, simple(b, 0, VIRTIO_BLK_T_IN, 200, 4096, true));
			EXPECT_TRUE(filled(b->mem + DATA, 4096, 50 + k - 1));
		}
		fill(b->mem + DATA, 4096, 50 + k);
		EXPECT_END(1, OK, simple(b, 0, VIRTIO_BLK_T_OUT, 200, 4096, false));
	}
}

/* Full rings on every queue at the same time, each with sectors of its own. */
TEST_F(blk, all_queues_at_once)
{
	struct blk *b = &self->b;
	int i, k, round;

	for (round = 0; round < 20; round++) {
		header(b, VIRTIO_BLK_T_OUT, 0);
		for (i = 0; i < b->nq; i++) {
			struct seg segs[] = {
				{ HEAD + 64 + i * 16, 16, false },
				{ DATA + i * 0x10000, 0x1000 + 512 * i, false },
				{ STATUS + 64 + i, 1, true },
			};
			struct virtio_blk_outhdr *h = (void *)(b->mem + segs[0].at);

			h->type = htole32(VIRTIO_BLK_T_OUT);
			h->sector = htole64(1000 * (i + 1));
			fill(b->mem + segs[1].at, segs[1].len, round + i);
			b->mem[segs[2].at] = UNTOLD;
			for (k = 0; k < RING_SIZE / 3; k++)
				post(b, i, segs, 3);
		}
		for (i = 0; i < b->nq; i++)
			signal_eventfd(b->q[i].kick);
		for (i = 0; i < b->nq; i++) {
			ASSERT_OK(wait_all(&b->q[i]));
			EXPECT_EQ(OK, b->mem[STATUS + 64 + i]);
		}
		for (i = 0; i < b->nq; i++) {
			uint32_t len = 0x1000 + 512 * i;

			ASSERT_EQ(len + 1, simple(b, (i + 1) % b->nq, VIRTIO_BLK_T_IN,
						  1000 * (i + 1), len, true).used);
			ASSERT_TRUE(filled(b->mem + DATA, len, round + i));
		}
	}
}

TEST_HARNESS_MAIN
