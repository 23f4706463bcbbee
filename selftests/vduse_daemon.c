// SPDX-License-Identifier: GPL-2.0
/*
 * The driver over VDUSE, whose daemon is one of ours: slow, refusing, silent, stopped,
 * dead and restarted, at a chosen message.
 *
 * Every call that may wait for the daemon is made by a process or a thread of its own.
 * With the file open C's removal waits for ever, so nothing of that is tried on it.
 */
#include "vdpa_test.h"
#include "call.h"
#include "job.h"
#include "vduse.h"

#define NAME		"selftest_vduse"
#define IOVA		0x10000000UL
#define PROMPT		10000	/* ms, for what waits for nobody */
#define BIG		(16UL << 20)
#define BIG_KIB		((long)(BIG >> 10))
/* What others may take or give of shared memory meanwhile. */
#define SLACK_KIB	4096

/* The devices of all fixtures, and what has to go with them. */
struct bench {
	struct vduse v;
	int fd;
	int timeout;		/* msg_timeout from when the daemon is to be silent */
	struct job jobs[4];
	struct vq q[VDUSE_QUEUES];
	char *mem;
};

static int bench_create(struct bench *b, int version, uint32_t groups, uint32_t spaces,
			int timeout, uint64_t features)
{
	b->fd = -1;
	b->timeout = timeout;
	b->v = (struct vduse){
		.name = NAME, .version = version, .nvqs = 2, .ngroups = groups, .nas = spaces,
		.vduse_features = features,
	};
	return vduse_create(&b->v);
}

/*
 * From now on messages time out as the test wants it. Not before: a daemon on a slow machine
 * may take a second to answer.
 */
static int bench_hurry(struct bench *b)
{
	return vduse_set_timeout(&b->v, b->timeout);
}

/* 0, or which step did not come to an end. */
static int bench_end(struct bench *b)
{
	struct job del = {};
	int i, r = 0;

	if (!b->v.name)
		return 0;
	if (b->v.pid) {
		vduse_plan_all(&b->v, VDUSE_ANSWER);
		vduse_release(&b->v, false);
		vduse_continue(&b->v);
	}
	for (i = 0; i < ARRAY_SIZE(b->jobs); i++)
		if (b->jobs[i].pid && job_kill(&b->jobs[i], PROMPT) == JOB_RUNS)
			r = r ?: 1;
	/* A daemon that does not answer any more is none to wait for. */
	if (!b->v.pid)
		vduse_set_timeout(&b->v, 1);
	if (b->fd >= 0)
		close(b->fd);
	if (job_start(&del, job_del, (void *)NAME) || job_wait(&del, PROMPT_MS) == JOB_RUNS)
		r = r ?: 2;
	vduse_kill(&b->v);
	if (!r && vduse_destroy(&b->v))
		r = 3;
	return r;
}

#define CREATE(b, version, groups, spaces, timeout, features) do {	\
	int created;							\
									\
	if (!vduse_there())						\
		SKIP(return, "no " VDUSE_CONTROL);			\
	created = bench_create(b, version, groups, spaces, timeout,	\
			       features);				\
	ASSERT_OK(created);						\
} while (0)

#define OPEN(b) do {							\
	(b)->fd = node_open((b)->v.node);				\
	ASSERT_LE(0, (b)->fd);						\
} while (0)

#define OPEN_OWNED(b) do {						\
	OPEN(b);							\
	ASSERT_OK(vioctl((b)->fd, VHOST_SET_OWNER, NULL));		\
} while (0)

/* Memory that no child inherits: it is gone when this process unmaps it. */
static char *own_pages(size_t len)
{
	char *p = shared_pages(len);

	return p && !madvise(p, len, MADV_DONTFORK) ? p : NULL;
}

/*
 * Two queues of a device that inverts bytes, in one shared mapping at IOVA.
 */
#define QUEUE_MEM	(VQ_AREA + PAGE)	/* rings, and a page of data */
#define BENCH_MEM	(2 * QUEUE_MEM)

static uint64_t queue_iova(int i)
{
	return IOVA + i * QUEUE_MEM;
}

/* Memory and queues; the device hears nothing of it. */
static int queues_init(struct bench *b)
{
	int i;

	b->mem = b->mem ?: own_pages(BENCH_MEM);
	if (!b->mem)
		return -ENOMEM;
	for (i = 0; i < 2; i++) {
		b->q[i].kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		b->q[i].call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		vq_init(&b->q[i], false, 16, b->mem + i * QUEUE_MEM, queue_iova(i));
	}
	return 0;
}

/* From reset to DRIVER_OK. */
static int queues_start(struct bench *b, bool map)
{
	int i, r = map ? iotlb_map(b->fd, IOVA, BENCH_MEM, b->mem) : 0;

	r = r ?: negotiate(b->fd);
	for (i = 0; i < 2; i++)
		r = r ?: vq_set_up(&b->q[i], b->fd, i, 0);
	return r ?: set_status(b->fd, STATUS_RUNNING);
}

static void queue_post(struct bench *b, int i, unsigned int seed)
{
	unsigned char *out = (unsigned char *)b->q[i].mem + VQ_AREA;
	struct vq_seg segs[2] = {
		{ queue_iova(i) + VQ_AREA, PAGE / 2, false },
		{ queue_iova(i) + VQ_AREA + PAGE / 2, PAGE / 2, true },
	};
	int n;

	for (n = 0; n < PAGE / 2; n++)
		out[n] = n * 7 + seed;
	memset(out + PAGE / 2, 0, PAGE / 2);
	vq_post_chain(&b->q[i], segs, 2);
	signal_eventfd(b->q[i].kick);
}

/* Wait for the device: 0 once it used the buffer, and has put the right bytes into it. */
static int queue_take(struct bench *b, int i, int ms)
{
	unsigned char *out = (unsigned char *)b->q[i].mem + VQ_AREA;
	uint32_t len = 0;
	int n, r;

	r = vq_take_within(&b->q[i], &len, ms);
	if (r < 0)
		return r;
	if (len != PAGE / 2)
		return -EMSGSIZE;
	for (n = 0; n < PAGE / 2; n++)
		if (out[PAGE / 2 + n] != (unsigned char)~out[n])
			return -EILSEQ;
	return 0;
}

static int queue_echo(struct bench *b, int i, unsigned int seed)
{
	queue_post(b, i, seed);
	return queue_take(b, i, PROMPT);
}

/*
 * A daemon that answers, and refuses what it is told to, by the version of the API.
 */
FIXTURE(vduse) {
	struct bench b;
};

FIXTURE_VARIANT(vduse) {
	int version;
};

FIXTURE_VARIANT_ADD(vduse, v0) {
	.version = 0,
};

FIXTURE_VARIANT_ADD(vduse, v1) {
	.version = 1,
};

FIXTURE_SETUP(vduse)
{
	int n = variant->version ? 2 : 1;

	CREATE(&self->b, variant->version, n, n, -1, 0);
}

FIXTURE_TEARDOWN(vduse)
{
	EXPECT_EQ(0, bench_end(&self->b));
}

