// SPDX-License-Identifier: GPL-2.0
/*
 * Two calls at a time: one is stopped inside an op of the parent, the others are made
 * meanwhile. On the parent of selftests/modules/vdpa_test_parent.c, whose ops can be
 * stopped; see there.
 *
 * Whatever the order, the end is the same: the device is reset, has no maps and none
 * of our callbacks, nothing is pinned, and the next open works.
 */
#include <sys/sysmacros.h>

#include "vdpa_test.h"
#include "bus.h"
#include "call.h"
#include "test_parent.h"

#define NAME		"selftest_i"
#define PAGES		4
#define SETTLE_US	200000	/* for a thread to come to where it waits */
#define FINISH_MS	30000	/* for a call that waits for nobody any more */
#define MANY		2048	/* address spaces */

static int call_update(struct call *c)
{
	return iotlb_map(c->fd, 0x20000000, PAGE, c->arg);
}

static int call_close(struct call *c)
{
	return close(c->fd);
}

static int call_open(struct call *c)
{
	c->fd = node_open(c->path);
	return c->fd < 0 ? c->fd : 0;
}

static int call_unbind(struct call *c)
{
	return bus_unbind(NAME);
}

#define START(c, ...) do {						\
	(c) = (struct call) { __VA_ARGS__ };				\
	ASSERT_EQ(0, call_start(&(c)));					\
} while (0)

#define START_IOCTL(c, nr, argument) do {				\
	ASSERT_EQ(0, ioctl_start(&(c), self->fd, nr, argument));	\
} while (0)

/* Wait for the end of a call, and tell how it ended; or CALL_WAITS. */
static int finish(struct call *c)
{
	return call_wait(c, FINISH_MS);
}

FIXTURE(interleave) {
	char node[NODE_LEN];
	int fd;
	int ops;
	int event;
	char *mem;
	long system;
};

FIXTURE_VARIANT(interleave) {
	int style;
};

FIXTURE_VARIANT_ADD(interleave, set_map) {
	.style = STYLE_SET_MAP,
};

FIXTURE_VARIANT_ADD(interleave, dma_map) {
	.style = STYLE_DMA_MAP,
};

FIXTURE_VARIANT_ADD(interleave, user_addresses) {
	.style = STYLE_VA,
};

/* As above, where one kind of parent is enough, or only one will do. */
#define FIELDS_OF_ONE							\
	char node[NODE_LEN];						\
	int fd;								\
	int ops;							\
	int event;							\
	char *mem;							\
	long system
FIXTURE(one_parent) { FIELDS_OF_ONE; };
FIXTURE(va) { FIELDS_OF_ONE; };
FIXTURE(table) { FIELDS_OF_ONE; };
FIXTURE_VARIANT(table) { int style; };
FIXTURE_VARIANT_ADD(table, set_map) { .style = STYLE_SET_MAP, };
FIXTURE_VARIANT_ADD(table, user_addresses) { .style = STYLE_VA, };

#define ORDER(what, op, n) ASSERT_OK(ops_order(self->ops, what, op, n))
#define HOLD(op) ORDER("enter", op, 1)
#define GO(op) ORDER("go", op, 0)
#define AWAIT(op) ASSERT_OK(ops_wait(self->ops, op, 1))
#define CALLS(op) ops_told(self->ops, "calls_", op)
#define TOLD(key) told(NAME, key)

#define ADD_DEVICE(kind) do {						\
	ASSERT_OK(knob("style", kind));					\
	ASSERT_OK(parent_add(NAME, self->node));			\
	self->ops = ops_open(NAME);					\
	ASSERT_LE(0, self->ops);					\
} while (0)

#define SET_UP(kind) do {						\
	self->fd = self->ops = -1;					\
	TEST_PARENT_SETUP(NAME, kind);					\
	self->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);		\
	self->mem = shared_pages(PAGES * PAGE);				\
	ASSERT_NE(NULL, self->mem);					\
	ADD_DEVICE(kind);						\
	OPEN_NODE();							\
} while (0)

#define TEAR_DOWN() do {						\
	/* Whatever waits goes on. */					\
	close(self->ops);						\
	TEST_PARENT_TEARDOWN(NAME, self->fd);				\
	EXPECT_UNPINNED();						\
} while (0)

