// SPDX-License-Identifier: GPL-2.0
/*
 * Frames through a simulator NIC that loops them back: what the device can
 * reach, kicks and calls, reset, suspend and the state of the rings.
 */
#include <pthread.h>

#include "vdpa_test.h"
#include "virtio.h"
#include "workers.h"

FIXTURE(datapath) {
	int fd;
	struct nic nic;
};

FIXTURE_SETUP(datapath)
{
	const char *parent = getenv("MGMTDEV");
	uint32_t id = 0;

	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_GET_DEVICE_ID, &id));
	if (id != VIRTIO_ID_NET)
		SKIP(return, "not a network device");
	if (parent && !strstr(parent, "sim") && !strstr(parent, "mlx5_compat"))
		SKIP(return, "only simulators loop frames back");
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
}

FIXTURE_TEARDOWN(datapath)
{
	close(self->fd);
}

TEST_F(datapath, one_frame)
{
	ASSERT_OK(nic_map(&self->nic));
	ASSERT_OK(nic_start(&self->nic, 0));
	EXPECT_OK(nic_echo(&self->nic, 1));
}

TEST_F(datapath, many_frames)
{
	int i;

	ASSERT_OK(nic_map(&self->nic));
	ASSERT_OK(nic_start(&self->nic, 0));
	/* Several times around the ring, in batches of each size. */
	for (i = 1; i <= self->nic.num / 2; i++)
		ASSERT_OK(nic_echo(&self->nic, i)) {
			TH_LOG("batch of %d", i);
		}
}

TEST_F(datapath, full_ring)
{
	int i;

	ASSERT_OK(nic_map(&self->nic));
	ASSERT_OK(nic_start(&self->nic, 0));
	for (i = 0; i < 10; i++)
		ASSERT_OK(nic_echo(&self->nic, self->nic.num));
}

TEST_F(datapath, ring_sizes)
{
	struct nic *nic = &self->nic;
	int i;

	for (nic->num = 1; nic->num <= RING_SIZE; nic->num *= 2) {
		ASSERT_OK(nic_map(nic));
		nic_lay_out(nic, 0);
		ASSERT_OK(nic_start(nic, 0));
		for (i = 0; i < 4; i++)
			ASSERT_OK(nic_echo(nic, nic->num)) {
				TH_LOG("%u descriptors", nic->num);
			}
		ASSERT_OK(set_status(self->fd, 0));
		ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
	}
}

/* Cut the first descriptor of q in two. */
static void split_first(struct nic_queue *q, uint32_t at)
{
	struct vring_desc *d = q->vr.desc;

	d[1].addr = d[0].addr + at;
	d[1].len = d[0].len - at;
	d[1].flags = d[0].flags;
	d[0].len = at;
	d[0].flags |= VRING_DESC_F_NEXT;
	d[0].next = 1;
}

TEST_F(datapath, chained_descriptors)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, nic->num));
	/* Around the ring once, so slot 0 is next: header and frame apart. */
	nic_post_rx(nic);
	split_first(&nic->q[RX], 33);
	nic_post_tx(nic);
	split_first(&nic->q[TX], HDR);
	nic_kick(&nic->q[TX]);
	EXPECT_OK(nic_wait(&nic->q[RX], nic->num + 1));
	EXPECT_OK(nic_wait(&nic->q[TX], nic->num + 1));
	EXPECT_OK(nic_check_rx(nic));
	EXPECT_EQ(nic->next_tx, nic->next_rx);
}

TEST_F(datapath, indices_wrap)
{
	ASSERT_OK(nic_map(&self->nic));
	nic_lay_out(&self->nic, 0xfff0);
	ASSERT_OK(nic_start(&self->nic, 0xfff0));
	ASSERT_OK(nic_echo(&self->nic, self->nic.num));
	EXPECT_OK(nic_echo(&self->nic, self->nic.num));
}