TEST_F(vduse, serves)
{
	struct bench *b = &self->b;
	struct vdpa_caps caps;
	int i;

	OPEN(b);
	ASSERT_OK(vdpa_get_caps(b->fd, &caps));
	EXPECT_EQ(VIRTIO_ID_BLOCK, caps.device_id);
	EXPECT_EQ(2, caps.nvqs);
	EXPECT_EQ(variant->version ? 2 : 1, caps.ngroups);
	EXPECT_EQ(variant->version ? 2 : 1, caps.nas);
	ASSERT_OK(vioctl(b->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	EXPECT_EQ(STATUS_RUNNING, get_status(b->fd));
	for (i = 0; i < 40; i++)
		ASSERT_OK(queue_echo(b, i % 2, i));
	EXPECT_EQ(20, LOAD(b->v.s->served[0]));
	EXPECT_EQ(20, vring_get(b->fd, VHOST_GET_VRING_BASE, 0));
	EXPECT_EQ(0, b->v.s->faults);
}

TEST_F(vduse, refused_update)
{
	struct bench *b = &self->b;
	char *p = own_pages(2 * PAGE);

	ASSERT_NE(NULL, p);
	OPEN_OWNED(b);
	ASSERT_OK(iotlb_map(b->fd, IOVA, PAGE, p));
	vduse_plan(&b->v, VDUSE_UPDATE_IOTLB, (struct vduse_plan){
		.act = VDUSE_REFUSE, .times = 1,
	});
	EXPECT_ERRNO(EFAULT, iotlb_map(b->fd, IOVA + PAGE, PAGE, p + PAGE));
	EXPECT_EQ(0, vduse_mapped(&b->v, 0, IOVA + PAGE));
	C_MAY_DIFFER(!vduse_mapped(&b->v, 0, IOVA), "it ignores that set_map failed");
	/* What was there is there again. */
	EXPECT_EQ(1, vduse_mapped(&b->v, 0, IOVA));
	EXPECT_OK(iotlb_map(b->fd, IOVA + PAGE, PAGE, p + PAGE));
	EXPECT_EQ(1, vduse_mapped(&b->v, 0, IOVA + PAGE));
}

TEST_F(vduse, refused_invalidate)
{
	struct bench *b = &self->b;
	char *p = own_pages(PAGE);
	int r;

	ASSERT_NE(NULL, p);
	OPEN_OWNED(b);
	ASSERT_OK(iotlb_map(b->fd, IOVA, PAGE, p));
	vduse_plan(&b->v, VDUSE_UPDATE_IOTLB, (struct vduse_plan){
		.act = VDUSE_REFUSE, .times = 1,
	});
	r = iotlb_unmap(b->fd, IOVA, PAGE);
	C_MAY_DIFFER(!r, "it ignores that set_map failed");
	EXPECT_EQ(-EFAULT, r);
	EXPECT_OK(iotlb_unmap(b->fd, IOVA, PAGE));
	EXPECT_EQ(0, vduse_mapped(&b->v, 0, IOVA));
}

TEST_F(vduse, refused_batch)
{
	struct bench *b = &self->b;
	char *p = own_pages(PAGE);
	int r;

	ASSERT_NE(NULL, p);
	OPEN_OWNED(b);
	ASSERT_OK(iotlb_batch(b->fd, 0, true));
	ASSERT_OK(iotlb_map(b->fd, IOVA, PAGE, p));
	vduse_plan(&b->v, VDUSE_UPDATE_IOTLB, (struct vduse_plan){
		.act = VDUSE_REFUSE, .times = 1,
	});
	r = iotlb_batch(b->fd, 0, false);
	C_MAY_DIFFER(!r, "it ignores that set_map failed");
	EXPECT_EQ(-EFAULT, r);
	/* The next message tries again. */
	EXPECT_OK(iotlb_batch(b->fd, 0, true));
	EXPECT_OK(iotlb_batch(b->fd, 0, false));
	EXPECT_EQ(1, vduse_mapped(&b->v, 0, IOVA));
}

TEST_F(vduse, refused_driver_ok)
{
	struct bench *b = &self->b;

	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	vduse_plan(&b->v, VDUSE_SET_STATUS, (struct vduse_plan){
		.act = VDUSE_REFUSE, .status = VIRTIO_CONFIG_S_DRIVER_OK,
	});
	ASSERT_OK(queues_start(b, true));
	/* The client is to look. */
	EXPECT_EQ(STATUS_FEATURES, get_status(b->fd));
	EXPECT_EQ(0xb, get_status(b->fd));
	vduse_plan_all(&b->v, VDUSE_ANSWER);
	ASSERT_OK(set_status(b->fd, STATUS_RUNNING));
	EXPECT_EQ(STATUS_RUNNING, get_status(b->fd));
	EXPECT_OK(queue_echo(b, 0, 1));
}

TEST_F(vduse, refused_reset)
{
	struct bench *b = &self->b;
	struct job open_job = {};

	vduse_plan(&b->v, VDUSE_SET_STATUS, (struct vduse_plan){ .act = VDUSE_REFUSE });
	ASSERT_OK(job_start(&open_job, job_open, b->v.node));
	EXPECT_EQ(-EIO, job_wait(&open_job, PROMPT));
	vduse_plan_all(&b->v, VDUSE_ANSWER);
	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	EXPECT_OK(queue_echo(b, 1, 1));
}

TEST_F(vduse, late_enable)
{
	struct bench *b = &self->b;

	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(iotlb_map(b->fd, IOVA, BENCH_MEM, b->mem));
	ASSERT_OK(negotiate(b->fd));
	ASSERT_OK(vq_set_up(&b->q[0], b->fd, 0, 0));
	ASSERT_OK(vq_set_up(&b->q[1], b->fd, 1, 0));
	ASSERT_OK(vring_state(b->fd, VHOST_VDPA_SET_VRING_ENABLE, 1, 0));
	ASSERT_OK(set_status(b->fd, STATUS_RUNNING));
	ASSERT_OK(queue_echo(b, 0, 1));
	queue_post(b, 1, 2);
	EXPECT_ERRNO(ETIMEDOUT, queue_take(b, 1, 300));
	EXPECT_FALSE(LOAD(b->v.s->started[1]));
	ASSERT_OK(vring_state(b->fd, VHOST_VDPA_SET_VRING_ENABLE, 1, 1));
	EXPECT_OK(queue_take(b, 1, PROMPT));
	EXPECT_OK(queue_echo(b, 1, 3));
}

/* A slow daemon holds up who asked it, and nobody for longer. */
TEST_F(vduse, slow)
{
	struct bench *b = &self->b;
	char *p = own_pages(PAGE);
	long start;

	ASSERT_NE(NULL, p);
	OPEN_OWNED(b);
	vduse_plan(&b->v, VDUSE_UPDATE_IOTLB, (struct vduse_plan){
		.act = VDUSE_DELAY, .ms = 500, .times = 1,
	});
	start = now_ms();
	EXPECT_OK(iotlb_map(b->fd, IOVA, PAGE, p));
	EXPECT_LE(450, now_ms() - start);
	EXPECT_EQ(1, vduse_mapped(&b->v, 0, IOVA));
}

/*
 * The daemon holds back its answer to SET_STATUS, SET_OWNER waits behind that, and
 * SET_VRING_KICK comes. As in C it waits, or finds no owner: a kick that is taken before
 * SET_OWNER has succeeded would outlive the queue if SET_OWNER fails.
 */
TEST_F(vduse, kick_beside_set_owner)
{
	struct bench *b = &self->b;
	struct call status, owner, kick;
	struct vhost_vring_file file = { .fd = eventfd(0, EFD_NONBLOCK) };
	uint8_t ack = STATUS_ACK;
	int r;

	OPEN(b);
	vduse_plan(&b->v, VDUSE_SET_STATUS, (struct vduse_plan){ .act = VDUSE_HOLD, .times = 1 });
	ASSERT_EQ(0, ioctl_start(&status, b->fd, VHOST_VDPA_SET_STATUS, &ack));
	ASSERT_TRUE(WAIT_FOR(LOAD(b->v.s->held) == 1, PROMPT));
	ASSERT_EQ(0, ioctl_start(&owner, b->fd, VHOST_SET_OWNER, NULL));
	EXPECT_EQ(CALL_WAITS, call_wait(&owner, 300));
	ASSERT_EQ(0, ioctl_start(&kick, b->fd, VHOST_SET_VRING_KICK, &file));
	/* Only one that does not wait may be refused. */
	r = call_wait(&kick, 300);
	EXPECT_TRUE(r == CALL_WAITS || r == -EPERM);
	vduse_release(&b->v, true);
	EXPECT_EQ(0, call_wait(&status, PROMPT));
	EXPECT_EQ(0, call_wait(&owner, PROMPT));
	if (r == CALL_WAITS)
		EXPECT_EQ(0, call_wait(&kick, PROMPT));
}

/* The same with a removal, which makes SET_OWNER fail. */
TEST_F(vduse, kick_beside_set_owner_and_removal)
{
	struct bench *b = &self->b;
	struct call status, owner, kick;
	struct vhost_vring_file file = { .fd = eventfd(0, EFD_NONBLOCK) };
	uint8_t ack = STATUS_ACK;
	int o, k;

	C_WAITS();
	OPEN(b);
	vduse_plan(&b->v, VDUSE_SET_STATUS, (struct vduse_plan){ .act = VDUSE_HOLD, .times = 1 });
	ASSERT_EQ(0, ioctl_start(&status, b->fd, VHOST_VDPA_SET_STATUS, &ack));
	ASSERT_TRUE(WAIT_FOR(LOAD(b->v.s->held) == 1, PROMPT));
	ASSERT_EQ(0, ioctl_start(&owner, b->fd, VHOST_SET_OWNER, NULL));
	ASSERT_EQ(CALL_WAITS, call_wait(&owner, 300));
	ASSERT_EQ(0, ioctl_start(&kick, b->fd, VHOST_SET_VRING_KICK, &file));
	call_wait(&kick, 300);
	ASSERT_OK(job_start(&b->jobs[0], job_del, (void *)NAME));
	EXPECT_EQ(JOB_RUNS, job_wait(&b->jobs[0], 500));
	vduse_release(&b->v, true);
	EXPECT_EQ(0, job_wait(&b->jobs[0], PROMPT));
	call_wait(&status, PROMPT);
	o = call_wait(&owner, PROMPT);
	k = call_wait(&kick, PROMPT);
	ASSERT_NE(CALL_WAITS, o);
	ASSERT_NE(CALL_WAITS, k);
	/* A queue without an owner has no kick. */
	EXPECT_FALSE(o < 0 && k == 0);
	EXPECT_EQ(0, close(b->fd));
	b->fd = -1;
	/* Whoever still waits at the eventfd is called now: KASAN looks on. */
	signal_eventfd(file.fd);
	close(file.fd);
}

/*
 * Daemons that come and go.
 */
TEST_F(vduse, adoption)
{
	struct bench *b = &self->b;
	int i, n;

	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	for (i = 0; i < 20; i++) {
		for (n = 0; n < 4; n++)
			ASSERT_OK(queue_echo(b, n % 2, i + n));
		vduse_kill(&b->v);
		/* One buffer waits for the next daemon. */
		queue_post(b, i % 2, i);
		ASSERT_OK(vduse_start(&b->v, true));
		ASSERT_OK(queue_take(b, i % 2, PROMPT));
	}
	EXPECT_EQ(STATUS_RUNNING, get_status(b->fd));
	/* It answers for the device as the first one did. */
	EXPECT_EQ(50, vring_get(b->fd, VHOST_GET_VRING_BASE, 0));
	ASSERT_OK(set_status(b->fd, 0));
	EXPECT_EQ(0, get_status(b->fd));
	EXPECT_OK(iotlb_unmap(b->fd, IOVA, BENCH_MEM));
	EXPECT_EQ(0, vduse_mapped(&b->v, 0, IOVA));
}

/* What a daemon was asked when it died the next one answers. */
TEST_F(vduse, died_over_a_message)
{
	struct bench *b = &self->b;
	char *p = own_pages(PAGE);
	struct call status;
	uint8_t ack = STATUS_ACK;
	int dead;

	ASSERT_NE(NULL, p);
	OPEN_OWNED(b);
	vduse_plan(&b->v, VDUSE_SET_STATUS, (struct vduse_plan){ .act = VDUSE_DIE, .times = 1 });
	ASSERT_EQ(0, ioctl_start(&status, b->fd, VHOST_VDPA_SET_STATUS, &ack));
	ASSERT_EQ(b->v.pid, waitpid(b->v.pid, &dead, 0));
	b->v.pid = 0;
	EXPECT_EQ(CALL_WAITS, call_wait(&status, 300));
	ASSERT_OK(vduse_start(&b->v, true));
	EXPECT_EQ(0, call_wait(&status, PROMPT));
	EXPECT_EQ(STATUS_ACK, get_status(b->fd));
	EXPECT_OK(iotlb_map(b->fd, IOVA, PAGE, p));
	EXPECT_EQ(1, vduse_mapped(&b->v, 0, IOVA));
}

/* A stopped daemon goes on where it was. */
TEST_F(vduse, stopped_and_continued)
{
	struct bench *b = &self->b;
	struct call status;
	uint8_t ack = STATUS_ACK;

	OPEN_OWNED(b);
	vduse_plan(&b->v, VDUSE_SET_STATUS, (struct vduse_plan){ .act = VDUSE_STOP, .times = 1 });
	ASSERT_EQ(0, ioctl_start(&status, b->fd, VHOST_VDPA_SET_STATUS, &ack));
	EXPECT_EQ(CALL_WAITS, call_wait(&status, 300));
	vduse_continue(&b->v);
	EXPECT_EQ(0, call_wait(&status, PROMPT));
	EXPECT_EQ(STATUS_ACK, get_status(b->fd));
}

/*
 * Memory that the device was given comes back when the file is closed, whatever became of
 * the daemon: with virtual addresses nothing is pinned, and the parent has files of its own.
 */
FIXTURE(memory) {
	struct bench b;
	char *big;
	long before;
	struct job client;
};

enum fate { DEAD, STOPPED, REFUSES, DEAD_AND_ADOPTED };

FIXTURE_VARIANT(memory) {
	enum fate fate;
	int version;
};

FIXTURE_VARIANT_ADD(memory, dead_v0) {
	.fate = DEAD,
	.version = 0,
};

FIXTURE_VARIANT_ADD(memory, dead_v1) {
	.fate = DEAD,
	.version = 1,
};

FIXTURE_VARIANT_ADD(memory, stopped) {
	.fate = STOPPED,
	.version = 1,
};

FIXTURE_VARIANT_ADD(memory, refuses) {
	.fate = REFUSES,
	.version = 1,
};

FIXTURE_VARIANT_ADD(memory, adopted) {
	.fate = DEAD_AND_ADOPTED,
	.version = 1,
};

FIXTURE_SETUP(memory)
{
	CREATE(&self->b, variant->version, 1, 1, 1, 0);
	self->before = shmem_kib();
}

FIXTURE_TEARDOWN(memory)
{
	EXPECT_EQ(0, bench_end(&self->b));
}

/* Map BIG bytes that are nobody's but the device's afterwards. */
static int give_memory(int fd)
{
	char *p = own_pages(BIG);
	int r;

	if (!p)
		return -ENOMEM;
	r = iotlb_map(fd, IOVA, BIG, p);
	munmap(p, BIG);
	return r;
}

static int meet_fate(struct bench *b, enum fate fate)
{
	struct vduse *v = &b->v;

	switch (fate) {
	case DEAD:
		vduse_kill(v);
		return bench_hurry(b);
	case STOPPED:
		return vduse_stop(v) ? bench_hurry(b) : -ECHILD;
	case REFUSES:
		vduse_plan_all(v, VDUSE_REFUSE);
		return 0;
	case DEAD_AND_ADOPTED:
		vduse_kill(v);
		return vduse_start(v, true);
	}
	return -EINVAL;
}

/* An emulated, instrumented kernel needs seconds to free so many pages; with C some never come back. */
static bool memory_is_back(long before)
{
	return WAIT_FOR(shmem_kib() < before + SLACK_KIB, on_c_driver() ? 5000 : 6 * PROMPT);
}

#define EXPECT_GIVEN() EXPECT_LE(self->before + BIG_KIB - SLACK_KIB, shmem_kib())
#define EXPECT_BACK() do {						\
	bool back = memory_is_back(self->before);			\
									\
	EXPECT_TRUE(back) {						\
		TH_LOG("%ld KiB of shared memory did not come back",	\
		       shmem_kib() - self->before);			\
	}								\
} while (0)

TEST_F(memory, comes_back_at_close)
{
	struct bench *b = &self->b;

	OPEN_OWNED(b);
	ASSERT_OK(give_memory(b->fd));
	EXPECT_GIVEN();
	ASSERT_OK(meet_fate(b, variant->fate));
	EXPECT_EQ(0, close(b->fd));
	b->fd = -1;
	if (on_c_driver() && !memory_is_back(self->before)) {
		/* It returns when the device goes. */
		C_DIFFERS("the parent keeps the last owner's files");
		return;
	}
	EXPECT_BACK();
}

TEST_F(memory, comes_back_at_removal)
{
	struct bench *b = &self->b;

	C_WAITS();
	OPEN_OWNED(b);
	ASSERT_OK(give_memory(b->fd));
	ASSERT_OK(meet_fate(b, variant->fate));
	ASSERT_OK(job_start(&b->jobs[0], job_del, (void *)NAME));
	EXPECT_EQ(0, job_wait(&b->jobs[0], PROMPT_MS));
	EXPECT_BACK();
	EXPECT_ERRNO(ENODEV, get_status(b->fd));
}

static int client_with_memory(void *node)
{
	int fd = open_owned(node);
	int r = fd < 0 ? fd : give_memory(fd);

	if (r)
		return r;
	pause();
	return 0;
}

TEST_F(memory, comes_back_when_the_client_is_killed)
{
	struct bench *b = &self->b;

	ASSERT_OK(job_start(&b->jobs[0], client_with_memory, b->v.node));
	/* To make and to map so much takes an emulated, instrumented kernel its time. */
	ASSERT_TRUE(WAIT_FOR(shmem_kib() >= self->before + BIG_KIB - SLACK_KIB &&
			     vduse_mapped(&b->v, 0, IOVA) == 1, 6 * PROMPT)) {
		TH_LOG("%ld KiB more shared memory, mapped: %d, the client: %d",
		       shmem_kib() - self->before, vduse_mapped(&b->v, 0, IOVA),
		       job_wait(&b->jobs[0], 0));
	}
	ASSERT_OK(meet_fate(b, variant->fate));
	EXPECT_EQ(JOB_KILLED, job_kill(&b->jobs[0], PROMPT_MS));
	C_MAY_DIFFER(!memory_is_back(self->before), "the parent keeps the last owner's files");
	EXPECT_BACK();
}

/* An owner whose maps the daemon refuses all along. */
TEST_F(memory, refused_maps_cost_nothing)
{
	struct bench *b = &self->b;
	int i;

	if (variant->fate != REFUSES)
		SKIP(return, "this daemon does not refuse");
	OPEN_OWNED(b);
	vduse_plan(&b->v, VDUSE_UPDATE_IOTLB, (struct vduse_plan){ .act = VDUSE_REFUSE });
	for (i = 0; i < 3; i++)
		EXPECT_ERRNO(EFAULT, give_memory(b->fd));
	EXPECT_EQ(0, close(b->fd));
	b->fd = -1;
	EXPECT_BACK();
}

/*
 * A daemon that says nothing, by the timeout of its device: with 0 it may be silent for ever.
 */
FIXTURE(silent) {
	struct bench b;
};

FIXTURE_VARIANT(silent) {
	int version;
	int timeout;
	int limit;	/* ms within which a call has to end by itself, 0 for never */
};

FIXTURE_VARIANT_ADD(silent, v0_1s) {
	.version = 0,
	.timeout = 1,
	.limit = 20000,
};

FIXTURE_VARIANT_ADD(silent, v1_1s) {
	.version = 1,
	.timeout = 1,
	.limit = 20000,
};

FIXTURE_VARIANT_ADD(silent, v1_30s) {
	.version = 1,
	.timeout = 30,
	.limit = 45000,
};

FIXTURE_VARIANT_ADD(silent, v1_for_ever) {
	.version = 1,
	.timeout = 0,
};

FIXTURE_SETUP(silent)
{
	CREATE(&self->b, variant->version, 1, 1, variant->timeout, 0);
}

FIXTURE_TEARDOWN(silent)
{
	EXPECT_EQ(0, bench_end(&self->b));
}

/* Where the default timeout has nothing to show that a short one does not, nobody waits for it. */
#define NOT_30S() do {							\
	if (variant->timeout == 30)					\
		SKIP(return, "the variants with 1 s say it");		\
} while (0)