FIXTURE_SETUP(interleave) { SET_UP(variant->style); }
FIXTURE_TEARDOWN(interleave) { TEAR_DOWN(); }
FIXTURE_SETUP(one_parent) { SET_UP(STYLE_SET_MAP); }
FIXTURE_TEARDOWN(one_parent) { TEAR_DOWN(); }
FIXTURE_SETUP(va) { SET_UP(STYLE_VA); }
FIXTURE_TEARDOWN(va) { TEAR_DOWN(); }
FIXTURE_SETUP(table) { SET_UP(variant->style); }
FIXTURE_TEARDOWN(table) { TEAR_DOWN(); }

/* Wait until removal has shut the device for who opens it: till then a second open is EBUSY. */
static bool removal_begins(const char *node)
{
	int i, fd;

	for (i = 0; i < 2000; i++) {
		fd = open(node, O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			close(fd);
		else if (errno != EBUSY)
			return true;
		usleep(10000);
	}
	return false;
}

/* An owner with a running device that has maps and callbacks. */
static int set_up_all(int fd, int event, char *mem)
{
	int r = vioctl(fd, VHOST_SET_OWNER, NULL);

	r = r ?: iotlb_map(fd, 0x10000000, PAGES * PAGE, mem);
	r = r ?: vring_file(fd, VHOST_SET_VRING_CALL, 0, event);
	r = r ?: vioctl(fd, VHOST_VDPA_SET_CONFIG_CALL, &event);
	r = r ?: negotiate(fd);
	return r ?: set_status(fd, STATUS_RUNNING);
}

/* What has to be true of a parent that nobody has open: the number of the line that is not. */
static int check_at_rest(void)
{
	if (TOLD("status") != 0)
		return __LINE__;
	if (TOLD("ranges0") != 0)
		return __LINE__;
	if (TOLD("callback0") != 0 || TOLD("trigger0") != 0)
		return __LINE__;
	if (TOLD("config_callback") != 0)
		return __LINE__;
	if (TOLD("mm") != 0)
		return __LINE__;
	if (TOLD("unpinned") != 0)
		return __LINE__;
	return 0;
}

#define EXPECT_AT_REST() EXPECT_EQ(0, check_at_rest())

/* Bind again, open, map, close. */
#define EXPECT_SUCCESSOR() do {						\
	ASSERT_OK(bus_bind(NAME, self->node));			\
	OPEN_NODE();							\
	EXPECT_OK(set_up_all(self->fd, self->event, self->mem));	\
	CLOSE_NODE();							\
	EXPECT_AT_REST();						\
} while (0)

/* The calls beside which the others are made, and the op that each of them is stopped in. */
static const struct beside {
	const char *op;
	int (*fn)(struct call *c);
	unsigned long cmd;
} besides[] = {
	{ "get_status", call_ioctl, VHOST_VDPA_GET_STATUS },
	{ "set_status", call_ioctl, VHOST_VDPA_SET_STATUS },
	{ "get_config", call_ioctl, VHOST_VDPA_GET_CONFIG },
	{ "get_vq_state", call_ioctl, VHOST_GET_VRING_BASE },
	{ "set_vq_ready", call_ioctl, VHOST_VDPA_SET_VRING_ENABLE },
	{ "suspend", call_ioctl, VHOST_VDPA_SUSPEND },
	{ "map", call_update, 0 },
};

/*
 * A call is stopped inside the parent, the device is unbound, the file is closed; then
 * the call goes on, and its end is the end of the file, in the middle of the removal.
 */
TEST_F_TIMEOUT(interleave, last_close_beside_the_removal, 300)
{
	int i;

	C_WAITS();
	for (i = 0; i < ARRAY_SIZE(besides); i++) {
		const struct beside *b = &besides[i];
		const char *op = b->op;
		char arg[256] = {};
		struct call a, removal;
		long resets;

		/* The status that the device has, so that setting it is no change. */
		if (!strcmp(op, "set_status"))
			arg[0] = STATUS_RUNNING;
		if (!strcmp(op, "get_config"))
			((struct vhost_vdpa_config *)arg)->len = 8;
		if (!strcmp(op, "map"))
			op = variant->style == STYLE_DMA_MAP ? "dma_map" : "set_map";
		ASSERT_OK(set_up_all(self->fd, self->event, self->mem));
		resets = TOLD("resets");
		HOLD(op);
		START(a, .fn = b->fn, .fd = self->fd, .cmd = b->cmd,
		      .arg = b->fn == call_update ? self->mem : arg);
		AWAIT(op);
		START(removal, .fn = call_unbind);
		ASSERT_TRUE(removal_begins(self->node));
		EXPECT_FALSE(call_done(&removal));
		/* The call has the file: this is not the last. */
		CLOSE_NODE();
		GO(op);
		EXPECT_NE(CALL_WAITS, finish(&a));
		EXPECT_EQ(0, finish(&removal));
		EXPECT_AT_REST();
		EXPECT_EQ(resets + 1, TOLD("resets"));
		EXPECT_EQ(self->system, wait_pinned_system(self->system));
		if (_metadata->exit_code != KSFT_PASS)
			TH_LOG("beside %s", op);
		EXPECT_SUCCESSOR();
		OPEN_NODE();
	}
}

