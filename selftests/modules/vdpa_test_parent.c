// SPDX-License-Identifier: GPL-2.0
/*
 * A vDPA parent for tests: a device that moves no data, but says what it was
 * told, refuses what it is asked to refuse, and calls back all the time.
 *
 * "vdpa dev add name NAME mgmtdev vdpa_test" makes one. The module parameters may
 * be written at any time; debugfs, vdpa_test/NAME, has a "key value" line for each
 * counter and a "map ASID FIRST LAST ADDRESS PERM" line for each range that the
 * device could reach.
 *
 * Every op that may sleep can be stopped: debugfs, vdpa_test/NAME.ops, takes
 *
 *	enter OP N	the next N calls of OP wait before they do anything
 *	leave OP N	the next N calls of OP wait when they are done, before they return
 *	fail OP N	the next N calls of OP fail with EIO and do nothing (-1: all of them)
 *	full OP N	the same, with ENOSPC
 *	go OP		calls of OP that wait go on, and none waits any more
 *
 * and tells for each op how often it was called ("calls_OP N") and how many calls of it
 * wait ("waiting_OP N"), and how often an op was called while another one ran
 * ("overlaps N"). When the file is closed nothing waits or fails any more.
 *
 * That file holds the module. For its removal the parameter "order" takes the same orders for
 * the device that was made last, and tells which of its ops wait. What a device is left with
 * when it is deleted goes to the log, as "left NAME KEY VALUE...".
 */
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/vdpa.h>
#include <linux/vhost_iotlb.h>
#include <linux/workqueue.h>
#include <uapi/linux/vdpa.h>
#include <uapi/linux/virtio_ids.h>

#define NVQS	2
#define QUEUE	256
#define LIMIT	4096	/* ranges in an address space */

/*
 * What devices made from now on have. One with neither is for nobody: it has two address spaces.
 * STYLE_VA is like VDUSE: set_map with user addresses, no default map, a group for each queue,
 * and a reset that leaves maps and groups alone.
 */
enum { STYLE_SET_MAP, STYLE_DMA_MAP, STYLE_NEITHER, STYLE_VA };
static int style;
module_param(style, int, 0644);
MODULE_PARM_DESC(style, "0: set_map, 1: dma_map, 2: neither, 3: set_map with user addresses");

static int spaces = 2;
module_param(spaces, int, 0644);
MODULE_PARM_DESC(spaces, "address spaces of a device");

static unsigned int device_id = VIRTIO_ID_CONSOLE;
module_param(device_id, uint, 0644);
MODULE_PARM_DESC(device_id, "virtio device ID of a device");

static char *dma_dev;
module_param(dma_dev, charp, 0644);
MODULE_PARM_DESC(dma_dev, "PCI device behind an IOMMU that does the DMA of devices with neither");

/* How a device calls back, whenever it is running. */
enum { CALL_NONE, CALL_HARDIRQ, CALL_TRIGGER, CALL_WORKER };
static int call_mode;
module_param(call_mode, int, 0644);
MODULE_PARM_DESC(call_mode, "0: never, 1: from a timer's interrupt, 2: the trigger from there, 3: from a worker");
static unsigned int period_us = 100;
module_param(period_us, uint, 0644);