TEST_F(datapath, mapped_in_a_batch)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(iotlb_map(self->fd, nic->iova, RING_AREA, nic->mem));
	ASSERT_OK(iotlb_map(self->fd, nic->iova + RING_AREA, NIC_MEM - RING_AREA,
			    nic->mem + RING_AREA));
	ASSERT_OK(iotlb_batch(self->fd, 0, false));
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, 8));
}

TEST_F(datapath, mapped_with_v1)
{
	ASSERT_OK(iotlb_v1(self->fd, VHOST_IOTLB_UPDATE, self->nic.iova, NIC_MEM,
			   self->nic.mem, VHOST_ACCESS_RW));
	ASSERT_OK(nic_start(&self->nic, 0));
	EXPECT_OK(nic_echo(&self->nic, 8));
}

TEST_F(datapath, map_grows_while_running)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(iotlb_map(self->fd, nic->iova, 2 * RING_AREA + BUF_AREA, nic->mem));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(iotlb_map(self->fd, nic->iova + 2 * RING_AREA + BUF_AREA,
			    BUF_AREA, nic->mem + 2 * RING_AREA + BUF_AREA));
	EXPECT_OK(nic_echo(nic, 8));
}

TEST_F(datapath, enabled_after_driver_ok)
{
	struct nic *nic = &self->nic;

	if (!(nic->caps.backend & BACKEND(ENABLE_AFTER_DRIVER_OK)))
		SKIP(return, "the parent does not offer ENABLE_AFTER_DRIVER_OK");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(ENABLE_AFTER_DRIVER_OK)));
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(negotiate(self->fd));
	ASSERT_OK(nic_set_up_queue(nic, RX, 0));
	ASSERT_OK(nic_set_up_queue(nic, TX, 0));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	ASSERT_OK(nic_enable(nic));
	EXPECT_OK(nic_echo(nic, 8));
}

TEST_F(datapath, nothing_moves_before_driver_ok)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(negotiate(self->fd));
	ASSERT_OK(nic_set_up_queue(nic, RX, 0));
	ASSERT_OK(nic_set_up_queue(nic, TX, 0));
	ASSERT_OK(nic_enable(nic));
	nic_send(nic, 1);
	usleep(200000);
	EXPECT_EQ(0, nic_used(&nic->q[RX]));
	EXPECT_EQ(0, nic_used(&nic->q[TX]));
}

TEST_F(datapath, no_call_eventfd)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, RX, VHOST_FILE_UNBIND));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, TX, VHOST_FILE_UNBIND));
	nic_send(nic, 1);
	EXPECT_OK(nic_wait_polling(&nic->q[RX], 1));
	EXPECT_OK(nic_wait_polling(&nic->q[TX], 1));
	EXPECT_EQ(0, drain(nic->q[RX].call));
	EXPECT_EQ(0, drain(nic->q[TX].call));
}

TEST_F(datapath, suppressed_calls)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	nic->q[RX].vr.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	nic->q[TX].vr.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	nic_send(nic, 1);
	EXPECT_OK(nic_wait_polling(&nic->q[RX], 1));
	EXPECT_OK(nic_wait_polling(&nic->q[TX], 1));
	usleep(100000);
	EXPECT_EQ(0, drain(nic->q[RX].call));
	EXPECT_EQ(0, drain(nic->q[TX].call));
}

TEST_F(datapath, no_kick_no_work)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	/* A device may look at its rings unasked when it starts: let it. */
	ASSERT_OK(nic_echo(nic, 1));
	usleep(200000);
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_KICK, TX, VHOST_FILE_UNBIND));
	nic_send(nic, 1);
	usleep(200000);
	EXPECT_EQ(1, nic_used(&nic->q[TX]));
	/* An eventfd that is signalled already kicks as soon as it is set. */
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_KICK, TX, nic->q[TX].kick));
	EXPECT_OK(nic_wait(&nic->q[TX], 2));
	EXPECT_OK(nic_wait(&nic->q[RX], 2));
	EXPECT_OK(nic_check_rx(nic));
}

