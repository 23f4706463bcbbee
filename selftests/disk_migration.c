// SPDX-License-Identifier: GPL-2.0
/*
 * migration.c for disks: two that were provisioned alike are the same to the last
 * byte, and what one saved the other one continues, while each queue of the guest
 * has requests in flight.
 *
 * Where the two share their sectors (shared_backend=1), each sector has to have
 * what the guest last wrote, whoever served that. Where each has its own, every
 * write has a place of its own, and must be found on one disk and not on both:
 * none was lost, and none was done again after the move. Our simulators count
 * requests, too, and the guest's memory shows who touches it too late.
 */
#include <endian.h>
#include <linux/virtio_blk.h>
#include <pthread.h>

#include "vdpa_test.h"
#include "migration.h"

#define LANES_MAX	PAIR_QUEUES
#define SECTOR		512
#define BLOCK		1024UL		/* what a request is about, in bytes */
#define SHARED_BLOCKS	128		/* of a lane, on shared sectors */
#define OWN_BLOCKS	8192U		/* the most of one otherwise */
#define SLOT		2048UL		/* header, data, status */
#define HEADER		sizeof(struct virtio_blk_outhdr)
#define LANE_MEM	(VQ_AREA + VQ_MAX * SLOT)
#define READ_AT		PAGE		/* of the last look at the disk */
#define READ_LEN	(VQ_MAX * SLOT - 2 * PAGE)
#define POISON		0x5e
#define MOVES		16
#define TEST_S		600

static const char *const split_attributes = "";
/* All features, packed rings and indirect descriptors included, but BLK_F_RO. */
static const char *const packed_attributes = "device_features 0x738007646";

struct request {
	uint32_t type;
	uint32_t block;
	uint64_t tag;		/* what is written, or to be read */
	uint16_t status_at;
};

struct guest;

/* A queue, the blocks that only it writes to, and a thread that knows of no move. */
struct lane {
	struct guest *guest;
	struct vq q;
	char *mem;
	uint64_t iova;
	uint32_t first;		/* of its blocks */
	uint32_t blocks;
	uint64_t *tags;		/* what is in them; 0: zeroes */
	bool *known;
	uint32_t writes;
	uint32_t done;
	struct request requests[VQ_MAX];
	int error;
	pthread_t thread;
};

struct guest {
	struct luggage luggage;
	uint64_t salt;		/* no other guest's tags are like this one's */
	int n;
	bool shared;
	bool stop;		/* post no more, and end when everything is back */
	struct lane lanes[LANES_MAX];
};

static bool is_ours(int i)
{
	return !strcmp(pair_mgmtdev(i), "rust_vdpasim_blk");
}

FIXTURE(provisioned_disks) {
	struct pair pair;
};

FIXTURE_SETUP(provisioned_disks)
{
	PAIR_SETUP("sim_blk", "disks");
	NEEDS_ALIKE();
}

FIXTURE_TEARDOWN(provisioned_disks)
{
	pair_remove(&self->pair);
}

TEST_F_TIMEOUT(provisioned_disks, same_attributes_same_device, TEST_S)
{
	static const struct {
		const char *attributes;
		uint64_t features;	/* 0: not known */
	} kinds[] = {
		{ "", 0 },
		/* What C's disk offers, of one queue, read-only, packed. */
		{ "device_features 0x308007646", 0x308007646 },
		{ "device_features 0x300006646", 0x300006646 },
		{ "device_features 0x308007666", 0x308007666 },
		{ "device_features 0x738007646", 0x738007646 },
	};
	struct image image[2][2];
	uint64_t capacity;
	int i, j, k;

	for (k = 0; k < ARRAY_SIZE(kinds); k++) {
		if (k && !is_ours(0))
			SKIP(return, "C's disks cannot be asked for features");
		check_alike(_metadata, &self->pair, kinds[k].attributes, image);
		for (i = 0; i < 2 && kinds[k].features; i++)
			EXPECT_EQ(kinds[k].features, image[i][1].caps.features);
		for (j = 0; j < 2; j++) {
			memcpy(&capacity, image[0][j].config, sizeof(capacity));
			EXPECT_LT(0, le64toh(capacity));
		}
	}
}

