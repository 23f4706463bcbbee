// SPDX-License-Identifier: GPL-2.0
/*
 * IOTLB messages: formats, arguments, address spaces and batches. What they do
 * to the pages behind is in pin.c, what the device sees of it in datapath.c.
 */
#include "vdpa_test.h"

#define PAGES	16

FIXTURE(iotlb) {
	int fd;
	struct vdpa_caps caps;
	uint64_t iova;
	char *mem;
	size_t len;
};

FIXTURE_SETUP(iotlb)
{
	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	self->iova = self->caps.iova;
	self->len = PAGES * PAGE;
	self->mem = shared_pages(self->len);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(iotlb)
{
	close(self->fd);
}

/* Whether [iova, iova + size) is free: mapped and taken away again. */
static int is_free(int fd, uint64_t iova, uint64_t size, void *mem)
{
	int r = iotlb_map(fd, iova, size, mem);

	return r ?: iotlb_unmap(fd, iova, size);
}

TEST_F(iotlb, update_and_invalidate_v1)
{
	EXPECT_OK(iotlb_v1(self->fd, VHOST_IOTLB_UPDATE, self->iova, self->len,
			   self->mem, VHOST_ACCESS_RW));
	EXPECT_ERRNO(EFAULT, iotlb_v1(self->fd, VHOST_IOTLB_UPDATE, self->iova,
				      self->len, self->mem, VHOST_ACCESS_RW));
	EXPECT_OK(iotlb_v1(self->fd, VHOST_IOTLB_INVALIDATE, self->iova,
			   self->len, NULL, 0));
	EXPECT_OK(iotlb_v1(self->fd, VHOST_IOTLB_UPDATE, self->iova, self->len,
			   self->mem, VHOST_ACCESS_RW));
}

TEST_F(iotlb, update_and_invalidate_v2)
{
	EXPECT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, self->len));
	EXPECT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
}

TEST_F(iotlb, both_versions_share_one_table)
{
	EXPECT_OK(iotlb_v1(self->fd, VHOST_IOTLB_UPDATE, self->iova, PAGE,
			   self->mem, VHOST_ACCESS_RW));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_OK(iotlb_v1(self->fd, VHOST_IOTLB_UPDATE, self->iova, PAGE,
			   self->mem, VHOST_ACCESS_RW));
}

TEST_F(iotlb, v2_needs_no_acknowledgement)
{
	/* The bit is a promise of the kernel's, not a gate. */
	ASSERT_OK(set_backend_features(self->fd, 0));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_batch(self->fd, 0, true));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
}

TEST_F(iotlb, overlaps_are_refused)
{
	uint64_t at = self->iova + 4 * PAGE;

	ASSERT_OK(iotlb_map(self->fd, at, 4 * PAGE, self->mem));
	/* Exactly, inside, over each end, around. */
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, at, 4 * PAGE, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, at + PAGE, PAGE, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, at - PAGE, 2 * PAGE, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, at + 3 * PAGE, 2 * PAGE, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, at - PAGE, 6 * PAGE, self->mem));
	/* Neighbours are no overlap. */
	EXPECT_OK(iotlb_map(self->fd, at - PAGE, PAGE, self->mem));
	EXPECT_OK(iotlb_map(self->fd, at + 4 * PAGE, PAGE, self->mem));
	/* And a refused one has left nothing behind. */
	EXPECT_OK(is_free(self->fd, at - 2 * PAGE, PAGE, self->mem));
	EXPECT_OK(is_free(self->fd, at + 5 * PAGE, PAGE, self->mem));
}

TEST_F(iotlb, one_page_at_many_addresses)
{
	int i;

	for (i = 0; i < 32; i++)
		ASSERT_OK(iotlb_map(self->fd, self->iova + i * PAGE, PAGE,
				    self->mem));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, 32 * PAGE));
	EXPECT_OK(is_free(self->fd, self->iova, self->len, self->mem));
}

TEST_F(iotlb, size_zero_update)
{
	/* Found by the core, which tells it as what it is. */
	EXPECT_ERRNO(EINVAL, iotlb_map(self->fd, self->iova, 0, self->mem));
	EXPECT_ERRNO(EINVAL, iotlb_v1(self->fd, VHOST_IOTLB_UPDATE, self->iova,
				      0, self->mem, VHOST_ACCESS_RW));
}

