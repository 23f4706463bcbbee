/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of the driver, under events/rust_vhost_vdpa/. minor is that of
 * /dev/vhost-vdpa-N; vhost_vdpa_set_map has the name of the vDPA device instead. ret is 0
 * or a negative errno; vhost_vdpa_remove has none. For IOTLB messages ret is finer than
 * the EFAULT that userspace sees.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rust_vhost_vdpa

#if !defined(VHOST_VDPA_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VHOST_VDPA_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>

TRACE_EVENT(vhost_vdpa_map,
	TP_PROTO(int minor, u32 asid, u64 iova, u64 size, u64 uaddr, u32 perm,
		 u64 entries, int ret),
	TP_ARGS(minor, asid, iova, size, uaddr, perm, entries, ret),
	TP_STRUCT__entry(
		__field(int, minor)
		__field(u32, asid)
		__field(u64, iova)
		__field(u64, size)
		__field(u64, uaddr)
		__field(u32, perm)
		__field(u64, entries)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->minor = minor;
		__entry->asid = asid;
		__entry->iova = iova;
		__entry->size = size;
		__entry->uaddr = uaddr;
		__entry->perm = perm;
		__entry->entries = entries;
		__entry->ret = ret;
	),
	TP_printk("minor=%d asid=%u iova=0x%llx size=0x%llx uaddr=0x%llx perm=%u entries=%llu ret=%d",
		  __entry->minor, __entry->asid, __entry->iova, __entry->size,
		  __entry->uaddr, __entry->perm, __entry->entries, __entry->ret)
);

TRACE_EVENT(vhost_vdpa_unmap,
	TP_PROTO(int minor, u32 asid, u64 iova, u64 size, u64 entries, int ret),
	TP_ARGS(minor, asid, iova, size, entries, ret),
	TP_STRUCT__entry(
		__field(int, minor)
		__field(u32, asid)
		__field(u64, iova)
		__field(u64, size)
		__field(u64, entries)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->minor = minor;
		__entry->asid = asid;
		__entry->iova = iova;
		__entry->size = size;
		__entry->entries = entries;
		__entry->ret = ret;
	),
	TP_printk("minor=%d asid=%u iova=0x%llx size=0x%llx entries=%llu ret=%d",
		  __entry->minor, __entry->asid, __entry->iova, __entry->size,
		  __entry->entries, __entry->ret)
);

TRACE_EVENT(vhost_vdpa_set_map,
	TP_PROTO(const struct device *dev, u32 asid, u32 entries, int ret),
	TP_ARGS(dev, asid, entries, ret),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u32, asid)
		__field(u32, entries)
		__field(int, ret)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->asid = asid;
		__entry->entries = entries;
		__entry->ret = ret;
	),
	TP_printk("device=%s asid=%u entries=%u ret=%d",
		  __get_str(device), __entry->asid, __entry->entries, __entry->ret)
);

TRACE_EVENT(vhost_vdpa_reset,
	TP_PROTO(int minor, bool clean_map, int ret),
	TP_ARGS(minor, clean_map, ret),
	TP_STRUCT__entry(
		__field(int, minor)
		__field(bool, clean_map)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->minor = minor;
		__entry->clean_map = clean_map;
		__entry->ret = ret;
	),
	TP_printk("minor=%d clean_map=%d ret=%d",
		  __entry->minor, __entry->clean_map, __entry->ret)
);

TRACE_EVENT(vhost_vdpa_backend_features,
	TP_PROTO(int minor, u64 offered, u64 acked, int ret),
	TP_ARGS(minor, offered, acked, ret),
	TP_STRUCT__entry(
		__field(int, minor)
		__field(u64, offered)
		__field(u64, acked)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->minor = minor;
		__entry->offered = offered;
		__entry->acked = acked;
		__entry->ret = ret;
	),
	TP_printk("minor=%d offered=0x%llx acked=0x%llx ret=%d",
		  __entry->minor, __entry->offered, __entry->acked, __entry->ret)
);

TRACE_EVENT(vhost_vdpa_remove,
	TP_PROTO(int minor, bool was_open),
	TP_ARGS(minor, was_open),
	TP_STRUCT__entry(
		__field(int, minor)
		__field(bool, was_open)
	),
	TP_fast_assign(
		__entry->minor = minor;
		__entry->was_open = was_open;
	),
	TP_printk("minor=%d was_open=%d", __entry->minor, __entry->was_open)
);

#endif /* VHOST_VDPA_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