TEST_F(interleave, close_while_the_removal_resets)
{
	struct call a, closing, removal;
	uint8_t status;
	long resets;

	C_WAITS();
	ASSERT_OK(set_up_all(self->fd, self->event, self->mem));
	resets = TOLD("resets");
	HOLD("reset");
	START(removal, .fn = call_unbind);
	AWAIT("reset");
	/* Nobody waits for the removal. */
	START_IOCTL(a, VHOST_VDPA_GET_STATUS, &status);
	EXPECT_EQ(-ENODEV, finish(&a));
	START(closing, .fn = call_close, .fd = self->fd);
	EXPECT_EQ(0, finish(&closing));
	/* The device still runs: nothing of its memory has gone. */
	if (variant->style != STYLE_VA)
		EXPECT_LE(self->system + PAGES, pinned_system());
	GO("reset");
	EXPECT_EQ(0, finish(&removal));
	self->fd = -1;
	EXPECT_AT_REST();
	EXPECT_EQ(resets + 1, TOLD("resets"));
	EXPECT_SUCCESSOR();
}

TEST_F(interleave, removal_while_the_close_resets)
{
	struct call closing, removal;
	long resets;

	C_WAITS();
	ASSERT_OK(set_up_all(self->fd, self->event, self->mem));
	resets = TOLD("resets");
	HOLD("reset");
	START(closing, .fn = call_close, .fd = self->fd);
	AWAIT("reset");
	START(removal, .fn = call_unbind);
	ASSERT_TRUE(removal_begins(self->node));
	EXPECT_FALSE(call_done(&removal));
	GO("reset");
	EXPECT_EQ(0, finish(&closing));
	EXPECT_EQ(0, finish(&removal));
	self->fd = -1;
	EXPECT_AT_REST();
	EXPECT_EQ(resets + 1, TOLD("resets"));
	EXPECT_SUCCESSOR();
}

/* The device will not be reset: maps and callbacks go all the same, before the memory. */
TEST_F(interleave, failing_reset_beside_the_removal)
{
	struct call a, removal;
	uint8_t status;

	C_WAITS();
	ASSERT_OK(set_up_all(self->fd, self->event, self->mem));
	ORDER("fail", "reset", -1);
	HOLD("get_status");
	START_IOCTL(a, VHOST_VDPA_GET_STATUS, &status);
	AWAIT("get_status");
	START(removal, .fn = call_unbind);
	ASSERT_TRUE(removal_begins(self->node));
	CLOSE_NODE();
	GO("get_status");
	EXPECT_NE(CALL_WAITS, finish(&a));
	EXPECT_EQ(0, finish(&removal));
	EXPECT_EQ(STATUS_RUNNING, TOLD("status"));
	EXPECT_EQ(0, TOLD("ranges0"));
	EXPECT_EQ(0, TOLD("callback0"));
	EXPECT_EQ(0, TOLD("config_callback"));
	EXPECT_EQ(0, TOLD("unpinned"));
	EXPECT_EQ(0, TOLD("mm"));
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
	ORDER("fail", "reset", 0);
	EXPECT_SUCCESSOR();
}

/* An open is stopped in each of its ops while the device goes. */
TEST_F(interleave, open_beside_the_removal)
{
	static const char *const ops[] = { "reset", "get_vq_num_max", "set_group_asid", "map" };
	int i, fails;

	C_WAITS();
	for (i = 0; i < 2 * ARRAY_SIZE(ops); i++) {
		const char *op = ops[i / 2];
		struct call opening, removal;

		if (!strcmp(op, "map"))
			op = variant->style == STYLE_DMA_MAP ? "dma_unmap" : "set_map";
		fails = i % 2;
		CLOSE_NODE();
		/* The first open of a driver trusts nothing that it finds. */
		ASSERT_OK(bus_unbind(NAME));
		ASSERT_OK(bus_bind(NAME, self->node));
		HOLD(op);
		if (fails)
			ORDER("fail", op, 1);
		START(opening, .fn = call_open, .path = self->node);
		AWAIT(op);
		START(removal, .fn = call_unbind);
		ASSERT_TRUE(removal_begins(self->node));
		EXPECT_FALSE(call_done(&removal));
		GO(op);
		EXPECT_NE(CALL_WAITS, finish(&opening));
		EXPECT_EQ(0, finish(&removal));
		ORDER("fail", op, 0);
		EXPECT_AT_REST();
		if (opening.fd >= 0) {
			EXPECT_EQ(-ENODEV, get_status(opening.fd));
			close(opening.fd);
		}
		EXPECT_SUCCESSOR();
		OPEN_NODE();
	}
}