TEST_F(datapath, bad_fd_keeps_the_old_eventfds)
{
	struct nic *nic = &self->nic;
	int i;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 1));
	for (i = 0; i < 2; i++) {
		EXPECT_ERRNO(EBADF, vring_file(self->fd, VHOST_SET_VRING_CALL, i, -7));
		EXPECT_ERRNO(EINVAL, vring_file(self->fd, VHOST_SET_VRING_CALL, i,
						self->fd));
		EXPECT_ERRNO(EBADF, vring_file(self->fd, VHOST_SET_VRING_KICK, i, -7));
		EXPECT_ERRNO(EINVAL, vring_file(self->fd, VHOST_SET_VRING_KICK, i,
						self->fd));
	}
	EXPECT_OK(nic_echo(nic, 4));
}

TEST_F(datapath, eventfds_exchanged)
{
	struct nic *nic = &self->nic;
	int i, q;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	for (i = 0; i < 20; i++) {
		for (q = 0; q < 2; q++) {
			close(nic->q[q].call);
			nic->q[q].call = eventfd(0, EFD_NONBLOCK);
			ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, q,
					     nic->q[q].call));
			close(nic->q[q].kick);
			nic->q[q].kick = eventfd(0, EFD_NONBLOCK);
			ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_KICK, q,
					     nic->q[q].kick));
		}
		ASSERT_OK(nic_echo(nic, 3));
	}
}

TEST_F(datapath, one_eventfd_for_kick_and_call)
{
	struct nic *nic = &self->nic;
	int both = eventfd(0, EFD_NONBLOCK), i, q;

	/* A call then kicks again: it must neither hang nor run for ever. */
	for (q = 0; q < 2; q++) {
		close(nic->q[q].kick);
		close(nic->q[q].call);
		nic->q[q].kick = both;
		nic->q[q].call = both;
	}
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	for (i = 0; i < 20; i++)
		ASSERT_OK(nic_echo(nic, 4));
	/* It comes to rest. */
	usleep(100000);
	drain(both);
	usleep(100000);
	EXPECT_EQ(0, drain(both));
}

TEST_F(datapath, call_swapped_under_load)
{
	struct swapper s = { .fd = self->fd, .first = RX, .last = TX };
	struct nic *nic = &self->nic;
	pthread_t thread;
	int i, r = 0;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, swap_calls, &s));
	for (i = 0; i < 200 && !r; i++) {
		nic_send(nic, 8);
		r = nic_receive(nic);
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, r);
	EXPECT_EQ(0, s.failed);
	EXPECT_LT(0, s.swaps);
	/* With an eventfd of ours again, calls come. */
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, RX, nic->q[RX].call));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, TX, nic->q[TX].call));
	EXPECT_OK(nic_echo(nic, 4));
}

TEST_F(datapath, base_follows_the_traffic)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 5));
	EXPECT_EQ(5, vring_get(self->fd, VHOST_GET_VRING_BASE, RX));
	EXPECT_EQ(5, vring_get(self->fd, VHOST_GET_VRING_BASE, TX));
	ASSERT_OK(nic_echo(nic, 7));
	EXPECT_EQ(12, vring_get(self->fd, VHOST_GET_VRING_BASE, RX));
	EXPECT_EQ(12, vring_get(self->fd, VHOST_GET_VRING_BASE, TX));
}

TEST_F(datapath, refused_base_changes_nothing)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 5));
	EXPECT_ERRNO(EINVAL, vring_state(self->fd, VHOST_SET_VRING_BASE, TX, 2));
	EXPECT_ERRNO(EINVAL, vring_addr(self->fd, TX, 0x1000, 0x2000, 0x3000));
	EXPECT_EQ(5, vring_get(self->fd, VHOST_GET_VRING_BASE, TX));
	EXPECT_OK(nic_echo(nic, 5));
}

TEST_F(datapath, state_moves_over_a_reset)
{
	struct nic *nic = &self->nic;
	int base;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 9));
	base = vring_get(self->fd, VHOST_GET_VRING_BASE, TX);
	ASSERT_EQ(9, base);
	ASSERT_OK(set_status(self->fd, 0));
	/* Without PERSIST the parent's maps are gone, vhost's are not. */
	ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, base));
	EXPECT_OK(nic_echo(nic, 9));
}