/* Own the device, and wait until the daemon's plans are made: the descriptor or -errno. */
static int client_opens(struct vduse *v)
{
	int fd = open_owned(v->node);

	if (fd < 0)
		return fd;
	STORE(v->s->client, 1);
	return WAIT_FOR(LOAD(v->s->client) == 2, 60000) ? fd : -ETIMEDOUT;
}

static int client_maps(void *v)
{
	int fd = client_opens(v);

	return fd < 0 ? fd : iotlb_map(fd, IOVA, PAGE, shared_pages(PAGE));
}

static int client_sets_status(void *v)
{
	int fd = client_opens(v);

	return fd < 0 ? fd : set_status(fd, STATUS_ACK);
}

static int client_asks_base(void *v)
{
	int fd = client_opens(v);

	return fd < 0 ? fd : vring_get(fd, VHOST_GET_VRING_BASE, 0);
}

static int client_closes(void *v)
{
	int fd = client_opens(v);

	return fd < 0 ? fd : close(fd);
}

/* Start a client whose call waits for the answer to a request of a type: one, or all of them. */
static int client_start(struct bench *b, int (*client)(void *), int type, int times)
{
	struct vduse *v = &b->v;
	int held = LOAD(v->s->held), r;

	STORE(v->s->client, 0);
	r = job_start(&b->jobs[0], client, v);
	if (r)
		return r;
	if (!WAIT_FOR(LOAD(v->s->client) == 1, PROMPT))
		return -ETIMEDOUT;
	vduse_plan(v, type, (struct vduse_plan){ .act = VDUSE_HOLD, .times = times });
	r = bench_hurry(b);
	STORE(v->s->client, 2);
	return r ?: WAIT_FOR(LOAD(v->s->held) > held, PROMPT) ? 0 : -ETIMEDOUT;
}