/* Removal waits for one op of an open, not for those of all address spaces. */
TEST_F(one_parent, removal_does_not_wait_for_the_whole_open)
{
	struct call opening, removal;
	long maps;

	C_WAITS();
	CLOSE_NODE();
	close(self->ops);
	ASSERT_OK(nl_del(NAME));
	ASSERT_OK(knob("spaces", MANY));
	ADD_DEVICE(STYLE_SET_MAP);
	HOLD("set_map");
	maps = CALLS("set_map");
	START(opening, .fn = call_open, .path = self->node);
	AWAIT("set_map");
	START(removal, .fn = call_unbind);
	ASSERT_TRUE(removal_begins(self->node));
	GO("set_map");
	EXPECT_EQ(-ENODEV, finish(&opening));
	EXPECT_EQ(0, finish(&removal));
	EXPECT_GE(maps + 4, CALLS("set_map"));
	EXPECT_EQ(1, TOLD("identity1"));
}

/*
 * VHOST_SET_OWNER is stopped inside the parent, which then refuses it. A kick that was
 * set meanwhile would be polled after its memory is gone.
 */
TEST_F(va, set_owner_is_one_step)
{
	struct vhost_vring_file file = { .index = 0, .fd = self->event };
	struct call owning, kick;

	HOLD("bind_mm");
	ORDER("fail", "bind_mm", 1);
	START_IOCTL(owning, VHOST_SET_OWNER, NULL);
	AWAIT("bind_mm");
	START_IOCTL(kick, VHOST_SET_VRING_KICK, &file);
	usleep(SETTLE_US);
	GO("bind_mm");
	EXPECT_EQ(-EIO, finish(&owning));
	/* Nobody was the owner at any time. */
	ASSERT_EQ(-EPERM, finish(&kick));
	EXPECT_EQ(0, TOLD("mm"));
	eventfd_write(self->event, 1);
	EXPECT_EQ(0, TOLD("kicks"));
	OWN();
	EXPECT_EQ(1, TOLD("mm"));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_KICK, 0, self->event));
	EXPECT_LT(0, TOLD("kicks"));
	CLOSE_NODE();
	eventfd_write(self->event, 1);
}

/* The same where it fails because the device is gone. */
TEST_F(va, set_owner_beside_the_removal)
{
	struct vhost_vring_file file = { .index = 0, .fd = self->event };
	struct call a, owning, kick, removal;
	uint8_t status = STATUS_ACK;
	int r;

	C_WAITS();
	HOLD("set_status");
	START_IOCTL(a, VHOST_VDPA_SET_STATUS, &status);
	AWAIT("set_status");
	START_IOCTL(owning, VHOST_SET_OWNER, NULL);
	usleep(SETTLE_US);
	START_IOCTL(kick, VHOST_SET_VRING_KICK, &file);
	START(removal, .fn = call_unbind);
	ASSERT_TRUE(removal_begins(self->node));
	GO("set_status");
	EXPECT_NE(CALL_WAITS, finish(&a));
	EXPECT_EQ(0, finish(&removal));
	EXPECT_EQ(-ENODEV, finish(&owning));
	r = finish(&kick);
	ASSERT_TRUE(r == -ENODEV || r == -EPERM);
	CLOSE_NODE();
	eventfd_write(self->event, 1);
	EXPECT_AT_REST();
	EXPECT_SUCCESSOR();
}