static void fill(char *at, uint64_t tag)
{
	uint64_t word;
	int i;

	for (i = 0; i < BLOCK / 8; i++) {
		word = tag ? tag * 0x9e3779b97f4a7c15 + i : 0;
		memcpy(at + 8 * i, &word, 8);
	}
}

static bool filled(const char *at, uint64_t tag)
{
	char want[BLOCK];

	fill(want, tag);
	return !memcmp(at, want, BLOCK);
}

static char *slot_mem(struct lane *l, uint16_t slot)
{
	return l->mem + VQ_AREA + slot * SLOT;
}

static uint64_t slot_iova(struct lane *l, uint16_t slot)
{
	return l->iova + VQ_AREA + slot * SLOT;
}

/* What the guest wants next. */
static struct request choose(struct lane *l)
{
	uint32_t n = l->q.posted, x = n * 2654435761u;
	struct request r = { .type = VIRTIO_BLK_T_FLUSH };

	if (!l->guest->shared) {
		/* A place for each, as long as there are some. */
		if (n % 16 != 15 && l->writes < l->blocks) {
			r.type = VIRTIO_BLK_T_OUT;
			r.block = l->writes;
		}
	} else {
		r.block = (x >> 16) % l->blocks;
		switch (n % 16) {
		case 15:
			return r;
		case 7:
			r.type = VIRTIO_BLK_T_WRITE_ZEROES;
			break;
		case 2: case 3: case 5: case 8: case 10: case 13:
			r.type = VIRTIO_BLK_T_IN;
			r.tag = l->tags[r.block];
			if (l->known[r.block])
				break;
			/* fallthrough */
		default:
			r.type = VIRTIO_BLK_T_OUT;
		}
	}
	if (r.type == VIRTIO_BLK_T_OUT)
		r.tag = l->guest->salt | ++l->writes;
	if (r.type != VIRTIO_BLK_T_FLUSH) {
		l->tags[r.block] = r.tag;
		l->known[r.block] = true;
	}
	return r;
}

/* Chains of every shape: parts of their own, data in two parts, and as few as can be. */
static int post(struct lane *l)
{
	uint16_t slot = vq_next_slot(&l->q);
	char *mem = slot_mem(l, slot);
	uint64_t iova = slot_iova(l, slot);
	struct request r = choose(l);
	bool in = r.type == VIRTIO_BLK_T_IN;
	uint32_t len = r.type == VIRTIO_BLK_T_FLUSH ? 0 :
		       r.type == VIRTIO_BLK_T_WRITE_ZEROES ?
		       sizeof(struct virtio_blk_discard_write_zeroes) : BLOCK;
	uint64_t sector = (uint64_t)(l->first + r.block) * (BLOCK / SECTOR);
	struct virtio_blk_outhdr header = { .type = htole32(r.type) };
	struct vq_seg segs[4] = { { iova, HEADER, false } };
	int n = 1;

	/* Nobody was here since it was given back. */
	if (!all_bytes(mem, SLOT, POISON))
		return -EUCLEAN;
	if (r.type == VIRTIO_BLK_T_WRITE_ZEROES) {
		struct virtio_blk_discard_write_zeroes range = {
			.sector = htole64(sector),
			.num_sectors = htole32(BLOCK / SECTOR),
		};

		memcpy(mem + HEADER, &range, sizeof(range));
	} else if (len) {
		header.sector = htole64(sector);
		if (!in)
			fill(mem + HEADER, r.tag);
	}
	memcpy(mem, &header, sizeof(header));
	r.status_at = HEADER + len;
	switch (len ? l->q.posted % 3 : 0) {
	case 1:
		segs[n++] = (struct vq_seg){ iova + HEADER, len / 2, in };
		segs[n++] = (struct vq_seg){ iova + HEADER + len / 2, len - len / 2, in };
		break;
	case 2:
		if (in) {
			segs[n++] = (struct vq_seg){ iova + HEADER, len + 1, true };
			goto post;
		}
		segs[0].len += len;
		break;
	default:
		if (len)
			segs[n++] = (struct vq_seg){ iova + HEADER, len, in };
	}
	segs[n++] = (struct vq_seg){ iova + r.status_at, 1, true };
post:
	l->requests[slot] = r;
	vq_post_chain(&l->q, segs, n);
	return 0;
}

