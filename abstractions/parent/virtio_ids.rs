// SPDX-License-Identifier: GPL-2.0

//! Numbers of the virtio specification that parents use, in types that fit.
//!
//! C: `include/uapi/linux/virtio_*.h`, `include/uapi/linux/vhost_types.h`.

use crate::bindings;

/// The device id of a network device.
pub const ID_NET: u32 = bindings::VIRTIO_ID_NET;
/// The device id of a block device.
pub const ID_BLOCK: u32 = bindings::VIRTIO_ID_BLOCK;
/// The device id of an entropy source.
pub const ID_RNG: u32 = bindings::VIRTIO_ID_RNG;

/// Device status: the driver is set up and ready to drive the device.
pub const STATUS_DRIVER_OK: u8 = bindings::VIRTIO_CONFIG_S_DRIVER_OK as u8;
/// Device status: the device failed, and needs a reset to work again.
pub const STATUS_NEEDS_RESET: u8 = bindings::VIRTIO_CONFIG_S_NEEDS_RESET as u8;

/// Feature: the driver accepts any layout of the descriptors.
pub const F_ANY_LAYOUT: u64 = 1 << bindings::VIRTIO_F_ANY_LAYOUT;
/// Feature: the device complies with version 1 of the specification, so fields are little-endian.
pub const F_VERSION_1: u64 = 1 << bindings::VIRTIO_F_VERSION_1;
/// Feature: addresses are IOVAs.
pub const F_ACCESS_PLATFORM: u64 = 1 << bindings::VIRTIO_F_ACCESS_PLATFORM;
/// Feature: a descriptor may refer to a table of descriptors.
pub const F_RING_INDIRECT_DESC: u64 = 1 << bindings::VIRTIO_RING_F_INDIRECT_DESC;
/// Feature: events are suppressed by index.
pub const F_RING_EVENT_IDX: u64 = 1 << bindings::VIRTIO_RING_F_EVENT_IDX;
/// Feature: rings are packed.
pub const F_RING_PACKED: u64 = 1 << bindings::VIRTIO_F_RING_PACKED;

/// Net feature: the config space has an MTU.
pub const F_NET_MTU: u64 = 1 << bindings::VIRTIO_NET_F_MTU;
/// Net feature: the config space has a MAC address.
pub const F_NET_MAC: u64 = 1 << bindings::VIRTIO_NET_F_MAC;
/// Net feature: the config space has the state of the link.
pub const F_NET_STATUS: u64 = 1 << bindings::VIRTIO_NET_F_STATUS;
/// Net feature: there is a control queue.
pub const F_NET_CTRL_VQ: u64 = 1 << bindings::VIRTIO_NET_F_CTRL_VQ;
/// Net feature: commands set the receive mode.
pub const F_NET_CTRL_RX: u64 = 1 << bindings::VIRTIO_NET_F_CTRL_RX;
/// Net feature: commands set further receive modes.
pub const F_NET_CTRL_RX_EXTRA: u64 = 1 << bindings::VIRTIO_NET_F_CTRL_RX_EXTRA;
/// Net feature: commands filter VLANs.
pub const F_NET_CTRL_VLAN: u64 = 1 << bindings::VIRTIO_NET_F_CTRL_VLAN;
/// Net feature: a command sets the MAC address.
pub const F_NET_CTRL_MAC_ADDR: u64 = 1 << bindings::VIRTIO_NET_F_CTRL_MAC_ADDR;
/// Net feature: there are several queue pairs.
pub const F_NET_MQ: u64 = 1 << bindings::VIRTIO_NET_F_MQ;

/// Net command succeeded.
pub const NET_OK: u8 = bindings::VIRTIO_NET_OK as u8;
/// Net command failed.
pub const NET_ERR: u8 = bindings::VIRTIO_NET_ERR as u8;
/// Net command class: receive mode.
pub const NET_CTRL_RX: u8 = bindings::VIRTIO_NET_CTRL_RX as u8;
/// Receive mode command: promiscuous mode on or off.
pub const NET_CTRL_RX_PROMISC: u8 = bindings::VIRTIO_NET_CTRL_RX_PROMISC as u8;
/// Receive mode command: receive all multicast frames, or not.
pub const NET_CTRL_RX_ALLMULTI: u8 = bindings::VIRTIO_NET_CTRL_RX_ALLMULTI as u8;
/// Receive mode command: receive all unicast frames, or not.
pub const NET_CTRL_RX_ALLUNI: u8 = bindings::VIRTIO_NET_CTRL_RX_ALLUNI as u8;
/// Receive mode command: suppress multicast frames, or not.
pub const NET_CTRL_RX_NOMULTI: u8 = bindings::VIRTIO_NET_CTRL_RX_NOMULTI as u8;
/// Receive mode command: suppress unicast frames, or not.
pub const NET_CTRL_RX_NOUNI: u8 = bindings::VIRTIO_NET_CTRL_RX_NOUNI as u8;
/// Receive mode command: suppress broadcast frames, or not.
pub const NET_CTRL_RX_NOBCAST: u8 = bindings::VIRTIO_NET_CTRL_RX_NOBCAST as u8;
/// Net command class: MAC addresses.
pub const NET_CTRL_MAC: u8 = bindings::VIRTIO_NET_CTRL_MAC as u8;
/// MAC command: set the tables of unicast and multicast addresses to receive.
pub const NET_CTRL_MAC_TABLE_SET: u8 = bindings::VIRTIO_NET_CTRL_MAC_TABLE_SET as u8;
/// MAC command: set the MAC address.
pub const NET_CTRL_MAC_ADDR_SET: u8 = bindings::VIRTIO_NET_CTRL_MAC_ADDR_SET as u8;
/// Net command class: VLAN filter.
pub const NET_CTRL_VLAN: u8 = bindings::VIRTIO_NET_CTRL_VLAN as u8;
/// VLAN command: receive one VLAN.
pub const NET_CTRL_VLAN_ADD: u8 = bindings::VIRTIO_NET_CTRL_VLAN_ADD as u8;
/// VLAN command: no longer receive one VLAN.
pub const NET_CTRL_VLAN_DEL: u8 = bindings::VIRTIO_NET_CTRL_VLAN_DEL as u8;
/// Net command class: queue pairs.
pub const NET_CTRL_MQ: u8 = bindings::VIRTIO_NET_CTRL_MQ as u8;
/// Queue pair command: set the number of pairs in use.
pub const NET_CTRL_MQ_VQ_PAIRS_SET: u8 = bindings::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET as u8;

