/* SPDX-License-Identifier: GPL-2.0 */
/* What the irq bypass test consumer tells userspace. */
#ifndef IRQBYPASS_TEST_H
#define IRQBYPASS_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define IRQBYPASS_TEST_NODE	"/dev/irqbypass-test"

struct irqbypass_test_state {
	__u32 connected;	/* a producer is connected now */
	__u32 adds;		/* how often one was */
	__u32 dels;		/* how often one went */
	__s32 irq;		/* the last producer's interrupt */
	__u32 live_at_add;	/* whether somebody handled it at that time, */
	__u32 live_at_del;	/* and when the producer went */
};

/* Become the consumer of an eventfd: once for each open file. */
#define IRQBYPASS_TEST_WATCH	_IO('B', 1)
#define IRQBYPASS_TEST_STATE	_IOR('B', 2, struct irqbypass_test_state)

#endif
