/* SPDX-License-Identifier: GPL-2.0 */
/* What threads and processes tell each other, and how long it takes. */
#ifndef VDPA_TEST_SYNC_H
#define VDPA_TEST_SYNC_H

#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

uint64_t now_ns(void);

static inline long now_ms(void)
{
	return now_ns() / 1000000;
}

/* Wait for what another process or thread does: true once it is so. */
#define WAIT_FOR(cond, ms) ({						\
	long wait_end = now_ms() + (ms);				\
	bool wait_done;							\
									\
	while (!(wait_done = (cond)) && now_ms() < wait_end)		\
		usleep(2000);						\
	wait_done;							\
})

#define LOAD(x)		__atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_RELEASE)

#endif