TEST_F(iotlb, size_zero_invalidate)
{
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	/* Legal, and hits nothing that starts there. */
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, 0));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, size_zero_batch)
{
	EXPECT_OK(iotlb_batch(self->fd, 0, true));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
}

TEST_F(iotlb, invalidate_everything)
{
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_OK(iotlb_map(self->fd, self->iova + 2 * i * PAGE, PAGE,
				    self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, 0, 0));
	EXPECT_OK(is_free(self->fd, self->iova, self->len, self->mem));
	/* What DPDK sends. */
	for (i = 0; i < 4; i++)
		ASSERT_OK(iotlb_map(self->fd, self->iova + 2 * i * PAGE, PAGE,
				    self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, 0, UINT64_MAX));
	EXPECT_OK(is_free(self->fd, self->iova, self->len, self->mem));
	/* With nothing mapped, too, and for a range that nothing is in. */
	EXPECT_OK(iotlb_unmap(self->fd, 0, 0));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, self->len));
}

TEST_F(iotlb, invalidate_of_a_huge_range)
{
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, 0, 1ULL << 62));
	EXPECT_OK(is_free(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, wrapping_invalidate_spares_the_rest)
{
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova + 8 * PAGE, UINT64_MAX));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, partial_invalidate_removes_the_entry)
{
	/* An entry spans what is contiguous in physical memory. */
	char *p = contiguous_pages(shared_pages);

	if (!p)
		SKIP(return, "no two pages are neighbours in physical memory");
	ASSERT_OK(iotlb_map(self->fd, self->iova, 2 * PAGE, p));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_OK(is_free(self->fd, self->iova, 2 * PAGE, p));
	ASSERT_OK(iotlb_map(self->fd, self->iova, 2 * PAGE, p));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova + PAGE, 1));
	EXPECT_OK(is_free(self->fd, self->iova, 2 * PAGE, p));
}

TEST_F(iotlb, empty_and_wrapping_invalidate_inside_an_entry)
{
	static const uint64_t sizes[] = { 0, UINT64_MAX };
	char *p = contiguous_pages(shared_pages);
	int i;

	if (!p)
		SKIP(return, "no two pages are neighbours in physical memory");
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		int r;

		ASSERT_OK(iotlb_map(self->fd, self->iova, 2 * PAGE, p));
		EXPECT_OK(iotlb_unmap(self->fd, self->iova + PAGE, sizes[i]));
		r = iotlb_map(self->fd, self->iova, 2 * PAGE, p);
		/* C's range ends before it begins, and hits what lies around. */
		C_MAY_DIFFER(r == 0, "a wrapping range hits the entry around it");
		EXPECT_EQ(-EFAULT, r);
		EXPECT_OK(iotlb_unmap(self->fd, self->iova, 2 * PAGE));
	}
}

TEST_F(iotlb, wrapping_update)
{
	static const uint64_t sizes[] = {
		UINT64_MAX, UINT64_MAX - PAGE + 1, 1ULL << 63,
		UINT64_MAX - PAGE + 2, 1ULL << 52,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, sizes[i],
					       self->mem)) {
			TH_LOG("size %#llx", (unsigned long long)sizes[i]);
		}
	}
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, UINT64_MAX - PAGE + 1,
				       2 * PAGE, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, UINT64_MAX, 2, self->mem));
	EXPECT_OK(is_free(self->fd, self->iova, self->len, self->mem));
}

TEST_F(iotlb, outside_of_the_iova_range)
{
	struct vhost_vdpa_iova_range *r = &self->caps.range;

	if (r->first == 0 && r->last == UINT64_MAX)
		SKIP(return, "the parent takes every address");
	if (r->first >= PAGE)
		EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, r->first - PAGE, PAGE,
					       self->mem));
	if (r->last < UINT64_MAX) {
		EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, r->last + 1, PAGE,
					       self->mem));
		EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, r->last + 1 - PAGE,
					       2 * PAGE, self->mem));
		EXPECT_OK(iotlb_map(self->fd, r->last + 1 - PAGE, PAGE,
				    self->mem));
	}
}

TEST_F(iotlb, last_page_of_the_iova_range)
{
	uint64_t last = self->caps.range.last - PAGE + 1;

	EXPECT_OK(iotlb_map(self->fd, last, PAGE, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, last, PAGE));
	EXPECT_OK(is_free(self->fd, last, PAGE, self->mem));
}