TEST_F(silent, update_fails)
{
	struct bench *b = &self->b;
	long start;

	if (!variant->limit)
		SKIP(return, "the client has to be killed: killed_client");
	OPEN_OWNED(b);
	vduse_plan(&b->v, VDUSE_UPDATE_IOTLB, (struct vduse_plan){ .act = VDUSE_HOLD });
	ASSERT_OK(bench_hurry(b));
	start = now_ms();
	EXPECT_ERRNO(EFAULT, iotlb_map(b->fd, IOVA, PAGE, own_pages(PAGE)));
	/* One timeout, not one for each of the messages that follow. */
	EXPECT_GT(variant->timeout * 1000 + PROMPT, now_ms() - start);
	/* The clock of an emulated machine and its timer differ by some milliseconds. */
	EXPECT_LE(variant->timeout * 900, now_ms() - start);
	EXPECT_ERRNO(EFAULT, iotlb_map(b->fd, IOVA, PAGE, own_pages(PAGE)));
	start = now_ms();
	EXPECT_EQ(0, close(b->fd));
	b->fd = -1;
	EXPECT_GT(PROMPT, now_ms() - start);
}

/* Whoever waits for an answer can be killed. What its close asks is answered here. */
TEST_F(silent, killed_client)
{
	static const struct {
		int (*client)(void *);
		int type;
	} calls[] = {
		{ client_maps, VDUSE_UPDATE_IOTLB },
		{ client_sets_status, VDUSE_SET_STATUS },
		{ client_asks_base, VDUSE_GET_VQ_STATE },
		{ client_closes, VDUSE_SET_STATUS },
	};
	struct bench *b = &self->b;
	int i;

	if (variant->timeout == 1)
		SKIP(return, "it would not wait long enough");
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		ASSERT_OK(client_start(b, calls[i].client, calls[i].type, 1));
		EXPECT_EQ(JOB_RUNS, job_wait(&b->jobs[0], 300));
		ASSERT_EQ(JOB_KILLED, job_kill(&b->jobs[0], PROMPT)) {
			TH_LOG("call %d cannot be killed", i);
		}
	}
	vduse_plan(&b->v, VDUSE_SET_STATUS, (struct vduse_plan){ .act = VDUSE_HOLD, .times = 1 });
	ASSERT_OK(bench_hurry(b));
	ASSERT_OK(job_start(&b->jobs[0], job_open, b->v.node));
	EXPECT_EQ(JOB_RUNS, job_wait(&b->jobs[0], 300));
	ASSERT_EQ(JOB_KILLED, job_kill(&b->jobs[0], PROMPT));
	/* A daemon that answers again finds nothing spoilt. */
	vduse_release(&b->v, true);
	ASSERT_TRUE(WAIT_FOR(!LOAD(b->v.s->held), PROMPT));
	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	EXPECT_OK(queue_echo(b, 0, 1));
}