/* An owner that is refused leaves nothing, what it acked included, as in C. */
TEST_F(va, refused_owner_leaves_no_features)
{
	char path[128], *last = strrchr(self->node, '/') + 1;

	snprintf(path, sizeof(path), "/sys/kernel/debug/rust_vhost_vdpa/%s/state", last);
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID)));
	ORDER("fail", "bind_mm", 1);
	EXPECT_ERRNO(EIO, vioctl(self->fd, VHOST_SET_OWNER, NULL));
	OWN();
	if (!on_c_driver())
		EXPECT_EQ(0, read_key(path, "backend_features 0x0"));
	/* Without that ack an address space in a message is none. */
	EXPECT_OK(iotlb_map_asid(self->fd, 1, 0x10000000, PAGE, self->mem));
	EXPECT_EQ(1, TOLD("ranges0"));
}

/* Two acks beside each other: what is known afterwards is what one of them said, and all of it. */
TEST_F(va, acks_are_whole)
{
	uint64_t acks[] = {
		BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_BATCH),
		BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID),
	};
	char path[128], line[128], *last = strrchr(self->node, '/') + 1;
	unsigned long long known;
	uint8_t status = STATUS_ACK;
	struct call held, ack[2];
	int i, j;

	if (on_c_driver())
		SKIP(return, "C's debugfs does not tell");
	snprintf(path, sizeof(path), "/sys/kernel/debug/rust_vhost_vdpa/%s/state", last);
	OWN();
	for (i = 0; i < 20; i++) {
		FILE *f;

		/* Both wait for the call that the parent is in. */
		HOLD("set_status");
		START_IOCTL(held, VHOST_VDPA_SET_STATUS, &status);
		AWAIT("set_status");
		for (j = 0; j < 2; j++)
			START_IOCTL(ack[j], VHOST_SET_BACKEND_FEATURES, &acks[(i + j) % 2]);
		usleep(SETTLE_US / 10);
		EXPECT_FALSE(call_done(&ack[0]) || call_done(&ack[1]));
		GO("set_status");
		EXPECT_EQ(0, finish(&held));
		EXPECT_EQ(0, finish(&ack[0]));
		EXPECT_EQ(0, finish(&ack[1]));
		known = 0;
		f = fopen(path, "r");
		ASSERT_NE(NULL, f);
		while (fgets(line, sizeof(line), f))
			sscanf(line, "backend_features %llx", &known);
		fclose(f);
		EXPECT_TRUE(known == acks[0] || known == acks[1]) {
			TH_LOG("%#llx", known);
		}
	}
}

/*
 * A parent may have one register that selects a queue: no op may run while another
 * does, whichever calls they are of. Kicks and doorbells may.
 */
static const struct beside serialised[] = {
	{ "get_vq_size", call_ioctl, VHOST_VDPA_GET_VRING_SIZE },
	{ "get_vq_group", call_ioctl, VHOST_VDPA_GET_VRING_GROUP },
	{ "get_vq_state", call_ioctl, VHOST_GET_VRING_BASE },
	{ "get_vq_num_max", call_ioctl, VHOST_VDPA_GET_VRING_NUM },
	{ "get_status", call_ioctl, VHOST_VDPA_GET_STATUS },
	{ "get_device_features", call_ioctl, VHOST_GET_FEATURES },
	{ "get_device_id", call_ioctl, VHOST_VDPA_GET_DEVICE_ID },
	{ "get_config_size", call_ioctl, VHOST_VDPA_GET_CONFIG_SIZE },
	{ "get_config", call_ioctl, VHOST_VDPA_GET_CONFIG },
	{ "set_config", call_ioctl, VHOST_VDPA_SET_CONFIG },
	{ "set_map", call_update, 0 },
};