TEST_F(iotlb, unmapped_memory)
{
	char *hole = private_pages(4 * PAGE);

	ASSERT_NE(NULL, hole);
	if (!parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by user address");
	ASSERT_EQ(0, munmap(hole + 2 * PAGE, PAGE));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE,
				       hole + 2 * PAGE));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, 4 * PAGE, hole));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, NULL));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE,
				       (void *)0xffff888000000000UL));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, 2 * PAGE,
				       (void *)(UINT64_MAX - PAGE + 1)));
	EXPECT_OK(is_free(self->fd, self->iova, 2 * PAGE, hole));
}

TEST_F(iotlb, memory_without_access)
{
	char *p = private_pages(PAGE);

	ASSERT_NE(NULL, p);
	if (!parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by user address");
	ASSERT_EQ(0, mprotect(p, PAGE, PROT_NONE));
	EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE,
				      self->iova, PAGE, p, VHOST_ACCESS_RO));
}

TEST_F(iotlb, update_over_an_io_mapping)
{
	unsigned long start = 0;
	char line[256];
	FILE *f = fopen("/proc/self/maps", "r");

	/*
	 * The vDSO's clock page of a hypervisor is mapped like a doorbell: by frame, without pages
	 * (VM_IO | VM_PFNMAP). [vvar] was, too, until 7.3 gave it pages.
	 */
	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[vvar_vclock]"))
			start = strtoul(line, NULL, 16);
	if (f)
		fclose(f);
	if (!start)
		SKIP(return, "no [vvar_vclock] in this process");
	if (!parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by user address");
	EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE,
				      self->iova, PAGE, (void *)start,
				      VHOST_ACCESS_RO));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, (void *)start));
	EXPECT_OK(is_free(self->fd, self->iova, PAGE, self->mem));
}

/*
 * User addresses: what is shared with a file is mapped, what is not is passed
 * over without an error, and QEMU depends on that.
 */
TEST_F(iotlb, unshared_memory_by_user_address)
{
	char *p = private_pages(PAGE);

	ASSERT_NE(NULL, p);
	if (parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by physical address");
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, p));
	/* There is no entry, so this is no overlap. */
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, p));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(iotlb, nothing_at_the_user_address)
{
	if (parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by physical address");
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE,
				       (void *)0x7ffffffff000));
}

TEST_F(iotlb, hole_at_the_user_address)
{
	int r;

	if (parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by physical address");
	ASSERT_EQ(0, munmap(self->mem, 2 * PAGE));
	r = iotlb_map(self->fd, self->iova, 4 * PAGE, self->mem);
	C_MAY_DIFFER(r == 0, "it does not see the hole");
	EXPECT_EQ(-EFAULT, r);
	/* In the middle as well, and what came before it is undone. */
	ASSERT_EQ(0, munmap(self->mem + 4 * PAGE, PAGE));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, 6 * PAGE,
				       self->mem + 2 * PAGE));
	EXPECT_OK(is_free(self->fd, self->iova, 2 * PAGE, self->mem + 2 * PAGE));
}

TEST_F(iotlb, permission_at_the_user_address)
{
	int r;

	if (parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by physical address");
	ASSERT_EQ(0, mprotect(self->mem, self->len, PROT_READ));
	r = iotlb_map(self->fd, self->iova, PAGE, self->mem);
	C_MAY_DIFFER(r == 0, "it does not check the permission");
	EXPECT_EQ(-EFAULT, r);
	EXPECT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova, PAGE,
			   self->mem, VHOST_ACCESS_RO));
}

TEST_F(iotlb, read_only_memory)
{
	if (!parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by user address");
	ASSERT_EQ(0, mprotect(self->mem, self->len, PROT_READ));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE,
				      self->iova, PAGE, self->mem,
				      VHOST_ACCESS_WO));
	EXPECT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova, PAGE,
			   self->mem, VHOST_ACCESS_RO));
}

TEST_F(iotlb, each_permission)
{
	int perm;

	for (perm = VHOST_ACCESS_RO; perm <= VHOST_ACCESS_RW; perm++) {
		EXPECT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova,
				   PAGE, self->mem, perm));
		EXPECT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	}
}

TEST_F(iotlb, unknown_permissions)
{
	static const int perms[] = { 0, 4, 7, 0x80, 0xff };
	int i;

	if (on_c_driver() && getenv("PLATFORM_IOMMU"))
		SKIP(return, "C and the IOMMU's driver warn, and that fails the run (" C_SEEN ")");
	for (i = 0; i < ARRAY_SIZE(perms); i++) {
		int r = iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova,
				 PAGE, self->mem, perms[i]);

		/* No simulator looks. */
		C_MAY_DIFFER(r == 0, "unknown permissions are taken");
		EXPECT_EQ(-EFAULT, r);
	}
}