/*
 * The daemon does not answer what the close of a killed client asks either. Nobody can kill a
 * process that is ending already: it takes one timeout, not one for each message. Without a
 * timeout it takes the daemon, as on C.
 */
TEST_F(silent, killed_client_is_not_answered)
{
	struct bench *b = &self->b;
	long start;
	int r;

	NOT_30S();
	ASSERT_OK(client_start(b, client_maps, VDUSE_UPDATE_IOTLB, 0));
	ASSERT_TRUE(vduse_stop(&b->v));
	vduse_plan_all(&b->v, VDUSE_ANSWER);
	start = now_ms();
	if (variant->limit) {
		EXPECT_EQ(JOB_KILLED, job_kill(&b->jobs[0], variant->limit));
		EXPECT_GT(variant->timeout * 1000 + PROMPT, now_ms() - start);
		return;
	}
	r = job_kill(&b->jobs[0], 1000);
	if (r == JOB_RUNS) {
		vduse_continue(&b->v);
		r = job_wait(&b->jobs[0], PROMPT);
	}
	EXPECT_EQ(JOB_KILLED, r);
}

/*
 * Removal and the tool that asks for the device meanwhile answer as soon as the message in
 * flight has timed out; with timeout 0, once those who wait were killed.
 */
static int silent_client(struct bench *b)
{
	int r = client_start(b, client_maps, VDUSE_UPDATE_IOTLB, 0);

	if (r)
		return r;
	/* From here on the daemon answers nothing at all. */
	if (!vduse_stop(&b->v))
		return -ECHILD;
	r = job_start(&b->jobs[1], job_del, (void *)NAME);
	usleep(300000);
	return r ?: job_start(&b->jobs[2], job_show, (void *)NAME);
}

TEST_F(silent, removal)
{
	struct bench *b = &self->b;
	long start;
	int r;

	C_WAITS();
	start = now_ms();
	ASSERT_OK(silent_client(b));
	if (variant->limit) {
		/* One timeout for the client's message, none after it: the device is broken then. */
		EXPECT_EQ(0, job_wait(&b->jobs[1], variant->limit));
		EXPECT_GT(variant->timeout * 1000 + PROMPT, now_ms() - start);
		EXPECT_EQ(-ENODEV, job_wait(&b->jobs[2], PROMPT));
		r = job_wait(&b->jobs[0], PROMPT);
		EXPECT_TRUE(r == -ENODEV || r == -EFAULT);
		return;
	}
	EXPECT_EQ(JOB_RUNS, job_wait(&b->jobs[1], 2000));
	EXPECT_EQ(JOB_RUNS, job_wait(&b->jobs[2], 0));
	EXPECT_EQ(JOB_KILLED, job_kill(&b->jobs[0], PROMPT));
	job_kill(&b->jobs[1], 0);
	EXPECT_NE(JOB_RUNS, job_wait(&b->jobs[1], PROMPT));
	EXPECT_EQ(-ENODEV, job_wait(&b->jobs[2], PROMPT));
	EXPECT_NE(0, access("/sys/bus/vdpa/devices/" NAME, F_OK));
}