TEST_F(datapath, reset_and_reuse)
{
	struct nic *nic = &self->nic;
	int i;

	/* What QEMU does at each reset of its guest. */
	for (i = 0; i < 10; i++) {
		ASSERT_OK(nic_map(nic));
		nic_lay_out(nic, 0);
		ASSERT_OK(nic_start(nic, 0));
		ASSERT_OK(nic_echo(nic, 6));
		ASSERT_OK(set_status(self->fd, 0));
		ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
	}
}

TEST_F(datapath, maps_persist_over_a_reset)
{
	struct nic *nic = &self->nic;

	if (!(nic->caps.backend & BACKEND(IOTLB_PERSIST)))
		SKIP(return, "the parent does not offer IOTLB_PERSIST");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_PERSIST)));
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 6));
	ASSERT_OK(set_status(self->fd, 0));
	nic_lay_out(nic, 0);
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, 6));
}

TEST_F(datapath, reset_with_frames_in_flight)
{
	struct nic *nic = &self->nic;
	int i;

	for (i = 0; i < 20; i++) {
		uint16_t used;

		ASSERT_OK(nic_map(nic));
		nic_lay_out(nic, 0);
		ASSERT_OK(nic_start(nic, 0));
		nic_send(nic, 32);
		ASSERT_OK(set_status(self->fd, 0));
		/* Nothing runs after reset. */
		used = nic_used(&nic->q[RX]);
		usleep(20000);
		EXPECT_EQ(used, nic_used(&nic->q[RX]));
		ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
	}
}

TEST_F(datapath, close_with_frames_in_flight)
{
	struct nic *nic = &self->nic;
	int i;

	for (i = 0; i < 10; i++) {
		ASSERT_OK(nic_map(nic));
		ASSERT_OK(nic_start(nic, 0));
		nic_send(nic, 32);
		REOPEN();
		ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
		ASSERT_OK(nic_init(nic, self->fd));
	}
}

TEST_F(datapath, suspend_stops_and_resume_goes_on)
{
	struct nic *nic = &self->nic;

	if (!(nic->caps.backend & BACKEND(SUSPEND)))
		SKIP(return, "the parent cannot suspend");
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 3));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	nic_send(nic, 1);
	usleep(200000);
	EXPECT_EQ(3, nic_used(&nic->q[TX]));
	EXPECT_EQ(3, vring_get(self->fd, VHOST_GET_VRING_BASE, TX));
	if (!(nic->caps.backend & BACKEND(RESUME)))
		return;
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	/* The kick that came meanwhile was not lost. */
	EXPECT_OK(nic_wait(&nic->q[TX], 4));
	EXPECT_OK(nic_wait(&nic->q[RX], 4));
	EXPECT_OK(nic_check_rx(nic));
	EXPECT_OK(nic_echo(nic, 3));
}

TEST_F(datapath, suspended_stays_suspended)
{
	const char *parent = getenv("MGMTDEV");
	struct nic *nic = &self->nic;

	if (!(nic->caps.backend & BACKEND(SUSPEND)) || !(nic->caps.backend & BACKEND(RESUME)))
		SKIP(return, "the parent cannot suspend and resume");
	if (parent && !strncmp(parent, "vdpasim", 7))
		SKIP(return, "C's simulator runs again when its status is set");
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 3));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	/* What it is already, as a driver that adds a bit writes it. */
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	nic_send(nic, 1);
	usleep(200000);
	EXPECT_EQ(3, nic_used(&nic->q[TX]));
	EXPECT_EQ(3, vring_get(self->fd, VHOST_GET_VRING_BASE, TX));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_OK(nic_wait(&nic->q[TX], 4));
	EXPECT_OK(nic_wait(&nic->q[RX], 4));
	EXPECT_OK(nic_check_rx(nic));
	/* A reset ends it, too. */
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(set_status(self->fd, 0));
	ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
	ASSERT_OK(nic_map(nic));
	nic_lay_out(nic, 0);
	nic->next_rx = nic->next_tx;
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, 3));
}