TEST_F_TIMEOUT(one_parent, one_op_at_a_time, 300)
{
	struct vhost_vring_state num = { .index = 0, .num = 32 };
	volatile uint32_t *bell;
	int i, held;

	OWN();
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_KICK, 0, self->event));
	bell = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, bell);
	for (i = 0; i < 2 * ARRAY_SIZE(serialised); i++) {
		const struct beside *b = &serialised[i / 2];
		const char *op = i % 2 ? b->op : "set_vq_num";
		char arg[256] = {};
		struct call setter, other;
		long kicks = TOLD("kicks");

		if (b->cmd == VHOST_VDPA_GET_CONFIG || b->cmd == VHOST_VDPA_SET_CONFIG)
			((struct vhost_vdpa_config *)arg)->len = 8;
		else
			arg[0] = 1;
		HOLD(op);
		held = 0;
		if (i % 2) {
			START(other, .fn = b->fn, .fd = self->fd, .cmd = b->cmd,
			      .arg = b->fn == call_update ? self->mem : arg);
			AWAIT(op);
			START_IOCTL(setter, VHOST_SET_VRING_NUM, &num);
			usleep(SETTLE_US / 4);
			held = !call_done(&setter);
		} else {
			START_IOCTL(setter, VHOST_SET_VRING_NUM, &num);
			AWAIT(op);
			START(other, .fn = b->fn, .fd = self->fd, .cmd = b->cmd,
			      .arg = b->fn == call_update ? self->mem : arg);
			usleep(SETTLE_US / 4);
			held = !call_done(&other);
		}
		EXPECT_TRUE(held);
		/* Neither waits for an op. */
		eventfd_write(self->event, 1);
		EXPECT_LT(kicks, TOLD("kicks"));
		*bell = i + 1;
		EXPECT_EQ(i + 1, TOLD("doorbell"));
		GO(op);
		EXPECT_EQ(0, finish(&setter));
		EXPECT_EQ(0, finish(&other));
		if (b->fn == call_update)
			ASSERT_OK(iotlb_unmap(self->fd, 0, 0));
		if (_metadata->exit_code != KSFT_PASS)
			TH_LOG("set_vq_num and %s, stopped in %s", b->op, op);
	}
	EXPECT_EQ(0, ops_told(self->ops, "overlaps", ""));
	munmap((void *)bell, PAGE);
}

/* A device that refuses a reset is as it was, and so is what the driver knows of it. */
TEST_F(table, refused_reset_changes_nothing)
{
	long maps;

	ASSERT_OK(set_up_all(self->fd, self->event, self->mem));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ORDER("fail", "reset", 1);
	EXPECT_ERRNO(EIO, set_status(self->fd, 0));
	EXPECT_EQ(STATUS_RUNNING, get_status(self->fd));
	if (on_c_driver()) {
		C_DIFFERS("suspended is forgotten");
		return;
	}
	/* It is suspended. */
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 7));
	EXPECT_OK(vring_state(self->fd, VHOST_SET_VRING_NUM, 0, 64));
	EXPECT_OK(vring_addr(self->fd, 0, 0x1000, 0x2000, 0x3000));
	/* The batch is open. */
	maps = CALLS("set_map");
	EXPECT_OK(iotlb_unmap(self->fd, 0, 0));
	EXPECT_EQ(maps, CALLS("set_map"));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_EQ(maps + 1, CALLS("set_map"));
	/* One that is not refused ends all of it. */
	EXPECT_OK(set_status(self->fd, 0));
	EXPECT_OK(set_status(self->fd, STATUS_DRIVER));
	EXPECT_OK(set_features(self->fd, FEATURES_MODERN));
	EXPECT_OK(set_status(self->fd, STATUS_RUNNING));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_BASE, 0, 7));
}

/* Struct files in the system. */
#define OPEN_FILES() read_key("/proc/sys/fs/file-nr", "")

/* Map and unmap one page of a file of its own: what holds the range holds the file. */
static int map_and_unmap(int fd, int expect)
{
	char *p = shared_pages(PAGE);
	int r;

	if (!p)
		return -ENOMEM;
	r = iotlb_map(fd, 0x10000000, PAGE, p);
	if (r == expect && !r)
		r = iotlb_unmap(fd, 0x10000000, PAGE);
	else if (r == expect)
		r = 0;
	munmap(p, PAGE);
	return r;
}

/* Nothing limits what root pins or shares, but what a batch holds has a bound. */
TEST_F_TIMEOUT(table, open_batch_holds_no_more_than_a_table, 300)
{
	long limit = on_c_driver() ? 2048 : iotlb_limit(), files, rounds, i;

	ASSERT_LT(0, limit);
	OWN();
	files = OPEN_FILES();
	rounds = 3 * limit;
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	for (i = 0; i < rounds; i++)
		ASSERT_OK(map_and_unmap(self->fd, 0));
	EXPECT_GE(2 * limit, pinned_self());
	EXPECT_GE(files + 2 * limit + 64, OPEN_FILES());
	ASSERT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_EQ(0, pinned_self());
	EXPECT_EQ(0, TOLD("unpinned"));
}

/* Nor is more held for a parent that refuses every table. */
TEST_F_TIMEOUT(table, refused_tables_hold_no_more_than_a_table, 300)
{
	long limit, files, i;

	if (on_c_driver())
		SKIP(return, "C differs: it defers no unpin");
	limit = iotlb_limit();
	ASSERT_LT(0, limit);
	OWN();
	files = OPEN_FILES();
	ORDER("fail", "set_map", -1);
	for (i = 0; i < 3 * limit; i++)
		ASSERT_OK(map_and_unmap(self->fd, -EFAULT));
	EXPECT_GE(2 * limit, pinned_self());
	EXPECT_GE(files + 2 * limit + 64, OPEN_FILES());
	ORDER("fail", "set_map", 0);
	EXPECT_OK(iotlb_unmap(self->fd, 0, 0));
	EXPECT_EQ(0, pinned_self());
}