TEST_F(silent, removal_is_killed_first)
{
	struct bench *b = &self->b;

	C_WAITS();
	if (variant->timeout == 1)
		SKIP(return, "it would not wait long enough");
	ASSERT_OK(silent_client(b));
	EXPECT_EQ(JOB_RUNS, job_wait(&b->jobs[1], 500));
	/* It waits for the client's call, and then for nothing any more. */
	job_kill(&b->jobs[1], 0);
	EXPECT_EQ(JOB_KILLED, job_kill(&b->jobs[0], PROMPT));
	EXPECT_NE(JOB_RUNS, job_wait(&b->jobs[1], PROMPT));
	EXPECT_EQ(-ENODEV, job_wait(&b->jobs[2], PROMPT));
	EXPECT_NE(0, access("/sys/bus/vdpa/devices/" NAME, F_OK));
}

/* Nobody is in a call, and the daemon does not answer the reset of the removal. */
TEST_F(silent, removal_while_idle)
{
	struct bench *b = &self->b;
	long start;

	C_WAITS();
	NOT_30S();
	OPEN_OWNED(b);
	ASSERT_OK(iotlb_map(b->fd, IOVA, PAGE, own_pages(PAGE)));
	ASSERT_TRUE(vduse_stop(&b->v));
	ASSERT_OK(bench_hurry(b));
	start = now_ms();
	ASSERT_OK(job_start(&b->jobs[1], job_del, (void *)NAME));
	if (variant->limit) {
		EXPECT_EQ(0, job_wait(&b->jobs[1], variant->limit));
		EXPECT_GT(variant->timeout * 1000 + PROMPT, now_ms() - start);
	} else {
		/* The removal has begun once the node is gone. */
		EXPECT_TRUE(WAIT_FOR(access(b->v.node, F_OK), PROMPT));
		EXPECT_EQ(JOB_RUNS, job_wait(&b->jobs[1], 1000));
		EXPECT_NE(JOB_RUNS, job_kill(&b->jobs[1], PROMPT));
	}
	EXPECT_NE(0, access("/sys/bus/vdpa/devices/" NAME, F_OK));
	EXPECT_ERRNO(ENODEV, get_status(b->fd));
}

/*
 * Groups and address spaces (version 1). VDUSE keeps the space of a group over a reset.
 */
FIXTURE(groups) {
	struct bench b;
};

FIXTURE_SETUP(groups)
{
	CREATE(&self->b, 1, 2, 2, -1, 0);
}

FIXTURE_TEARDOWN(groups)
{
	EXPECT_EQ(0, bench_end(&self->b));
}

/* An owner that puts group 1 into space 1, maps a page there, and goes. */
static int first_owner(const char *node)
{
	char *p = own_pages(PAGE);
	int fd = open_owned(node);
	int r = fd < 0 ? fd : 0;

	r = r ?: set_backend_features(fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID));
	r = r ?: set_group_asid(fd, 1, 1);
	r = r ?: iotlb_map_asid(fd, 1, IOVA, PAGE, p);
	if (fd >= 0)
		close(fd);
	return r;
}

TEST_F(groups, serve_their_own_space)
{
	struct bench *b = &self->b;

	OPEN_OWNED(b);
	ASSERT_OK(set_backend_features(b->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID)));
	ASSERT_OK(queues_init(b));
	ASSERT_OK(set_group_asid(b->fd, 1, 1));
	ASSERT_OK(iotlb_map(b->fd, IOVA, BENCH_MEM, b->mem));
	ASSERT_OK(queues_start(b, false));
	ASSERT_OK(queue_echo(b, 0, 1));
	/* Queue 1 reaches nothing of space 0. */
	EXPECT_ERRNO(ETIMEDOUT, (queue_post(b, 1, 2), queue_take(b, 1, 300)));
	ASSERT_OK(iotlb_map_asid(b->fd, 1, IOVA, BENCH_MEM, b->mem));
	EXPECT_OK(queue_take(b, 1, PROMPT));
}

TEST_F(groups, next_owner_finds_space_0)
{
	struct bench *b = &self->b;

	ASSERT_OK(first_owner(b->v.node));
	OPEN_OWNED(b);
	C_MAY_DIFFER(LOAD(b->v.s->asid[1]) == 1, "the next owner finds the last one's groups");
	EXPECT_EQ(0, LOAD(b->v.s->asid[1]));
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	EXPECT_OK(queue_echo(b, 0, 1));
	EXPECT_OK(queue_echo(b, 1, 2));
}

/* So does one after a reset: it asked for it. */
TEST_F(groups, keep_their_space_over_a_reset)
{
	struct bench *b = &self->b;

	OPEN_OWNED(b);
	ASSERT_OK(set_backend_features(b->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID)));
	ASSERT_OK(set_group_asid(b->fd, 1, 1));
	ASSERT_OK(set_status(b->fd, 0));
	EXPECT_EQ(1, LOAD(b->v.s->asid[1]));
}

TEST_F(groups, refusal_fails_the_open)
{
	struct bench *b = &self->b;
	int fd;

	ASSERT_OK(first_owner(b->v.node));
	vduse_plan(&b->v, VDUSE_SET_VQ_GROUP_ASID, (struct vduse_plan){ .act = VDUSE_REFUSE });
	fd = open(b->v.node, O_RDWR | O_CLOEXEC);
	if (on_c_driver() && fd >= 0 && LOAD(b->v.s->asid[1]) == 1) {
		close(fd);
		C_DIFFERS("the next owner finds the last one's groups");
		return;
	}
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(EIO, errno);
	if (fd >= 0)
		close(fd);
	vduse_plan_all(&b->v, VDUSE_ANSWER);
	OPEN_OWNED(b);
	EXPECT_EQ(0, LOAD(b->v.s->asid[1]));
}

/* Neither close nor removal tells it of groups: the daemon may be dead by then. */
TEST_F(groups, not_on_the_way_out)
{
	struct bench *b = &self->b;
	int seen;

	OPEN_OWNED(b);
	ASSERT_OK(set_backend_features(b->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID)));
	ASSERT_OK(set_group_asid(b->fd, 1, 1));
	seen = vduse_seen(&b->v, VDUSE_SET_VQ_GROUP_ASID);
	EXPECT_EQ(0, close(b->fd));
	b->fd = -1;
	EXPECT_EQ(seen, vduse_seen(&b->v, VDUSE_SET_VQ_GROUP_ASID));
	EXPECT_EQ(1, LOAD(b->v.s->asid[1]));
	C_WAITS();
	OPEN_OWNED(b);
	ASSERT_OK(set_backend_features(b->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID)));
	ASSERT_OK(set_group_asid(b->fd, 1, 1));
	seen = vduse_seen(&b->v, VDUSE_SET_VQ_GROUP_ASID);
	ASSERT_OK(job_start(&b->jobs[0], job_del, (void *)NAME));
	EXPECT_EQ(0, job_wait(&b->jobs[0], PROMPT));
	EXPECT_EQ(seen, vduse_seen(&b->v, VDUSE_SET_VQ_GROUP_ASID));
}

