// SPDX-License-Identifier: GPL-2.0
/*
 * An irq bypass consumer for tests. Each open file watches one eventfd and says
 * whether a producer is connected to it, how often producers came and went, and
 * whether the producer's interrupt had a handler at these moments.
 */
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/irqbypass.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "irqbypass_test.h"

struct watch {
	struct irq_bypass_consumer consumer;
	struct eventfd_ctx *ctx;
	struct mutex lock;	/* of ctx */
	spinlock_t state_lock;
	struct irqbypass_test_state state;
};

static int watch_add(struct irq_bypass_consumer *consumer,
		     struct irq_bypass_producer *producer)
{
	struct watch *w = container_of(consumer, struct watch, consumer);

	spin_lock(&w->state_lock);
	w->state.connected = 1;
	w->state.adds++;
	w->state.irq = producer->irq;
	w->state.live_at_add = irq_has_action(producer->irq);
	spin_unlock(&w->state_lock);
	return 0;
}

static void watch_del(struct irq_bypass_consumer *consumer,
		      struct irq_bypass_producer *producer)
{
	struct watch *w = container_of(consumer, struct watch, consumer);

	spin_lock(&w->state_lock);
	w->state.connected = 0;
	w->state.dels++;
	w->state.live_at_del = irq_has_action(producer->irq);
	spin_unlock(&w->state_lock);
}

static int watch_open(struct inode *inode, struct file *file)
{
	struct watch *w = kzalloc(sizeof(*w), GFP_KERNEL);

	if (!w)
		return -ENOMEM;
	mutex_init(&w->lock);
	spin_lock_init(&w->state_lock);
	w->consumer.add_producer = watch_add;
	w->consumer.del_producer = watch_del;
	file->private_data = w;
	return 0;
}

static int watch_release(struct inode *inode, struct file *file)
{
	struct watch *w = file->private_data;

	irq_bypass_unregister_consumer(&w->consumer);
	if (w->ctx)
		eventfd_ctx_put(w->ctx);
	kfree(w);
	return 0;
}

static int watch_eventfd(struct watch *w, int fd)
{
	struct eventfd_ctx *ctx;
	int r;

	guard(mutex)(&w->lock);
	if (w->ctx)
		return -EBUSY;
	ctx = eventfd_ctx_fdget(fd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	r = irq_bypass_register_consumer(&w->consumer, ctx);
	if (r) {
		eventfd_ctx_put(ctx);
		return r;
	}
	w->ctx = ctx;
	return 0;
}

static long watch_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct watch *w = file->private_data;
	struct irqbypass_test_state state;

	switch (cmd) {
	case IRQBYPASS_TEST_WATCH:
		return watch_eventfd(w, arg);
	case IRQBYPASS_TEST_STATE:
		spin_lock(&w->state_lock);
		state = w->state;
		spin_unlock(&w->state_lock);
		return copy_to_user((void __user *)arg, &state, sizeof(state)) ?
			-EFAULT : 0;
	default:
		return -ENOTTY;
	}
}

static const struct file_operations watch_fops = {
	.owner		= THIS_MODULE,
	.open		= watch_open,
	.release	= watch_release,
	.unlocked_ioctl	= watch_ioctl,
};

static struct miscdevice watch_dev = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "irqbypass-test",
	.fops	= &watch_fops,
};
module_misc_device(watch_dev);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("irq bypass consumer for tests");