/* A parent that is as good as dead keeps no memory: it holds what files it needs itself. */
TEST_F(va, dead_parent_keeps_no_files)
{
	const size_t len = 32UL << 20;
	long before = shmem_kib(), after = 0;
	char *p = shared_pages(len);
	int i;

	if (on_c_driver())
		SKIP(return, "C differs: it ignores that set_map failed");
	ASSERT_NE(NULL, p);
	OWN();
	ASSERT_OK(iotlb_map(self->fd, 0x10000000, len, p));
	ORDER("fail", "set_map", -1);
	ORDER("fail", "reset", -1);
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, 0, 0));
	munmap(p, len);
	EXPECT_LE(before + (long)(len >> 10) * 9 / 10, shmem_kib());
	CLOSE_NODE();
	for (i = 0; i < 50; i++) {
		after = shmem_kib();
		if (after < before + (long)(len >> 10) / 10)
			break;
		usleep(100000);
	}
	EXPECT_GT(before + (long)(len >> 10) / 10, after);
}

#define MOVE(group, asid) set_group_asid(self->fd, group, asid)

/* A parent that leaves groups where they are at a reset: the next owner finds them in space 0. */
TEST_F(va, groups_are_in_space_0_after_open)
{
	long moves;

	OWN();
	ASSERT_OK(MOVE(1, 1));
	EXPECT_EQ(1, TOLD("group1"));
	CLOSE_NODE();
	OPEN_NODE();
	if (on_c_driver()) {
		EXPECT_EQ(1, TOLD("group1"));
		C_DIFFERS("groups stay where they were");
		return;
	}
	EXPECT_EQ(0, TOLD("group1"));
	/* What is known to be there is not moved. */
	CLOSE_NODE();
	moves = CALLS("set_group_asid");
	OPEN_NODE();
	EXPECT_EQ(moves, CALLS("set_group_asid"));
	/* A refusal fails the open, and only that. */
	OWN();
	ASSERT_OK(MOVE(1, 1));
	CLOSE_NODE();
	ORDER("fail", "set_group_asid", 1);
	EXPECT_EQ(-1, open(self->node, O_RDWR | O_CLOEXEC));
	EXPECT_EQ(EIO, errno);
	EXPECT_AT_REST();
	OPEN_NODE();
	EXPECT_EQ(0, TOLD("group1"));
}

/* Removal leaves them, and the next open after it does not. */
TEST_F(va, groups_are_not_moved_on_removal)
{
	long moves;

	C_WAITS();
	OWN();
	ASSERT_OK(MOVE(1, 1));
	moves = CALLS("set_group_asid");
	ASSERT_OK(bus_unbind(NAME));
	EXPECT_EQ(moves, CALLS("set_group_asid"));
	EXPECT_EQ(1, TOLD("group1"));
	CLOSE_NODE();
	ASSERT_OK(bus_bind(NAME, self->node));
	OPEN_NODE();
	EXPECT_EQ(0, TOLD("group1"));
}

/* Where the parent has no default map, an open costs no op for each address space. */
TEST_F(va, open_costs_no_op_for_each_space)
{
	long maps, i;

	CLOSE_NODE();
	close(self->ops);
	ASSERT_OK(nl_del(NAME));
	ASSERT_OK(knob("spaces", MANY));
	ADD_DEVICE(STYLE_VA);
	for (i = 0; i < 3; i++) {
		maps = CALLS("set_map");
		OPEN_NODE();
		OWN();
		EXPECT_GE(maps + 1, CALLS("set_map"));
		maps = CALLS("set_map");
		CLOSE_NODE();
		EXPECT_GE(maps + 1, CALLS("set_map"));
	}
}