/* Each message of open() costs the daemon's time, while removal waits. */
TEST(open_with_many_address_spaces)
{
	struct bench b = {};
	int before, opened;
	long start;

	CREATE(&b, 1, 2, 512, -1, 0);
	before = vduse_seen_all(&b.v);
	start = now_ms();
	b.fd = open(b.v.node, O_RDWR | O_CLOEXEC);
	EXPECT_LE(0, b.fd);
	opened = vduse_seen_all(&b.v) - before;
	/* A reset, two groups, and the space that they are in. */
	EXPECT_GE(8, opened) {
		TH_LOG("open() sent %d messages and took %ld ms", opened, now_ms() - start);
	}
	if (b.fd >= 0)
		close(b.fd);
	b.fd = -1;
	opened = vduse_seen_all(&b.v) - before - opened;
	EXPECT_GE(8, opened) {
		TH_LOG("close() sent %d messages", opened);
	}
	EXPECT_EQ(0, bench_end(&b));
}

/*
 * What 7.3 lets a daemon ask for: F_SUSPEND, which gives the device suspend but no resume, and
 * F_QUEUE_READY, which makes set_vq_ready wait for the daemon. One that fails there breaks the
 * device: every message is EIO from then on.
 */
FIXTURE(features) {
	struct bench b;
};

FIXTURE_VARIANT(features) {
	int version;
	int timeout;
};

FIXTURE_VARIANT_ADD(features, v0) {
	.version = 0,
	.timeout = 1,
};

FIXTURE_VARIANT_ADD(features, v1) {
	.version = 1,
	.timeout = 1,
};

FIXTURE_VARIANT_ADD(features, v1_for_ever) {
	.version = 1,
	.timeout = 0,
};

FIXTURE_SETUP(features)
{
	uint64_t both = FEATURE(VDUSE_F_SUSPEND) | FEATURE(VDUSE_F_QUEUE_READY);

	self->b.fd = -1;
	if (!vduse_there())
		SKIP(return, "no " VDUSE_CONTROL);
	if ((vduse_offered() & both) != both)
		SKIP(return, "this kernel's VDUSE has neither F_SUSPEND nor F_QUEUE_READY: 7.3 has");
	CREATE(&self->b, variant->version, 1, 1, variant->timeout, both);
}

FIXTURE_TEARDOWN(features)
{
	EXPECT_EQ(0, bench_end(&self->b));
}

TEST_F(features, suspend_without_resume)
{
	struct bench *b = &self->b;
	struct vdpa_caps caps;
	uint64_t acks = BACKEND(IOTLB_MSG_V2) | BACKEND(SUSPEND);

	OPEN(b);
	ASSERT_OK(vdpa_get_caps(b->fd, &caps));
	EXPECT_TRUE(caps.backend & BACKEND(SUSPEND));
	EXPECT_FALSE(caps.backend & BACKEND(RESUME));
	EXPECT_ERRNO(EOPNOTSUPP, set_backend_features(b->fd, acks | BACKEND(RESUME)));
	ASSERT_OK(set_backend_features(b->fd, acks));
	ASSERT_OK(vioctl(b->fd, VHOST_SET_OWNER, NULL));
	/* Nothing runs yet. */
	EXPECT_OK(vioctl(b->fd, VHOST_VDPA_SUSPEND, NULL));
	EXPECT_EQ(0, vduse_seen(&b->v, VDUSE_SUSPEND));
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	ASSERT_OK(queue_echo(b, 0, 1));
	ASSERT_OK(vioctl(b->fd, VHOST_VDPA_SUSPEND, NULL));
	EXPECT_TRUE(LOAD(b->v.s->suspended));
	/* A kick goes nowhere, the position is told and may be set. */
	queue_post(b, 0, 2);
	EXPECT_ERRNO(ETIMEDOUT, queue_take(b, 0, 300));
	EXPECT_EQ(1, vring_get(b->fd, VHOST_GET_VRING_BASE, 0));
	EXPECT_OK(vring_state(b->fd, VHOST_SET_VRING_BASE, 0, 1));
	EXPECT_ERRNO(EOPNOTSUPP, vioctl(b->fd, VHOST_VDPA_RESUME, NULL));
	/* The way on is a reset. */
	ASSERT_OK(set_status(b->fd, 0));
	vq_init(&b->q[0], false, 16, b->mem, queue_iova(0));
	vq_init(&b->q[1], false, 16, b->mem + QUEUE_MEM, queue_iova(1));
	ASSERT_OK(queues_start(b, false));
	EXPECT_OK(queue_echo(b, 0, 3));
	EXPECT_OK(queue_echo(b, 1, 4));
}

TEST_F(features, suspend_is_refused)
{
	struct bench *b = &self->b;

	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	vduse_plan(&b->v, VDUSE_SUSPEND, (struct vduse_plan){ .act = VDUSE_REFUSE, .times = 1 });
	EXPECT_ERRNO(EIO, vioctl(b->fd, VHOST_VDPA_SUSPEND, NULL));
	/* It runs on, and its position is its own. */
	EXPECT_OK(queue_echo(b, 0, 1));
	EXPECT_ERRNO(EINVAL, vring_state(b->fd, VHOST_SET_VRING_BASE, 0, 1));
	EXPECT_OK(vioctl(b->fd, VHOST_VDPA_SUSPEND, NULL));
}