TEST_F(iotlb, page_offsets_differ)
{
	int r;

	if (!parent_pins(self->fd, self->iova))
		SKIP(return, "the parent maps by user address");
	r = iotlb_map(self->fd, self->iova, PAGE, self->mem + 0x10);
	C_MAY_DIFFER(r == 0, "it does not compare page offsets");
	EXPECT_EQ(-EFAULT, r);
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova + 0x10, PAGE,
				       self->mem));
	EXPECT_OK(is_free(self->fd, self->iova, 2 * PAGE, self->mem));
	EXPECT_OK(is_free(self->fd, self->iova + 0x10, 0x20, self->mem + 0x10));
}

TEST_F(iotlb, part_of_a_page)
{
	/* The page is mapped as a whole. */
	EXPECT_OK(iotlb_map(self->fd, self->iova, 1, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, 1));
	EXPECT_OK(is_free(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, unknown_types)
{
	int type;

	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(iotlb_batch(self->fd, 0, false));
	for (type = 0; type < 256; type++) {
		if (type == VHOST_IOTLB_UPDATE ||
		    type == VHOST_IOTLB_INVALIDATE ||
		    type == VHOST_IOTLB_BATCH_BEGIN ||
		    type == VHOST_IOTLB_BATCH_END)
			continue;
		EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 0, type, self->iova,
					      PAGE, self->mem, VHOST_ACCESS_RW)) {
			TH_LOG("type %d", type);
		}
	}
}

TEST_F(iotlb, unknown_message_versions)
{
	struct vhost_msg_v2 m = {
		.iotlb = {
			.iova = self->iova,
			.size = PAGE,
			.uaddr = (uintptr_t)self->mem,
			.perm = VHOST_ACCESS_RW,
			.type = VHOST_IOTLB_UPDATE,
		},
	};
	static const uint32_t types[] = { 0, 3, 4, 0x80000000, UINT32_MAX };
	int i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		m.type = types[i];
		EXPECT_ERRNO(EINVAL, iotlb_write(self->fd, &m, sizeof(m)));
	}
	EXPECT_OK(is_free(self->fd, self->iova, PAGE, self->mem));
}

/* As iotlb_write, but by the way that vectors take through the kernel. */
static int iotlb_writev(int fd, const void *msg, size_t len)
{
	struct iovec iov = { (void *)msg, len };
	ssize_t r = writev(fd, &iov, 1);

	if (r < 0)
		return -errno;
	return r == (ssize_t)len ? 0 : -EIO;
}

