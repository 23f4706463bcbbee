/* SPDX-License-Identifier: GPL-2.0 */
/* Memory to map, what is pinned of it, and where it lies. */
#ifndef VDPA_TEST_PAGES_H
#define VDPA_TEST_PAGES_H

#include "vdpa.h"

/*
 * Shared memory with every page present: what each kind of parent can map, by
 * physical address or, since it has a file, by user address.
 */
void *shared_pages(size_t len);

void *private_pages(size_t len);

/* One mapped page followed by one without access: where structs get torn. */
void *guarded_page(void);

#define HUGE_PAGE	(512 * PAGE)

/* Address space for len bytes, where huge pages can be in the page table; or NULL. */
void *aligned_area(size_t len, int prot);

/* Whether memory is nothing but a byte. */
bool all_bytes(const void *p, size_t len, unsigned char byte);

/* Pages that this process has pinned (VmPin). */
long pinned_self(void);

/*
 * Pages that are pinned in the whole system, whoever pinned them, once their number stays the same:
 * others (udev and its children, reading from a 9p root) pin pages for the moment of a read. What
 * tests start from.
 */
long pinned_system(void);

/* Wait for the system-wide count to come to want; return what it came to. */
long wait_pinned_system(long want);

/*
 * Whether the parent's maps pin pages. One with user virtual addresses (VDUSE,
 * a simulator with use_va) does not. The caller owns the device.
 */
int parent_pins(int fd, uint64_t iova);

/* The frame in an entry of /proc/self/pagemap, or 0 where no page is in the page table. */
static inline uint64_t frame_in(uint64_t entry)
{
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* The frame of the page at p, or 0. Needs CAP_SYS_ADMIN. */
uint64_t page_frame(int pagemap, const void *p);

/* The physical address of the page at p, or 0. Needs CAP_SYS_ADMIN. */
uint64_t physical(const void *p);

/*
 * Memory in a huge page, of which the first len bytes can be had at their own physical address, to
 * which a 1:1 map would lead; NULL where there is no huge page. Needs CAP_SYS_ADMIN.
 */
void *physical_area(size_t len);

/*
 * Two pages of what alloc returns that are neighbours in physical memory, or NULL. How
 * many have to be looked through depends on what ran before. Needs CAP_SYS_ADMIN.
 */
void *contiguous_pages(void *(*alloc)(size_t));

/* Drop every capability of this thread. */
int drop_capabilities(void);

int limit_memlock(size_t pages);

#endif