/// Net status: the link is up.
pub const NET_S_LINK_UP: u16 = bindings::VIRTIO_NET_S_LINK_UP as u16;
/// Size of the config space of a network device, in bytes.
pub const NET_CONFIG_SIZE: usize = size_of::<bindings::virtio_net_config>();
/// Size in bytes of the header before each frame, with version 1.
pub const NET_HDR_SIZE: usize = size_of::<bindings::virtio_net_hdr_v1>();
/// Size in bytes of the header before each frame of a legacy driver.
pub const NET_HDR_SIZE_LEGACY: usize = size_of::<bindings::virtio_net_hdr>();

/// Block feature: the config space has the largest size of a segment.
pub const F_BLK_SIZE_MAX: u64 = 1 << bindings::VIRTIO_BLK_F_SIZE_MAX;
/// Block feature: the config space has the largest number of segments in a request.
pub const F_BLK_SEG_MAX: u64 = 1 << bindings::VIRTIO_BLK_F_SEG_MAX;
/// Block feature: the disk is read-only.
pub const F_BLK_RO: u64 = 1 << bindings::VIRTIO_BLK_F_RO;
/// Block feature: the config space has the block size.
pub const F_BLK_BLK_SIZE: u64 = 1 << bindings::VIRTIO_BLK_F_BLK_SIZE;
/// Block feature: flush requests.
pub const F_BLK_FLUSH: u64 = 1 << bindings::VIRTIO_BLK_F_FLUSH;
/// Block feature: the config space has the topology.
pub const F_BLK_TOPOLOGY: u64 = 1 << bindings::VIRTIO_BLK_F_TOPOLOGY;
/// Block feature: there may be several queues.
pub const F_BLK_MQ: u64 = 1 << bindings::VIRTIO_BLK_F_MQ;
/// Block feature: discard requests.
pub const F_BLK_DISCARD: u64 = 1 << bindings::VIRTIO_BLK_F_DISCARD;
/// Block feature: write zeroes requests.
pub const F_BLK_WRITE_ZEROES: u64 = 1 << bindings::VIRTIO_BLK_F_WRITE_ZEROES;
/// Size of the config space of a block device, in bytes.
pub const BLK_CONFIG_SIZE: usize = size_of::<bindings::virtio_blk_config>();

/// Defines the offsets of the fields of a block device's config space.
macro_rules! blk_fields {
    ($($name:ident: $($field:ident).+),* $(,)?) => {
        $(
            #[doc = concat!("Where `", stringify!($($field).+), "` is in that config space.")]
            pub const $name: usize =
                core::mem::offset_of!(bindings::virtio_blk_config, $($field).+);
        )*
    };
}

blk_fields! {
    BLK_CFG_CAPACITY: capacity,
    BLK_CFG_SIZE_MAX: size_max,
    BLK_CFG_SEG_MAX: seg_max,
    BLK_CFG_BLK_SIZE: blk_size,
    BLK_CFG_MIN_IO_SIZE: min_io_size,
    BLK_CFG_OPT_IO_SIZE: opt_io_size,
    BLK_CFG_NUM_QUEUES: num_queues,
    BLK_CFG_MAX_DISCARD_SECTORS: max_discard_sectors,
    BLK_CFG_MAX_DISCARD_SEG: max_discard_seg,
    BLK_CFG_DISCARD_SECTOR_ALIGNMENT: discard_sector_alignment,
    BLK_CFG_MAX_WRITE_ZEROES_SECTORS: max_write_zeroes_sectors,
    BLK_CFG_MAX_WRITE_ZEROES_SEG: max_write_zeroes_seg,
}

/// Backend feature: queues may become ready after DRIVER_OK.
pub const BACKEND_F_ENABLE_AFTER_DRIVER_OK: u64 =
    1 << bindings::VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK;

/// Reset flag: the driver expects that the reset drops the maps.
pub const RESET_F_CLEAN_MAP: u32 = bindings::VDPA_RESET_F_CLEAN_MAP;
/// Offset in the header of a frame of the number of buffers: little-endian, with version 1 only.
pub const NET_HDR_NUM_BUFFERS: usize =
    core::mem::offset_of!(bindings::virtio_net_hdr_v1, num_buffers);