/* Take what is done, hold it against what was wanted, and spoil its memory. */
static int complete(struct lane *l)
{
	uint32_t len;
	int slot;

	while ((slot = vq_take(&l->q, &len)) >= 0) {
		const struct request *r = &l->requests[slot];
		bool in = r->type == VIRTIO_BLK_T_IN;
		char *mem = slot_mem(l, slot);

		if (mem[r->status_at] != VIRTIO_BLK_S_OK)
			return -EIO;
		if (len != 1 + (in ? BLOCK : 0))
			return -EMSGSIZE;
		if (in && !filled(mem + HEADER, r->tag))
			return -EBADMSG;
		memset(mem, POISON, SLOT);
		__atomic_store_n(&l->done, l->done + 1, __ATOMIC_RELAXED);
	}
	return slot == -EAGAIN ? 0 : slot;
}

static void *run_lane(void *arg)
{
	struct lane *l = arg;
	struct pollfd p = { .fd = l->q.call, .events = POLLIN };
	uint64_t v;

	while (!l->error) {
		bool stop = __atomic_load_n(&l->guest->stop, __ATOMIC_ACQUIRE);
		uint32_t posted = l->q.posted;

		l->error = complete(l);
		if (stop && !vq_in_flight(&l->q))
			break;
		while (!stop && !l->error && vq_room(&l->q) >= 4)
			l->error = post(l);
		if (l->q.posted != posted) {
			signal_eventfd(l->q.kick);
			continue;
		}
		if (!l->error && poll(&p, 1, TEST_S * 1000 / 4) == 0)
			l->error = -ETIMEDOUT;
		if (read(p.fd, &v, sizeof(v)) < 0 && errno != EAGAIN)
			l->error = -errno;
	}
	return NULL;
}

static int boot_guest(struct guest *g, bool packed, uint64_t capacity)
{
	uint32_t blocks = capacity * SECTOR / BLOCK / g->n;
	int i, r;

	r = luggage_pack(&g->luggage, g->n * LANE_MEM);
	if (r)
		return r;
	g->salt = (uint64_t)getpid() << 32;
	memset(g->luggage.mem, POISON, g->n * LANE_MEM);
	for (i = 0; i < g->n; i++) {
		struct lane *l = &g->lanes[i];

		l->guest = g;
		l->mem = g->luggage.mem + i * LANE_MEM;
		l->iova = g->luggage.iova + i * LANE_MEM;
		l->first = i * blocks;
		l->blocks = g->shared ? SHARED_BLOCKS :
			    blocks < OWN_BLOCKS ? blocks : OWN_BLOCKS;
		l->tags = calloc(l->blocks, sizeof(*l->tags));
		l->known = calloc(l->blocks, sizeof(*l->known));
		if (!l->tags || !l->known)
			return -ENOMEM;
		luggage_add_queue(&g->luggage, &l->q, packed, i * LANE_MEM);
	}
	return 0;
}

/* Read all blocks of a lane through its queue, which is otherwise idle. */
static int read_back(struct lane *l, char *into)
{
	struct virtio_blk_outhdr header = { .type = htole32(VIRTIO_BLK_T_IN) };
	char *mem = slot_mem(l, 0);
	uint64_t iova = slot_iova(l, 0), at, total = (uint64_t)l->blocks * BLOCK;
	uint32_t len, used;
	int slot;

	for (at = 0; at < total; at += len) {
		len = total - at < READ_LEN ? total - at : READ_LEN;
		header.sector = htole64(((uint64_t)l->first * BLOCK + at) / SECTOR);
		memcpy(mem, &header, sizeof(header));
		mem[HEADER] = POISON;
		vq_post_chain(&l->q, (struct vq_seg[]){
			{ iova, HEADER, false },
			{ iova + READ_AT, len, true },
			{ iova + HEADER, 1, true },
		}, 3);
		signal_eventfd(l->q.kick);
		slot = vq_take_within(&l->q, &used, TEST_S * 1000 / 4);
		if (slot < 0)
			return slot;
		if (mem[HEADER] != VIRTIO_BLK_S_OK || used != len + 1)
			return -EIO;
		memcpy(into + at, mem + READ_AT, len);
	}
	return 0;
}