TEST_F(features, suspend_is_slow)
{
	struct bench *b = &self->b;
	struct call suspend;
	uint8_t status;

	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	vduse_plan(&b->v, VDUSE_SUSPEND, (struct vduse_plan){ .act = VDUSE_HOLD });
	ASSERT_EQ(0, ioctl_start(&suspend, b->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_TRUE(WAIT_FOR(LOAD(b->v.s->held) == 1, PROMPT));
	/* Until it says so it is not suspended. */
	EXPECT_OK(queue_echo(b, 0, 1));
	vduse_release(&b->v, true);
	EXPECT_EQ(0, call_wait(&suspend, PROMPT));
	EXPECT_OK(vioctl(b->fd, VHOST_VDPA_GET_STATUS, &status));
	EXPECT_EQ(STATUS_RUNNING, status);
}

/* The daemon dies over SUSPEND: who waits gets an error or is killed, and the next daemon goes on. */
TEST_F(features, suspend_and_death)
{
	struct bench *b = &self->b;
	struct call suspend;
	int status;

	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	ASSERT_OK(queue_echo(b, 0, 1));
	vduse_plan(&b->v, VDUSE_SUSPEND, (struct vduse_plan){ .act = VDUSE_DIE, .times = 1 });
	ASSERT_OK(bench_hurry(b));
	ASSERT_EQ(0, ioctl_start(&suspend, b->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_EQ(b->v.pid, waitpid(b->v.pid, &status, 0));
	b->v.pid = 0;
	if (variant->timeout) {
		EXPECT_EQ(-EIO, call_wait(&suspend, PROMPT));
		EXPECT_ERRNO(EINVAL, vring_state(b->fd, VHOST_SET_VRING_BASE, 0, 1));
		return;
	}
	EXPECT_EQ(CALL_WAITS, call_wait(&suspend, 300));
	ASSERT_OK(vduse_start(&b->v, true));
	EXPECT_EQ(0, call_wait(&suspend, PROMPT));
	EXPECT_EQ(1, vring_get(b->fd, VHOST_GET_VRING_BASE, 0));
}

static int client_suspends(void *arg)
{
	struct bench *b = arg;
	int fd = client_opens(&b->v), r;

	if (fd < 0)
		return fd;
	b->fd = fd;
	r = queues_init(b);
	r = r ?: queues_start(b, true);
	return r ?: vioctl(fd, VHOST_VDPA_SUSPEND, NULL);
}

static int client_enables(void *arg)
{
	struct bench *b = arg;
	int fd = client_opens(&b->v);

	return fd < 0 ? fd : vring_state(fd, VHOST_VDPA_SET_VRING_ENABLE, 0, 1);
}

TEST_F(features, removal_meanwhile)
{
	static const struct {
		int (*client)(void *);
		int type;
	} calls[] = {
		{ client_suspends, VDUSE_SUSPEND },
		{ client_enables, VDUSE_SET_VQ_READY },
	};
	struct bench *b = &self->b;
	int i, r;

	C_WAITS();
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		STORE(b->v.s->client, 0);
		ASSERT_OK(job_start(&b->jobs[0], calls[i].client, b));
		ASSERT_TRUE(WAIT_FOR(LOAD(b->v.s->client) == 1, PROMPT));
		vduse_plan(&b->v, calls[i].type, (struct vduse_plan){ .act = VDUSE_HOLD });
		ASSERT_OK(bench_hurry(b));
		STORE(b->v.s->client, 2);
		ASSERT_TRUE(WAIT_FOR(LOAD(b->v.s->held) == 1, PROMPT));
		ASSERT_TRUE(vduse_stop(&b->v));
		ASSERT_OK(job_start(&b->jobs[1], job_del, (void *)NAME));
		if (variant->timeout) {
			EXPECT_EQ(0, job_wait(&b->jobs[1], PROMPT));
			r = job_wait(&b->jobs[0], PROMPT);
			/* The op has no result. */
			EXPECT_TRUE(r == -ENODEV || r == (calls[i].client == client_enables ? 0 : -EIO));
		} else {
			EXPECT_EQ(JOB_RUNS, job_wait(&b->jobs[1], 500));
			EXPECT_EQ(JOB_KILLED, job_kill(&b->jobs[0], PROMPT));
			job_kill(&b->jobs[1], 0);
			EXPECT_NE(JOB_RUNS, job_wait(&b->jobs[1], PROMPT));
		}
		EXPECT_NE(0, access("/sys/bus/vdpa/devices/" NAME, F_OK));
		/* A device like the first one. */
		vduse_kill(&b->v);
		ASSERT_OK(vduse_destroy(&b->v));
		ASSERT_OK(bench_create(b, variant->version, 1, 1, variant->timeout,
				       FEATURE(VDUSE_F_SUSPEND) | FEATURE(VDUSE_F_QUEUE_READY)));
	}
}

TEST_F(features, queue_ready)
{
	struct bench *b = &self->b;

	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(queues_start(b, true));
	EXPECT_EQ(2, vduse_seen(&b->v, VDUSE_SET_VQ_READY));
	EXPECT_TRUE(LOAD(b->v.s->vq_ready[0]));
	EXPECT_TRUE(LOAD(b->v.s->vq_ready[1]));
	EXPECT_OK(queue_echo(b, 0, 1));
	ASSERT_OK(vring_state(b->fd, VHOST_VDPA_SET_VRING_ENABLE, 1, 0));
	EXPECT_FALSE(LOAD(b->v.s->vq_ready[1]));
	queue_post(b, 1, 2);
	EXPECT_ERRNO(ETIMEDOUT, queue_take(b, 1, 300));
	ASSERT_OK(vring_state(b->fd, VHOST_VDPA_SET_VRING_ENABLE, 1, 1));
	signal_eventfd(b->q[1].kick);
	EXPECT_OK(queue_take(b, 1, PROMPT));
}

TEST_F(features, queue_ready_is_slow)
{
	struct bench *b = &self->b;
	struct vhost_vring_state enable = { .index = 1, .num = 1 };
	struct call call;

	OPEN_OWNED(b);
	ASSERT_OK(queues_init(b));
	ASSERT_OK(iotlb_map(b->fd, IOVA, BENCH_MEM, b->mem));
	ASSERT_OK(negotiate(b->fd));
	ASSERT_OK(vq_set_up(&b->q[0], b->fd, 0, 0));
	ASSERT_OK(set_status(b->fd, STATUS_RUNNING));
	vduse_plan(&b->v, VDUSE_SET_VQ_READY, (struct vduse_plan){ .act = VDUSE_HOLD });
	ASSERT_EQ(0, ioctl_start(&call, b->fd, VHOST_VDPA_SET_VRING_ENABLE, &enable));
	ASSERT_TRUE(WAIT_FOR(LOAD(b->v.s->held) == 1, PROMPT));
	/* The other queue runs on. */
	EXPECT_OK(queue_echo(b, 0, 1));
	EXPECT_EQ(CALL_WAITS, call_wait(&call, 0));
	vduse_release(&b->v, true);
	EXPECT_EQ(0, call_wait(&call, PROMPT));
	EXPECT_TRUE(LOAD(b->v.s->vq_ready[1]));
}

/* The op has no result; the device is broken, and says so at the next call that has one. */
TEST_F(features, queue_ready_is_refused)
{
	struct bench *b = &self->b;
	struct job open_job = {};

	OPEN_OWNED(b);
	ASSERT_OK(iotlb_map(b->fd, IOVA, PAGE, own_pages(PAGE)));
	vduse_plan(&b->v, VDUSE_SET_VQ_READY, (struct vduse_plan){ .act = VDUSE_REFUSE });
	EXPECT_OK(vring_state(b->fd, VHOST_VDPA_SET_VRING_ENABLE, 0, 1));
	EXPECT_ERRNO(EIO, vring_get(b->fd, VHOST_GET_VRING_BASE, 0));
	EXPECT_ERRNO(EFAULT, iotlb_map(b->fd, IOVA + PAGE, PAGE, own_pages(PAGE)));
	EXPECT_ERRNO(EIO, set_status(b->fd, 0));
	EXPECT_EQ(0, close(b->fd));
	b->fd = -1;
	ASSERT_OK(job_start(&open_job, job_open, b->v.node));
	EXPECT_EQ(-EIO, job_wait(&open_job, PROMPT));
}

TEST_HARNESS_MAIN