TEST_F(iotlb, short_and_torn_messages)
{
	struct vhost_msg_v2 m = {
		.type = VHOST_IOTLB_MSG_V2,
		.iotlb = {
			.iova = self->iova,
			.size = PAGE,
			.uaddr = (uintptr_t)self->mem,
			.perm = VHOST_ACCESS_RW,
			.type = VHOST_IOTLB_UPDATE,
		},
	};
	size_t need = 40, len;
	char *guard = guarded_page();

	ASSERT_NE(NULL, guard);
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_ASID)));
	for (len = 1; len < need; len++) {
		EXPECT_ERRNO(EINVAL, iotlb_write(self->fd, &m, len)) {
			TH_LOG("length %zu", len);
		}
		/* Unreadable is the same as not there. */
		memcpy(guard + PAGE - len, &m, len);
		EXPECT_ERRNO(EINVAL, iotlb_write(self->fd, guard + PAGE - len,
						 sizeof(m))) {
			TH_LOG("length %zu", len);
		}
		EXPECT_ERRNO(EINVAL, iotlb_writev(self->fd, &m, len));
		EXPECT_ERRNO(EINVAL, iotlb_writev(self->fd, guard + PAGE - len,
						  sizeof(m)));
	}
	EXPECT_ERRNO(EINVAL, iotlb_write(self->fd, &m, 0));
	EXPECT_ERRNO(EINVAL, iotlb_write(self->fd, guard + PAGE, sizeof(m)));
	EXPECT_OK(is_free(self->fd, self->iova, PAGE, self->mem));
	/* Without the tail that nothing uses it is whole, and counts as such. */
	EXPECT_EQ(sizeof(m), write(self->fd, &m, need));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, message_in_pieces)
{
	struct vhost_msg_v2 m = {
		.type = VHOST_IOTLB_MSG_V2,
		.iotlb = {
			.iova = self->iova,
			.size = PAGE,
			.uaddr = (uintptr_t)self->mem,
			.perm = VHOST_ACCESS_RW,
			.type = VHOST_IOTLB_UPDATE,
		},
	};
	struct iovec iov[] = {
		{ &m, 5 }, { (char *)&m + 5, 20 }, { (char *)&m + 25, sizeof(m) - 25 },
	};

	EXPECT_EQ(sizeof(m), writev(self->fd, iov, 3));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
	/* The end may be missing, and the offset into the file means nothing. */
	m.iotlb.type = VHOST_IOTLB_INVALIDATE;
	iov[2].iov_len = 40 - 25;
	EXPECT_EQ(sizeof(m), pwritev(self->fd, iov, 3, 12345));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_EQ(sizeof(m), pwrite(self->fd, &m, 40, 12345));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, message_with_an_unreadable_hole)
{
	struct vhost_msg_v2 m = {
		.type = VHOST_IOTLB_MSG,
		.iotlb = {
			.iova = self->iova,
			.size = PAGE,
			.uaddr = (uintptr_t)self->mem,
			.perm = VHOST_ACCESS_RW,
			.type = VHOST_IOTLB_UPDATE,
		},
	};
	char *guard = guarded_page();
	struct iovec iov[] = {
		{ &m, 4 }, { guard + PAGE, 4 }, { (char *)&m + 8, sizeof(m) - 8 },
	};
	ssize_t r;

	ASSERT_NE(NULL, guard);
	r = writev(self->fd, iov, 3);
	/* C passes over what it does not look at. */
	C_MAY_DIFFER(r == sizeof(m), "it does not read the hole");
	EXPECT_EQ(-1, r);
	EXPECT_EQ(EINVAL, errno);
	EXPECT_OK(is_free(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, invalidate_of_an_untouched_address_space)
{
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, 0, 0));
	EXPECT_ERRNO(EFAULT, iotlb_batch(self->fd, 0, false));
	/* UPDATE and BATCH_BEGIN bring it into being. */
	EXPECT_OK(iotlb_batch(self->fd, 0, true));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_OK(iotlb_unmap(self->fd, 0, 0));
}

TEST_F(iotlb, address_space_outlives_its_last_map)
{
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	/* Over a device reset as well. */
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
}

TEST_F(iotlb, asid_is_ignored_unless_acknowledged)
{
	EXPECT_OK(iotlb_v2(self->fd, 0xffffffff, VHOST_IOTLB_UPDATE, self->iova,
			   PAGE, self->mem, VHOST_ACCESS_RW));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_v2(self->fd, 12345, VHOST_IOTLB_INVALIDATE, self->iova,
			   PAGE, NULL, 0));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, asid_out_of_bounds)
{
	uint32_t bad[] = { self->caps.nas, self->caps.nas + 1, 0x80000000, UINT32_MAX };
	int i;

	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_ASID)));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, bad[i], VHOST_IOTLB_UPDATE,
					      self->iova, PAGE, self->mem,
					      VHOST_ACCESS_RW));
		EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, bad[i],
					      VHOST_IOTLB_INVALIDATE,
					      self->iova, PAGE, NULL, 0));
		EXPECT_ERRNO(EFAULT, iotlb_batch(self->fd, bad[i], true));
		EXPECT_ERRNO(EFAULT, iotlb_batch(self->fd, bad[i], false));
	}
	/* None of them has begun a batch. */
	EXPECT_OK(is_free(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, address_spaces_are_separate)
{
	if (self->caps.nas < 2)
		SKIP(return, "the parent has one address space");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_ASID)));
	EXPECT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova, PAGE,
			   self->mem, VHOST_ACCESS_RW));
	EXPECT_OK(iotlb_v2(self->fd, 1, VHOST_IOTLB_UPDATE, self->iova, PAGE,
			   self->mem, VHOST_ACCESS_RW));
	EXPECT_OK(iotlb_v2(self->fd, 1, VHOST_IOTLB_INVALIDATE, 0, 0, NULL, 0));
	EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE,
				      self->iova, PAGE, self->mem,
				      VHOST_ACCESS_RW));
	EXPECT_OK(iotlb_v2(self->fd, 1, VHOST_IOTLB_UPDATE, self->iova, PAGE,
			   self->mem, VHOST_ACCESS_RW));
	/* V1 knows none but the first. */
	EXPECT_OK(iotlb_v1(self->fd, VHOST_IOTLB_INVALIDATE, self->iova, PAGE,
			   NULL, 0));
	EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 1, VHOST_IOTLB_UPDATE,
				      self->iova, PAGE, self->mem,
				      VHOST_ACCESS_RW));
}