/* Calls that fail: the next N, or all of them (-1); each after as many that pass. */
struct knob {
	int fail;
	int skip;
};
static struct knob fail_set_map, fail_dma_map, fail_dma_unmap, fail_reset, fail_reset_map;
#define KNOB(name)							\
	module_param_named(name, name.fail, int, 0644);			\
	module_param_named(name##_after, name.skip, int, 0644)
KNOB(fail_set_map);
KNOB(fail_dma_map);
KNOB(fail_dma_unmap);
KNOB(fail_reset);
KNOB(fail_reset_map);

/* A parent whose set_map fails may be left with its old table, or with none. */
static bool lose_table;
module_param(lose_table, bool, 0644);

/* The ops that can be stopped: all but those that must not sleep. */
#define OPS(X)								\
	X(set_vq_address) X(set_vq_num) X(set_vq_cb) X(set_vq_ready)	\
	X(set_vq_state) X(get_vq_state) X(get_vq_size) X(get_vq_group)	\
	X(get_device_features) X(set_driver_features)			\
	X(get_driver_features) X(set_config_cb) X(get_vq_num_max)	\
	X(get_device_id) X(get_status) X(set_status) X(reset)		\
	X(suspend) X(resume) X(get_config_size) X(get_config)		\
	X(set_config) X(set_map) X(dma_map) X(dma_unmap) X(reset_map)	\
	X(set_group_asid) X(bind_mm) X(unbind_mm) X(get_vq_notification)

#define OP_ENUM(name)	OP_##name,
enum op { OPS(OP_ENUM) N_OPS };
#define OP_NAME(name)	#name,
static const char *const op_names[] = { OPS(OP_NAME) };

struct latch {
	int enter, leave, fail;		/* how many calls still to stop, or to fail */
	int err;			/* what they fail with */
	unsigned int gone;		/* how often those that wait were let go */
	unsigned long calls;
	int waiting;
};

struct queue {
	struct vdpa_callback cb;
	u16 base;
	bool ready;
};

struct test_dev {
	struct vdpa_device vdpa;
	struct mutex lock;		/* of the tables and counters */
	unsigned int nas;
	struct vhost_iotlb **maps;	/* of each address space */
	bool *identity;
	unsigned int groups[NVQS];	/* the address space of each */
	bool va;
	u32 device_id;
	bool suspended;
	struct mm_struct *mm;		/* compared, never followed */
	spinlock_t latch_lock;		/* of what follows */
	struct latch latches[N_OPS];
	int inside;			/* ops that run */
	unsigned long overlaps;
	wait_queue_head_t latch_wait;
	spinlock_t cb_lock;		/* of triggers, as in VDUSE */
	struct queue vqs[NVQS];
	struct vdpa_callback config_cb;
	u64 features;
	u8 status;
	struct hrtimer timer;
	struct work_struct work;
	struct page *doorbell;
	struct device *behind;		/* an IOMMU */
	struct dentry *file, *ops_file;
	u8 config[64];
	unsigned long set_maps, dma_maps, dma_unmaps, resets, cleans, reset_maps;
	unsigned long unpinned;
	atomic_t kicks, calls, config_cbs;
};

static struct dentry *debug_dir;

/* The device that was made last. */
static struct test_dev *latest;
static DEFINE_SPINLOCK(latest_lock);

static struct test_dev *to_test(struct vdpa_device *vdpa)
{
	return container_of(vdpa, struct test_dev, vdpa);
}

/* A call of an op, from its first to its last moment. */
struct op_call {
	struct test_dev *t;
	enum op op;
	int err;	/* what it is to fail with */
};

static bool let_go(struct test_dev *t, struct latch *l, unsigned int gone)
{
	guard(spinlock)(&t->latch_lock);
	return l->gone != gone;
}

/* Wait at a latch if *count says so. Called with latch_lock, which is dropped meanwhile. */
static void stop_at(struct test_dev *t, struct latch *l, int *count)
{
	unsigned int gone = l->gone;

	if (!*count)
		return;
	--*count;
	l->waiting++;
	spin_unlock(&t->latch_lock);
	/* Whoever holds the control file lets it go, or ends. */
	wait_event_idle(t->latch_wait, let_go(t, l, gone));
	spin_lock(&t->latch_lock);
	l->waiting--;
}

/* Doorbells may be asked for at any time, beside other ops. */
static bool runs_alone(enum op op)
{
	return op != OP_get_vq_notification;
}

static struct op_call op_begin(struct test_dev *t, enum op op)
{
	struct latch *l = &t->latches[op];
	struct op_call call = { .t = t, .op = op };

	guard(spinlock)(&t->latch_lock);
	l->calls++;
	if (runs_alone(op) && t->inside++)
		t->overlaps++;
	stop_at(t, l, &l->enter);
	if (l->fail) {
		if (l->fail > 0)
			l->fail--;
		call.err = l->err;
	}
	return call;
}

static void op_end(struct op_call *call)
{
	struct test_dev *t = call->t;
	struct latch *l = &t->latches[call->op];

	guard(spinlock)(&t->latch_lock);
	stop_at(t, l, &l->leave);
	if (runs_alone(call->op))
		t->inside--;
}

DEFINE_CLASS(op_call, struct op_call, op_end(&_T), op_begin(dev, which), struct test_dev *dev,
	     enum op which)

/* The rest of the function is a call of the op; locks taken after it are dropped before it ends. */
#define OP(t, name)		CLASS(op_call, op_call)(t, OP_##name)
#define OP_OR_FAIL(t, name)						\
	OP(t, name);							\
	if (op_call.err)						\
		return op_call.err

static bool fails(struct knob *k)
{
	if (!k->fail)
		return false;
	if (k->skip > 0) {
		k->skip--;
		return false;
	}
	if (k->fail > 0)
		k->fail--;
	return true;
}

/* Pages that the device can reach although nobody holds them for it. */
static void count_unpinned(struct test_dev *t, unsigned int asid, u64 first, u64 last)
{
	struct vhost_iotlb_map *map;
	u64 addr;

	if (t->va)
		return;
	for (map = vhost_iotlb_itree_first(t->maps[asid], first, last); map;
	     map = vhost_iotlb_itree_next(map, first, last))
		for (addr = map->addr; addr < map->addr + map->size; addr += PAGE_SIZE)
			if (!folio_maybe_dma_pinned(page_folio(pfn_to_page(PHYS_PFN(addr)))))
				t->unpinned++;
}

static void drop_maps(struct test_dev *t, unsigned int asid, u64 first, u64 last)
{
	count_unpinned(t, asid, first, last);
	vhost_iotlb_del_range(t->maps[asid], first, last);
}

static int test_set_map(struct vdpa_device *vdpa, unsigned int asid,
			struct vhost_iotlb *iotlb)
{
	struct test_dev *t = to_test(vdpa);
	struct vhost_iotlb_map *map;
	struct vhost_iotlb *new;
	int ret = 0;

	OP_OR_FAIL(t, set_map);
	guard(mutex)(&t->lock);
	t->set_maps++;
	if (fails(&fail_set_map)) {
		if (lose_table) {
			drop_maps(t, asid, 0, ULLONG_MAX);
			t->identity[asid] = false;
		}
		return -EIO;
	}
	/* All of the new table or none of it. */
	new = vhost_iotlb_alloc(LIMIT, 0);
	if (!new)
		return -ENOMEM;
	for (map = vhost_iotlb_itree_first(iotlb, 0, ULLONG_MAX); map && !ret;
	     map = vhost_iotlb_itree_next(map, 0, ULLONG_MAX))
		ret = vhost_iotlb_add_range(new, map->start, map->last, map->addr, map->perm);
	if (ret) {
		vhost_iotlb_free(new);
		return ret;
	}
	count_unpinned(t, asid, 0, ULLONG_MAX);
	vhost_iotlb_free(t->maps[asid]);
	t->maps[asid] = new;
	t->identity[asid] = false;
	return 0;
}

static int test_dma_map(struct vdpa_device *vdpa, unsigned int asid, u64 iova,
			u64 size, u64 pa, u32 perm, void *opaque)
{
	struct test_dev *t = to_test(vdpa);

	OP_OR_FAIL(t, dma_map);
	guard(mutex)(&t->lock);
	t->dma_maps++;
	if (fails(&fail_dma_map))
		return -EIO;
	t->identity[asid] = false;
	return vhost_iotlb_add_range(t->maps[asid], iova, iova + size - 1, pa, perm);
}

static int test_dma_unmap(struct vdpa_device *vdpa, unsigned int asid, u64 iova,
			  u64 size)
{
	struct test_dev *t = to_test(vdpa);

	OP_OR_FAIL(t, dma_unmap);
	guard(mutex)(&t->lock);
	t->dma_unmaps++;
	if (fails(&fail_dma_unmap))
		return -EIO;
	t->identity[asid] = false;
	drop_maps(t, asid, iova, iova + size - 1);
	return 0;
}

static int test_reset_map(struct vdpa_device *vdpa, unsigned int asid)
{
	struct test_dev *t = to_test(vdpa);

	OP_OR_FAIL(t, reset_map);
	guard(mutex)(&t->lock);
	t->reset_maps++;
	if (fails(&fail_reset_map))
		return -EIO;
	drop_maps(t, asid, 0, ULLONG_MAX);
	t->identity[asid] = true;
	return 0;
}

static int test_compat_reset(struct vdpa_device *vdpa, u32 flags)
{
	struct test_dev *t = to_test(vdpa);
	int i;

	OP_OR_FAIL(t, reset);
	guard(mutex)(&t->lock);
	t->resets++;
	if (fails(&fail_reset))
		return -EIO;
	/* Callbacks stay: some parents keep them, and the timer goes on. */
	t->status = 0;
	t->features = 0;
	t->suspended = false;
	if (!t->va)
		memset(t->groups, 0, sizeof(t->groups));
	for (i = 0; i < NVQS; i++) {
		t->vqs[i].ready = false;
		t->vqs[i].base = 0;
	}
	if (flags & VDPA_RESET_F_CLEAN_MAP) {
		t->cleans++;
		for (i = 0; i < t->nas; i++) {
			drop_maps(t, i, 0, ULLONG_MAX);
			t->identity[i] = true;
		}
	}
	return 0;
}

static int test_reset(struct vdpa_device *vdpa)
{
	return test_compat_reset(vdpa, 0);
}

static void call_back(struct test_dev *t)
{
	int i;

	/* Without a lock, as an interrupt handler does. */
	for (i = 0; i < NVQS; i++) {
		irqreturn_t (*callback)(void *) = READ_ONCE(t->vqs[i].cb.callback);

		if (!callback)
			continue;
		callback(READ_ONCE(t->vqs[i].cb.private));
		atomic_inc(&t->calls);
	}
}

static void call_config(struct test_dev *t)
{
	irqreturn_t (*callback)(void *) = READ_ONCE(t->config_cb.callback);

	if (callback) {
		callback(READ_ONCE(t->config_cb.private));
		atomic_inc(&t->config_cbs);
	}
}

static void trigger(struct test_dev *t)
{
	unsigned long flags;
	int i;

	spin_lock_irqsave(&t->cb_lock, flags);
	for (i = 0; i < NVQS; i++) {
		if (t->vqs[i].cb.trigger) {
			eventfd_signal(t->vqs[i].cb.trigger);
			atomic_inc(&t->calls);
		}
	}
	spin_unlock_irqrestore(&t->cb_lock, flags);
}

static void test_work(struct work_struct *work)
{
	/* set_vq_cb waits for nothing: this is RCU's, as an interrupt is. */
	guard(rcu)();
	call_back(container_of(work, struct test_dev, work));
}

/* Runs in hard interrupt context, from the device's birth to its end. */
static enum hrtimer_restart test_timer(struct hrtimer *timer)
{
	struct test_dev *t = container_of(timer, struct test_dev, timer);
	int mode = READ_ONCE(call_mode);

	switch (mode) {
	case CALL_HARDIRQ:
		call_back(t);
		call_config(t);
		break;
	case CALL_TRIGGER:
		trigger(t);
		break;
	case CALL_WORKER:
		queue_work(system_dfl_wq, &t->work);
		break;
	}
	hrtimer_forward_now(timer, mode ? us_to_ktime(max(period_us, 10U)) : ms_to_ktime(20));
	return HRTIMER_RESTART;
}

static void test_set_vq_cb(struct vdpa_device *vdpa, u16 idx, struct vdpa_callback *cb)
{
	struct test_dev *t = to_test(vdpa);
	unsigned long flags;

	OP(t, set_vq_cb);
	spin_lock_irqsave(&t->cb_lock, flags);
	t->vqs[idx].cb = *cb;
	spin_unlock_irqrestore(&t->cb_lock, flags);
}

static void test_set_config_cb(struct vdpa_device *vdpa, struct vdpa_callback *cb)
{
	OP(to_test(vdpa), set_config_cb);
	to_test(vdpa)->config_cb = *cb;
}

static int test_set_vq_address(struct vdpa_device *vdpa, u16 idx, u64 desc,
			       u64 driver, u64 device)
{
	OP_OR_FAIL(to_test(vdpa), set_vq_address);
	return 0;
}

static void test_set_vq_num(struct vdpa_device *vdpa, u16 idx, u32 num)
{
	OP(to_test(vdpa), set_vq_num);
}

static void test_kick_vq(struct vdpa_device *vdpa, u16 idx)
{
	atomic_inc(&to_test(vdpa)->kicks);
}

static void test_set_vq_ready(struct vdpa_device *vdpa, u16 idx, bool ready)
{
	OP(to_test(vdpa), set_vq_ready);
	to_test(vdpa)->vqs[idx].ready = ready;
}

static bool test_get_vq_ready(struct vdpa_device *vdpa, u16 idx)
{
	return to_test(vdpa)->vqs[idx].ready;
}

static int test_set_vq_state(struct vdpa_device *vdpa, u16 idx,
			     const struct vdpa_vq_state *state)
{
	OP_OR_FAIL(to_test(vdpa), set_vq_state);
	to_test(vdpa)->vqs[idx].base = state->split.avail_index;
	return 0;
}

static int test_get_vq_state(struct vdpa_device *vdpa, u16 idx,
			     struct vdpa_vq_state *state)
{
	OP_OR_FAIL(to_test(vdpa), get_vq_state);
	state->split.avail_index = to_test(vdpa)->vqs[idx].base;
	return 0;
}

static struct vdpa_notification_area
test_get_vq_notification(struct vdpa_device *vdpa, u16 idx)
{
	OP(to_test(vdpa), get_vq_notification);
	return (struct vdpa_notification_area) {
		.addr = page_to_phys(to_test(vdpa)->doorbell),
		.size = PAGE_SIZE,
	};
}

static u32 test_get_vq_align(struct vdpa_device *vdpa)
{
	return PAGE_SIZE;
}

static u32 test_get_vq_group(struct vdpa_device *vdpa, u16 idx)
{
	OP(to_test(vdpa), get_vq_group);
	return to_test(vdpa)->va ? idx : 0;
}

static u16 test_get_vq_size(struct vdpa_device *vdpa, u16 idx)
{
	OP(to_test(vdpa), get_vq_size);
	return QUEUE;
}

#define FEATURES (BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(VIRTIO_F_ACCESS_PLATFORM))

static u64 test_get_device_features(struct vdpa_device *vdpa)
{
	OP(to_test(vdpa), get_device_features);
	return FEATURES;
}

static int test_set_driver_features(struct vdpa_device *vdpa, u64 features)
{
	OP_OR_FAIL(to_test(vdpa), set_driver_features);
	to_test(vdpa)->features = features & FEATURES;
	return 0;
}

static u64 test_get_driver_features(struct vdpa_device *vdpa)
{
	OP(to_test(vdpa), get_driver_features);
	return to_test(vdpa)->features;
}

static u16 test_get_vq_num_max(struct vdpa_device *vdpa)
{
	OP(to_test(vdpa), get_vq_num_max);
	return QUEUE;
}

static u32 test_get_device_id(struct vdpa_device *vdpa)
{
	OP(to_test(vdpa), get_device_id);
	return to_test(vdpa)->device_id;
}

static u32 test_get_vendor_id(struct vdpa_device *vdpa)
{
	return 0;
}

static u8 test_get_status(struct vdpa_device *vdpa)
{
	OP(to_test(vdpa), get_status);
	return to_test(vdpa)->status;
}

static void test_set_status(struct vdpa_device *vdpa, u8 status)
{
	OP(to_test(vdpa), set_status);
	to_test(vdpa)->status = status;
}

static int test_suspend(struct vdpa_device *vdpa)
{
	OP_OR_FAIL(to_test(vdpa), suspend);
	to_test(vdpa)->suspended = true;
	return 0;
}

static int test_resume(struct vdpa_device *vdpa)
{
	OP_OR_FAIL(to_test(vdpa), resume);
	to_test(vdpa)->suspended = false;
	return 0;
}

static size_t test_get_config_size(struct vdpa_device *vdpa)
{
	OP(to_test(vdpa), get_config_size);
	return sizeof(to_test(vdpa)->config);
}

static void test_get_config(struct vdpa_device *vdpa, unsigned int offset,
			    void *buf, unsigned int len)
{
	struct test_dev *t = to_test(vdpa);

	OP(t, get_config);
	if (offset <= sizeof(t->config) && len <= sizeof(t->config) - offset)
		memcpy(buf, t->config + offset, len);
}

static void test_set_config(struct vdpa_device *vdpa, unsigned int offset,
			    const void *buf, unsigned int len)
{
	struct test_dev *t = to_test(vdpa);

	OP(t, set_config);
	if (offset <= sizeof(t->config) && len <= sizeof(t->config) - offset)
		memcpy(t->config + offset, buf, len);
}

static int test_set_group_asid(struct vdpa_device *vdpa, unsigned int group,
			       unsigned int asid)
{
	struct test_dev *t = to_test(vdpa);

	OP_OR_FAIL(t, set_group_asid);
	if (group >= vdpa->ngroups || asid >= t->nas)
		return -EINVAL;
	t->groups[group] = asid;
	return 0;
}

static int test_bind_mm(struct vdpa_device *vdpa, struct mm_struct *mm)
{
	OP_OR_FAIL(to_test(vdpa), bind_mm);
	to_test(vdpa)->mm = mm;
	return 0;
}

static void test_unbind_mm(struct vdpa_device *vdpa)
{
	OP(to_test(vdpa), unbind_mm);
	to_test(vdpa)->mm = NULL;
}

static void remove_files(struct test_dev *t)
{
	debugfs_remove(t->ops_file);
	debugfs_remove(t->file);
	t->ops_file = t->file = NULL;
}

static void test_free(struct vdpa_device *vdpa)
{
	struct test_dev *t = to_test(vdpa);
	int i;

	scoped_guard(spinlock, &latest_lock)
		if (latest == t)
			latest = NULL;
	remove_files(t);
	hrtimer_cancel(&t->timer);
	cancel_work_sync(&t->work);
	for (i = 0; t->maps && i < t->nas; i++)
		if (t->maps[i])
			vhost_iotlb_free(t->maps[i]);
	kvfree(t->maps);
	kvfree(t->identity);
	put_device(t->behind);
	if (t->doorbell)
		__free_page(t->doorbell);
}

#define COMMON_OPS					\
	.set_vq_address = test_set_vq_address,		\
	.set_vq_num = test_set_vq_num,			\
	.kick_vq = test_kick_vq,			\
	.set_vq_cb = test_set_vq_cb,			\
	.set_vq_ready = test_set_vq_ready,		\
	.get_vq_ready = test_get_vq_ready,		\
	.set_vq_state = test_set_vq_state,		\
	.get_vq_state = test_get_vq_state,		\
	.get_vq_notification = test_get_vq_notification,\
	.get_vq_align = test_get_vq_align,		\
	.get_vq_group = test_get_vq_group,		\
	.get_vq_size = test_get_vq_size,		\
	.get_device_features = test_get_device_features,\
	.set_driver_features = test_set_driver_features,\
	.get_driver_features = test_get_driver_features,\
	.set_config_cb = test_set_config_cb,		\
	.get_vq_num_max = test_get_vq_num_max,		\
	.get_device_id = test_get_device_id,		\
	.get_vendor_id = test_get_vendor_id,		\
	.get_status = test_get_status,			\
	.set_status = test_set_status,			\
	.suspend = test_suspend,			\
	.resume = test_resume,				\
	.reset = test_reset,				\
	.get_config_size = test_get_config_size,	\
	.get_config = test_get_config,			\
	.set_config = test_set_config,			\
	.set_group_asid = test_set_group_asid,		\
	.free = test_free

#define DEFAULT_MAP_OPS					\
	.compat_reset = test_compat_reset,		\
	.reset_map = test_reset_map

static const struct vdpa_config_ops set_map_ops = {
	COMMON_OPS,
	DEFAULT_MAP_OPS,
	.set_map = test_set_map,
};

static const struct vdpa_config_ops dma_map_ops = {
	COMMON_OPS,
	DEFAULT_MAP_OPS,
	.dma_map = test_dma_map,
	.dma_unmap = test_dma_unmap,
};

static const struct vdpa_config_ops neither_ops = {
	COMMON_OPS,
	DEFAULT_MAP_OPS,
};

static const struct vdpa_config_ops va_ops = {
	COMMON_OPS,
	.set_map = test_set_map,
	.bind_mm = test_bind_mm,
	.unbind_mm = test_unbind_mm,
};

static int state_show(struct seq_file *s, void *unused)
{
	struct test_dev *t = s->private;
	struct vhost_iotlb_map *map;
	int i;

	guard(mutex)(&t->lock);
	seq_printf(s, "set_maps %lu\ndma_maps %lu\ndma_unmaps %lu\nresets %lu\n",
		   t->set_maps, t->dma_maps, t->dma_unmaps, t->resets);
	seq_printf(s, "cleans %lu\nreset_maps %lu\nunpinned %lu\nstatus %u\n",
		   t->cleans, t->reset_maps, t->unpinned, t->status);
	seq_printf(s, "kicks %d\ncalls %d\nconfig_calls %d\n", atomic_read(&t->kicks),
		   atomic_read(&t->calls), atomic_read(&t->config_cbs));
	for (i = 0; i < NVQS; i++)
		seq_printf(s, "callback%d %d\ntrigger%d %d\n", i, !!t->vqs[i].cb.callback,
			   i, !!t->vqs[i].cb.trigger);
	seq_printf(s, "config_callback %d\ndoorbell %u\n", !!t->config_cb.callback,
		   *(u32 *)page_address(t->doorbell));
	seq_printf(s, "group0 %u\ngroup1 %u\nmm %d\nsuspended %d\n", t->groups[0],
		   t->groups[1], !!t->mm, t->suspended);
	for (i = 0; i < t->nas; i++) {
		if (i > 1 && !t->identity[i] && !t->maps[i]->nmaps)
			continue;
		seq_printf(s, "identity%d %d\nranges%d %u\n", i, t->identity[i], i,
			   t->maps[i]->nmaps);
		for (map = vhost_iotlb_itree_first(t->maps[i], 0, ULLONG_MAX); map;
		     map = vhost_iotlb_itree_next(map, 0, ULLONG_MAX))
			seq_printf(s, "map %d %#llx %#llx %#llx %u\n", i, map->start,
				   map->last, map->addr, map->perm);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

static int ops_show(struct seq_file *s, void *unused)
{
	struct test_dev *t = s->private;
	int i;

	guard(spinlock)(&t->latch_lock);
	seq_printf(s, "overlaps %lu\n", t->overlaps);
	for (i = 0; i < N_OPS; i++)
		seq_printf(s, "calls_%s %lu\nwaiting_%s %d\n", op_names[i],
			   t->latches[i].calls, op_names[i], t->latches[i].waiting);
	return 0;
}

static void latch_go(struct test_dev *t, struct latch *l)
{
	scoped_guard(spinlock, &t->latch_lock) {
		l->enter = l->leave = 0;
		l->gone++;
	}
	wake_up_all(&t->latch_wait);
}

static int take_order(struct test_dev *t, const char *text)
{
	char what[16], name[32];
	struct latch *l;
	int n = 0, i;

	if (sscanf(text, "%15s %31s %d", what, name, &n) < 2)
		return -EINVAL;
	i = match_string(op_names, N_OPS, name);
	if (i < 0)
		return i;
	l = &t->latches[i];
	if (!strcmp(what, "go")) {
		latch_go(t, l);
		return 0;
	}
	guard(spinlock)(&t->latch_lock);
	if (!strcmp(what, "enter")) {
		l->enter = n;
	} else if (!strcmp(what, "leave")) {
		l->leave = n;
	} else if (!strcmp(what, "fail")) {
		l->fail = n;
		l->err = -EIO;
	} else if (!strcmp(what, "full")) {
		l->fail = n;
		l->err = -ENOSPC;
	} else {
		return -EINVAL;
	}
	return 0;
}

static ssize_t ops_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	char text[64];
	int ret;

	if (len >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, len))
		return -EFAULT;
	text[len] = 0;
	ret = take_order(file_inode(file)->i_private, text);
	return ret ?: len;
}

/* The device that was made last, held; or NULL. */
static struct test_dev *get_latest(void)
{
	guard(spinlock)(&latest_lock);
	if (!latest || !kobject_get_unless_zero(&latest->vdpa.dev.kobj))
		return NULL;
	return latest;
}

static int order_set(const char *text, const struct kernel_param *unused)
{
	struct test_dev *t = get_latest();
	int ret;

	if (!t)
		return -ENODEV;
	ret = take_order(t, text);
	put_device(&t->vdpa.dev);
	return ret;
}

static int order_get(char *buf, const struct kernel_param *unused)
{
	struct test_dev *t = get_latest();
	int i, n = 0;

	if (!t)
		return -ENODEV;
	scoped_guard(spinlock, &t->latch_lock)
		for (i = 0; i < N_OPS; i++)
			if (t->latches[i].waiting)
				n += sysfs_emit_at(buf, n, "waiting_%s %d\n", op_names[i],
						   t->latches[i].waiting);
	put_device(&t->vdpa.dev);
	return n;
}

static const struct kernel_param_ops order_ops = {
	.set = order_set,
	.get = order_get,
};
module_param_cb(order, &order_ops, NULL, 0600);
MODULE_PARM_DESC(order, "orders for the ops of the device that was made last");

static int ops_open(struct inode *inode, struct file *file)
{
	struct test_dev *t = inode->i_private;
	int ret = single_open(file, ops_show, t);

	/* Those that are written to may outlive the device. */
	if (!ret && file->f_mode & FMODE_WRITE)
		get_device(&t->vdpa.dev);
	return ret;
}

static int ops_release(struct inode *inode, struct file *file)
{
	struct test_dev *t = inode->i_private;
	int i;

	if (file->f_mode & FMODE_WRITE) {
		for (i = 0; i < N_OPS; i++) {
			scoped_guard(spinlock, &t->latch_lock)
				t->latches[i].fail = 0;
			latch_go(t, &t->latches[i]);
		}
		put_device(&t->vdpa.dev);
	}
	return single_release(inode, file);
}

static const struct file_operations ops_fops = {
	.owner		= THIS_MODULE,
	.open		= ops_open,
	.read		= seq_read,
	.write		= ops_write,
	.llseek		= seq_lseek,
	.release	= ops_release,
};

static struct vdpa_mgmt_dev mgmt_dev;

static int test_dev_add(struct vdpa_mgmt_dev *mdev, const char *name,
			const struct vdpa_dev_set_config *config)
{
	const struct vdpa_config_ops *ops = &set_map_ops;
	bool va = style == STYLE_VA;
	struct test_dev *t;
	int i, ret = -ENOMEM;
	char file[64];

	if (style == STYLE_DMA_MAP)
		ops = &dma_map_ops;
	else if (style == STYLE_NEITHER)
		ops = &neither_ops;
	else if (va)
		ops = &va_ops;
	t = vdpa_alloc_device(struct test_dev, vdpa, NULL, ops, NULL, va ? NVQS : 1,
			      clamp(spaces, 1, 65535), name, va);
	if (IS_ERR(t))
		return PTR_ERR(t);
	t->va = va;
	t->device_id = device_id;
	t->nas = t->vdpa.nas;
	spin_lock_init(&t->latch_lock);
	init_waitqueue_head(&t->latch_wait);
	mutex_init(&t->lock);
	spin_lock_init(&t->cb_lock);
	INIT_WORK(&t->work, test_work);
	/* An interrupt like a device's: not one that PREEMPT_RT leaves without a thread. */
	hrtimer_setup(&t->timer, test_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	t->vdpa.mdev = mdev;
	t->vdpa.dev.dma_mask = &t->vdpa.dev.coherent_dma_mask;
	if (dma_set_mask_and_coherent(&t->vdpa.dev, DMA_BIT_MASK(64)))
		goto put;
	t->vdpa.vmap.dma_dev = &t->vdpa.dev;
	if (ops == &neither_ops && dma_dev && *dma_dev) {
		/* What is written to a parameter may end with a newline. */
		t->behind = bus_find_device_by_name(&pci_bus_type, NULL, strim(dma_dev));
		ret = -ENODEV;
		if (!t->behind)
			goto put;
		t->vdpa.vmap.dma_dev = t->behind;
		ret = -ENOMEM;
	}
	t->doorbell = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!t->doorbell)
		goto put;
	t->maps = kvcalloc(t->nas, sizeof(*t->maps), GFP_KERNEL);
	t->identity = kvcalloc(t->nas, sizeof(*t->identity), GFP_KERNEL);
	if (!t->maps || !t->identity)
		goto put;
	for (i = 0; i < t->nas; i++) {
		t->maps[i] = vhost_iotlb_alloc(LIMIT, 0);
		if (!t->maps[i])
			goto put;
		t->identity[i] = !va;
	}
	t->file = debugfs_create_file(name, 0444, debug_dir, t, &state_fops);
	snprintf(file, sizeof(file), "%s.ops", name);
	t->ops_file = debugfs_create_file(file, 0600, debug_dir, t, &ops_fops);
	hrtimer_start(&t->timer, ms_to_ktime(1), HRTIMER_MODE_REL);
	scoped_guard(spinlock, &latest_lock)
		latest = t;
	ret = _vdpa_register_device(&t->vdpa, NVQS);
	if (!ret)
		return 0;
put:
	put_device(&t->vdpa.dev);
	return ret;
}

static void tell_what_is_left(struct test_dev *t)
{
	int i, ranges = 0, callbacks = !!t->config_cb.callback;

	for (i = 0; i < t->nas; i++)
		ranges += t->maps[i]->nmaps;
	for (i = 0; i < NVQS; i++)
		callbacks += t->vqs[i].cb.callback || t->vqs[i].cb.trigger;
	pr_info("left %s status %u ranges %d callbacks %d mm %d unpinned %lu\n",
		dev_name(&t->vdpa.dev), t->status, ranges, callbacks, !!t->mm, t->unpinned);
}

static void test_dev_del(struct vdpa_mgmt_dev *mdev, struct vdpa_device *vdpa)
{
	struct test_dev *t = to_test(vdpa);

	get_device(&vdpa->dev);
	_vdpa_unregister_device(vdpa);
	tell_what_is_left(t);
	/* Their names are free again even if someone holds one open. */
	remove_files(t);
	put_device(&vdpa->dev);
}

static const struct vdpa_mgmtdev_ops mgmt_ops = {
	.dev_add = test_dev_add,
	.dev_del = test_dev_del,
};

static struct virtio_device_id id_table[] = {
	{ VIRTIO_ID_CONSOLE, VIRTIO_DEV_ANY_ID },
	{ 0 },
};

static struct device *root;

static int __init test_init(void)
{
	int ret;

	root = root_device_register("vdpa_test");
	if (IS_ERR(root))
		return PTR_ERR(root);
	debug_dir = debugfs_create_dir("vdpa_test", NULL);
	mgmt_dev.device = root;
	mgmt_dev.ops = &mgmt_ops;
	mgmt_dev.id_table = id_table;
	mgmt_dev.max_supported_vqs = NVQS;
	ret = vdpa_mgmtdev_register(&mgmt_dev);
	if (ret) {
		debugfs_remove(debug_dir);
		root_device_unregister(root);
	}
	return ret;
}
module_init(test_init);

static void __exit test_exit(void)
{
	vdpa_mgmtdev_unregister(&mgmt_dev);
	debugfs_remove(debug_dir);
	root_device_unregister(root);
}
module_exit(test_exit);

MODULE_DESCRIPTION("A vDPA parent for tests");
MODULE_LICENSE("GPL");