TEST_F(datapath, unmapped_buffers_are_out_of_reach)
{
	struct nic *nic = &self->nic;
	uint16_t slot;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 1));
	/* A receive buffer where nothing is mapped: no frame may land. */
	slot = nic->q[RX].avail & (nic->num - 1);
	nic_post_rx(nic);
	nic->q[RX].vr.desc[slot].addr = nic->iova + 2 * NIC_MEM;
	nic_post_tx(nic);
	nic_kick(&nic->q[TX]);
	usleep(200000);
	EXPECT_EQ((char)0xee, nic->q[RX].bufs[slot * BUF_SIZE]);
	/* Whatever the device makes of it, a reset brings it back. */
	ASSERT_OK(set_status(self->fd, 0));
	ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
	ASSERT_OK(nic_map(nic));
	nic_lay_out(nic, 0);
	nic->next_rx = nic->next_tx;
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, 4));
}

TEST_F(datapath, what_is_reachable_is_pinned)
{
	struct nic *nic = &self->nic;
	long pages = NIC_MEM / PAGE, pinned;
	int reachable;

	if (!parent_pins(self->fd, nic->iova))
		SKIP(return, "the parent maps by user address");
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 4));
	/* A parent with set_map hears of this only when the batch ends. */
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
	reachable = nic_echo(nic, 4) == 0;
	pinned = pinned_self();
	/* The memory is ours in any case, so nobody else's was written to. */
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_EQ(0, pinned_self());
	C_MAY_DIFFER(reachable && !pinned, "it unpins before it unmaps");
	EXPECT_EQ(reachable ? pages : 0, pinned);
}

TEST_F(datapath, read_only_buffers_are_not_written)
{
	struct nic *nic = &self->nic;
	size_t rx = 2 * RING_AREA, tx = rx + BUF_AREA;

	/* The receive buffers are mapped, but not for writing. */
	ASSERT_OK(iotlb_map(self->fd, nic->iova, rx, nic->mem));
	ASSERT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, nic->iova + rx,
			   BUF_AREA, nic->mem + rx, VHOST_ACCESS_RO));
	ASSERT_OK(iotlb_map(self->fd, nic->iova + tx, BUF_AREA, nic->mem + tx));
	ASSERT_OK(nic_start(nic, 0));
	nic_send(nic, 1);
	usleep(200000);
	EXPECT_EQ((char)0xee, nic->q[RX].bufs[0]);
}

TEST_F(datapath, address_space_of_the_data_queues)
{
	struct nic *nic = &self->nic;
	int group;

	if (nic->caps.nas < 2)
		SKIP(return, "the parent has one address space");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_ASID)));
	group = vring_get(self->fd, VHOST_VDPA_GET_VRING_GROUP, RX);
	ASSERT_LE(0, group);
	ASSERT_OK(set_group_asid(self->fd, group, 1));
	if (vring_get(self->fd, VHOST_VDPA_GET_VRING_GROUP, TX) != group)
		SKIP(return, "the data queues are in two groups");
	/*
	 * Rings may be in a group of their own, which stays where it is: there the
	 * device finds nothing, and takes the space of the buffers. On C it would
	 * find the 1:1 map, until something was mapped and unmapped.
	 */
	if (on_c_driver()) {
		ASSERT_OK(nic_map(nic));
		ASSERT_OK(iotlb_unmap(nic->fd, nic->iova, NIC_MEM));
	}
	ASSERT_OK(iotlb_map_asid(self->fd, 1, nic->iova, NIC_MEM, nic->mem));
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, 8));
}

TEST_F(datapath, map_after_a_reset_in_a_batch)
{
	struct nic *nic = &self->nic;

	/* On C the device would run on its 1:1 map. */
	NOT_TRIED_ON_C("the batch outlives the reset, and the 1:1 map stays");
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(set_status(self->fd, 0));
	/* No batch any more: this reaches the device at once. */
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, 4));
}