/* Everything that the lanes could have written to on a disk, which nobody uses now. */
static int look_at(struct guest *g, int fd, char *into[LANES_MAX])
{
	int i, r;

	for (i = 0; i < g->n; i++) {
		struct lane *l = &g->lanes[i];

		vq_init(&l->q, l->q.packed, VQ_MAX, l->mem, l->iova);
		g->luggage.base[i] = vq_initial_base(l->q.packed);
		into[i] = malloc(l->blocks * BLOCK);
	}
	r = luggage_arrive(&g->luggage, fd);
	for (i = 0; i < g->n && !r; i++)
		r = read_back(&g->lanes[i], into[i]);
	return r;
}

/* What a simulator of ours counted on a queue. */
static long counted(int i, int queue, const char *what)
{
	char path[128], key[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/rust_vdpa_sim_blk/%s/counters",
		 pair_names[i]);
	snprintf(key, sizeof(key), "q%d_%s ", queue, what);
	return read_key(path, key);
}

/* Whether all disks of the management device have the same sectors. */
static bool shares(int i)
{
	return module_flag(is_ours(i) ? "rust_vdpa_sim_blk" : "vdpa_sim_blk", "shared_backend");
}

FIXTURE(disk_migration) {
	struct pair pair;
	struct guest guest;
};

FIXTURE_VARIANT(disk_migration) {
	uint64_t features;
	const char *const *attributes;
};

FIXTURE_VARIANT_ADD(disk_migration, split) {
	.features = 0,
	.attributes = &split_attributes,
};

FIXTURE_VARIANT_ADD(disk_migration, packed) {
	.features = FEATURE(VIRTIO_F_RING_PACKED),
	.attributes = &packed_attributes,
};

FIXTURE_SETUP(disk_migration)
{
	PAIR_SETUP("sim_blk", "disks");
}

FIXTURE_TEARDOWN(disk_migration)
{
	pair_remove(&self->pair);
}