TEST_F(iotlb, batch_of_updates)
{
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_map(self->fd, self->iova + PAGE, PAGE, self->mem + PAGE));
	/* Overlaps are found inside, too, and do not end the batch. */
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, batch_out_of_order)
{
	/* Beginning twice, ending twice: nothing is counted. */
	EXPECT_OK(iotlb_batch(self->fd, 0, true));
	EXPECT_OK(iotlb_batch(self->fd, 0, true));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_OK(iotlb_map(self->fd, self->iova + PAGE, PAGE, self->mem));
}

TEST_F(iotlb, batch_left_open_at_close)
{
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	REOPEN();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(is_free(self->fd, self->iova + PAGE, PAGE, self->mem));
}

TEST_F(iotlb, batch_of_another_address_space)
{
	if (self->caps.nas < 2)
		SKIP(return, "the parent has one address space");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_ASID)));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 1, VHOST_IOTLB_UPDATE,
				      self->iova, PAGE, self->mem,
				      VHOST_ACCESS_RW));
	EXPECT_ERRNO(EFAULT, iotlb_batch(self->fd, 1, true));
	EXPECT_ERRNO(EFAULT, iotlb_batch(self->fd, 1, false));
	/* The batch goes on. */
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_OK(iotlb_v2(self->fd, 1, VHOST_IOTLB_UPDATE, self->iova, PAGE,
			   self->mem, VHOST_ACCESS_RW));
}

TEST_F(iotlb, reset_ends_the_batch)
{
	int r;

	if (self->caps.nas < 2)
		SKIP(return, "the parent has one address space");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_ASID)));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(set_status(self->fd, 0));
	/* Refused as long as a batch of address space 0 is on. */
	r = iotlb_v2(self->fd, 1, VHOST_IOTLB_UPDATE, self->iova, PAGE,
		     self->mem, VHOST_ACCESS_RW);
	C_MAY_DIFFER(r == -EFAULT, "the batch outlives the reset");
	EXPECT_EQ(0, r);
}

TEST_F(iotlb, maps_outlive_a_reset)
{
	/* Of vhost's table: the parent's own may be dropped (CLEAN_MAP). */
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
}

TEST_F(iotlb, maps_end_with_the_file)
{
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	REOPEN();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
}

/* Filling a table message by message is quadratic: slow on a debug kernel. */
TEST_F_TIMEOUT(iotlb, table_is_bounded, 600)
{
	size_t n = 0;
	int r;

	/* One entry a message: every other page, never mergeable. */
	do {
		r = iotlb_map(self->fd, self->iova + 2 * n * PAGE, PAGE, self->mem);
		n += !r;
	} while (!r && n < 4096);
	EXPECT_EQ(-EFAULT, r);
	EXPECT_LE(64, n);
	/* Full, not broken. */
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_OK(iotlb_unmap(self->fd, 0, 0));
	EXPECT_OK(is_free(self->fd, self->iova, self->len, self->mem));
}

/* As many as there is room for, in a batch, so that a parent is told once. */
TEST_F(iotlb, invalidate_of_many)
{
	size_t n = 0, part, i;

	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_BATCH)));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	while (n < 600 && !iotlb_map(self->fd, self->iova + 2 * n * PAGE, PAGE, self->mem))
		n++;
	ASSERT_LE(64, n);
	part = n * 3 / 4;
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, 2 * part * PAGE - PAGE));
	/* Those and no others. */
	for (i = 0; i < n; i++) {
		int r = iotlb_map(self->fd, self->iova + 2 * i * PAGE, PAGE, self->mem);

		EXPECT_EQ(i < part ? 0 : -EFAULT, r) {
			TH_LOG("%zu of %zu, %zu removed: %d", i, n, part, r);
		}
	}
	EXPECT_OK(iotlb_unmap(self->fd, self->iova, 2 * n * PAGE));
	EXPECT_OK(is_free(self->fd, self->iova, self->len, self->mem));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
}

TEST_HARNESS_MAIN