/* What somebody left in a space is gone before a group comes there, and before it is used. */
TEST_F(va, what_was_left_in_a_space_is_taken_away)
{
	int use;

	if (on_c_driver())
		SKIP(return, "C leaves the 1:1 map");
	for (use = 0; use < 2; use++) {
		ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
					       BACKEND(IOTLB_ASID)));
		OWN();
		ASSERT_OK(iotlb_map_asid(self->fd, 1, 0x10000000, PAGE, self->mem));
		ORDER("fail", "set_map", -1);
		CLOSE_NODE();
		ORDER("fail", "set_map", 0);
		EXPECT_EQ(1, TOLD("ranges1"));
		OPEN_NODE();
		OWN();
		if (use) {
			ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
						       BACKEND(IOTLB_ASID)));
			ASSERT_OK(iotlb_v2(self->fd, 1, VHOST_IOTLB_BATCH_BEGIN, 0, 0, NULL, 0));
		} else {
			/* A parent that keeps it gets no group there. */
			ORDER("fail", "set_map", 1);
			EXPECT_ERRNO(EIO, MOVE(1, 1));
			EXPECT_EQ(0, TOLD("group1"));
			ASSERT_OK(MOVE(1, 1));
		}
		EXPECT_EQ(0, TOLD("ranges1"));
		CLOSE_NODE();
		OPEN_NODE();
	}
}

/* An inode that was opened before remembers the device: it must not find the one that is gone. */
TEST_F(one_parent, node_of_a_device_that_is_gone)
{
	char path[] = "/tmp/interleavings-XXXXXX/node";
	struct stat st;
	int fd;

	C_WAITS();
	path[strlen(path) - 5] = 0;
	ASSERT_NE(NULL, mkdtemp(path));
	path[strlen(path)] = '/';
	ASSERT_EQ(0, stat(self->node, &st));
	ASSERT_EQ(0, mknod(path, S_IFCHR | 0600, st.st_rdev));
	CLOSE_NODE();
	self->fd = open(path, O_RDWR | O_CLOEXEC);
	if (self->fd < 0 && errno == EACCES)
		SKIP(goto out, "no device nodes here");
	ASSERT_LE(0, self->fd);
	ASSERT_OK(bus_unbind(NAME));
	EXPECT_EQ(-1, open(path, O_RDWR | O_CLOEXEC));
	EXPECT_EQ(ENODEV, errno);
	/* The number is another device's now, and so is the node. */
	ASSERT_OK(bus_bind(NAME, self->node));
	EXPECT_EQ(-ENODEV, get_status(self->fd));
	fd = node_open(path);
	EXPECT_LE(0, fd);
	EXPECT_EQ(0, get_status(fd));
	close(fd);
out:
	unlink(path);
	*strrchr(path, '/') = 0;
	rmdir(path);
}

/* The log says once why something was refused that an operator can change. */
TEST_F(one_parent, refusals_are_explained_once)
{
	long limit, i;
	int kmsg;
	char *p;

	if (on_c_driver())
		SKIP(return, "C says nothing");
	limit = iotlb_limit();
	kmsg = kmsg_open();
	ASSERT_LE(0, kmsg);
	OWN();
	p = private_pages(PAGE);
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	for (i = 0; i < limit; i++)
		ASSERT_OK(iotlb_map(self->fd, 0x10000000 + 2 * i * PAGE, PAGE, p));
	ASSERT_LE(0, lseek(kmsg, 0, SEEK_END));
	for (i = 0; i < 3; i++)
		EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, 0x1000, PAGE, p));
	EXPECT_EQ(1, kmsg_count(kmsg, "max_iotlb_entries="));
	ASSERT_OK(iotlb_unmap(self->fd, 0, 0));
	ASSERT_OK(iotlb_batch(self->fd, 0, false));

	/* A parent's own limit is no limit of ours: at a map, and at the end of a batch. */
	ORDER("full", "set_map", 2);
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, 0x1000, PAGE, p));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ORDER("full", "set_map", 1);
	EXPECT_ERRNO(EFAULT, iotlb_batch(self->fd, 0, false));
	EXPECT_EQ(1, kmsg_count(kmsg, "the parent's table"));

	ORDER("fail", "set_driver_features", 2);
	EXPECT_ERRNO(EINVAL, set_features(self->fd, FEATURES_MODERN));
	EXPECT_ERRNO(EINVAL, set_features(self->fd, FEATURES_MODERN));
	EXPECT_EQ(1, kmsg_count(kmsg, "refused features"));

	ASSERT_OK(limit_memlock(1));
	ASSERT_OK(drop_capabilities());
	for (i = 0; i < 3; i++)
		EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, 0x10000000, 2 * PAGE, self->mem));
	EXPECT_EQ(1, kmsg_count(kmsg, "RLIMIT_MEMLOCK"));
	close(kmsg);
}

TEST_HARNESS_MAIN