TEST_F_TIMEOUT(disk_migration, under_load, TEST_S)
{
	uint64_t features = FEATURES_MODERN | variant->features | FEATURE(VIRTIO_BLK_F_FLUSH) |
			    FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	uint32_t before[LANES_MAX], loaded = 0;
	uint32_t posted = 0, writes = 0, on[2] = { 0, 0 };
	struct pair *p = &self->pair;
	struct guest *g = &self->guest;
	char *found[2][LANES_MAX];
	struct vdpa_caps caps;
	uint64_t capacity = 0;
	int i, k;
	bool failed = false;

	g->n = LANES_MAX;
	for (i = 0; i < 2; i++) {
		uint64_t has;

		if (variant->features && !pair_has_packed(i))
			SKIP(return, "the parent has no packed rings");
		ASSERT_OK(pair_add(p, i, *variant->attributes));
		ASSERT_OK(vdpa_get_caps(p->fd[i], &caps));
		if (!(caps.backend & BACKEND(SUSPEND)))
			SKIP(return, "the parent cannot suspend");
		ASSERT_EQ(features, features & caps.features);
		g->n = caps.nvqs < g->n ? caps.nvqs : g->n;
		ASSERT_OK(read_config(p->fd[i], 0, &has, sizeof(has)));
		if (!capacity || le64toh(has) < capacity)
			capacity = le64toh(has);
	}
	if (g->n > 1)
		features |= FEATURE(VIRTIO_BLK_F_MQ);
	ASSERT_EQ(features, features & caps.features);
	g->shared = pair_alike() && shares(0);
	ASSERT_OK(boot_guest(g, variant->features, capacity));
	g->luggage.features = features;
	ASSERT_OK(luggage_arrive(&g->luggage, p->fd[0]));
	for (k = 0; k < g->n; k++)
		ASSERT_EQ(0, pthread_create(&g->lanes[k].thread, NULL, run_lane, &g->lanes[k]));

	for (i = 0; i < MOVES && !failed; i++) {
		/* Each queue goes around once more before the next move. */
		for (k = 0; k < g->n; k++)
			before[k] = __atomic_load_n(&g->lanes[k].done, __ATOMIC_RELAXED);
		for (k = 0; k < g->n && !failed; k++) {
			struct lane *l = &g->lanes[k];

			while (__atomic_load_n(&l->done, __ATOMIC_RELAXED) - before[k] < VQ_MAX &&
			       !(failed = __atomic_load_n(&l->error, __ATOMIC_RELAXED)))
				usleep(1000);
		}
		loaded += move_guest(_metadata, p, &g->luggage, i) != 0;
	}
	__atomic_store_n(&g->stop, true, __ATOMIC_RELEASE);
	for (k = 0; k < g->n; k++) {
		struct lane *l = &g->lanes[k];

		signal_eventfd(l->q.call);
		pthread_join(l->thread, NULL);
		ASSERT_EQ(0, l->error) {
			TH_LOG("queue %d after %u requests", k, l->done);
		}
		EXPECT_EQ(l->q.posted, l->done);
		posted += l->q.posted;
		writes += l->writes;
		if (!is_ours(0) || !is_ours(1))
			continue;
		EXPECT_EQ(l->writes, counted(0, k, "writes") + counted(1, k, "writes"));
		EXPECT_EQ(l->writes * BLOCK, counted(0, k, "written_bytes") +
					     counted(1, k, "written_bytes"));
		EXPECT_EQ(l->done, counted(0, k, "reads") + counted(1, k, "reads") +
				   counted(0, k, "writes") + counted(1, k, "writes") +
				   counted(0, k, "flushes") + counted(1, k, "flushes") +
				   counted(0, k, "write_zeroes") + counted(1, k, "write_zeroes"));
		for (i = 0; i < 2; i++) {
			EXPECT_LT(0, counted(i, k, "writes"));
			EXPECT_EQ(0, counted(i, k, "failed"));
			EXPECT_EQ(0, counted(i, k, "unsupported"));
			EXPECT_EQ(0, counted(i, k, "bad"));
		}
	}

	/* They have the same eventfds and memory: never both at once. */
	ASSERT_OK(set_status(p->fd[p->now], 0));
	for (i = 0; i < 2; i++) {
		ASSERT_OK(pair_reopen(p, i));
		ASSERT_OK(look_at(g, p->fd[i], found[i]));
		ASSERT_OK(set_status(p->fd[i], 0));
	}
	for (k = 0; k < g->n; k++) {
		struct lane *l = &g->lanes[k];
		uint32_t b;

		for (b = 0; b < l->blocks; b++) {
			const char *at[2] = { found[0][k] + b * BLOCK, found[1][k] + b * BLOCK };
			bool is[2];

			if (g->shared && !l->known[b])
				continue;
			for (i = 0; i < 2; i++) {
				is[i] = filled(at[i], l->tags[b]);
				on[i] += is[i] && l->tags[b];
			}
			if (g->shared || !l->tags[b]) {
				/* The last thing written to it, or zeroes. */
				ASSERT_TRUE(is[0] && is[1]) {
					TH_LOG("queue %d, block %u", k, b);
				}
				continue;
			}
			ASSERT_EQ(1, is[0] + is[1]) {
				TH_LOG("queue %d, block %u is on %d disks", k, b, is[0] + is[1]);
			}
			ASSERT_TRUE(filled(at[is[0]], 0));
		}
	}
	if (!g->shared) {
		EXPECT_EQ(writes, on[0] + on[1]);
		EXPECT_LT(0, on[0]);
		EXPECT_LT(0, on[1]);
	}
	EXPECT_LT(0, loaded) {
		TH_LOG("no move had requests on their way");
	}
	TH_LOG("%u requests, %u writes, %d queues, %s, %u of %d moves with requests on their way",
	       posted, writes, g->n, g->shared ? "shared sectors" : "sectors of their own",
	       loaded, MOVES);
}

TEST_HARNESS_MAIN