/* Fill the table behind what the NIC has, page by page: how many went in. */
static int fill_table(struct nic *nic, int max)
{
	int n;

	for (n = 0; n < max; n++)
		if (iotlb_map(nic->fd, nic->iova + NIC_MEM + (2 * n + 1) * PAGE,
			      PAGE, nic->mem))
			break;
	return n;
}

/* Filling a table message by message is quadratic: slow on a debug kernel. */
TEST_F_TIMEOUT(datapath, failed_update_keeps_the_old_table, 600)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 4));
	if (fill_table(nic, 4096) == 4096)
		SKIP(return, "the table has no end");
	EXPECT_OK(nic_echo(nic, 4));
	/* And again after another. */
	EXPECT_EQ(0, fill_table(nic, 1));
	EXPECT_OK(nic_echo(nic, 4));
}

TEST_F(datapath, batch_end_reports_a_failed_map)
{
	const char *entries = getenv("ENTRIES");
	struct nic *nic = &self->nic;
	int n, r;

	if (!entries || !entries[0])
		SKIP(return, "needs a parent with a small table: ENTRIES");
	n = atoi(entries) + 16;
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 4));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	r = fill_table(nic, n);
	if (r != n) {
		/* One map at a time is refused at once. */
		EXPECT_OK(iotlb_batch(self->fd, 0, false));
		EXPECT_OK(nic_echo(nic, 4));
		return;
	}
	r = iotlb_batch(self->fd, 0, false);
	C_MAY_DIFFER(r == 0, "it ignores that set_map failed");
	EXPECT_EQ(-EFAULT, r);
	/* With less to map, the next message brings the parent up to date. */
	EXPECT_OK(iotlb_batch(self->fd, 0, true));
	EXPECT_OK(iotlb_unmap(self->fd, nic->iova + NIC_MEM, 2 * (n + 1) * PAGE));
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	nic_kick(&nic->q[TX]);
	EXPECT_OK(nic_echo(nic, 4));
}

/* A ring that nothing is mapped for: does the device get anywhere? */
static bool runs_without_a_map(struct nic *nic)
{
	if (nic_start(nic, 0))
		return false;
	nic_send(nic, 1);
	usleep(200000);
	return nic_used(&nic->q[TX]) != 0;
}

/*
 * The rings and buffers of nic at their own physical address, which is where a
 * 1:1 map would lead: contiguous only if a huge page can be had.
 */
static bool nic_use_physical(struct nic *nic)
{
	char *p = physical_area(NIC_MEM);

	_Static_assert(NIC_MEM <= HUGE_PAGE, "fits one huge page");
	if (!p)
		return false;
	nic->mem = p;
	nic->iova = physical(p);
	nic_lay_out(nic, 0);
	return true;
}

TEST_F(datapath, no_1_to_1_map_after_open)
{
	struct nic *nic = &self->nic;
	bool runs;

	if (!parent_pins(self->fd, nic->iova))
		SKIP(return, "the parent maps by user address");
	/* parent_pins() has replaced the default map: begin anew. */
	REOPEN();
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	nic->fd = self->fd;
	if (!nic_use_physical(nic))
		SKIP(return, "no huge page");
	/* This memory is ours, so even on C nobody else is written to. */
	runs = runs_without_a_map(nic);
	C_MAY_DIFFER(runs, "the 1:1 map stays");
	EXPECT_FALSE(runs);
}

TEST_F(datapath, no_1_to_1_map_after_a_cleaned_reset)
{
	struct nic *nic = &self->nic;
	bool runs;

	if (!parent_pins(self->fd, nic->iova))
		SKIP(return, "the parent maps by user address");
	if (!nic_use_physical(nic))
		SKIP(return, "no huge page");
	/* PERSIST is not acknowledged: the reset cleans the parent's maps. */
	ASSERT_OK(set_status(self->fd, 0));
	runs = runs_without_a_map(nic);
	C_MAY_DIFFER(runs, "the 1:1 map stays");
	EXPECT_FALSE(runs);
}

TEST_HARNESS_MAIN
