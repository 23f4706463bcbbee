// SPDX-License-Identifier: GPL-2.0

//! The numbers of the virtio specification that parents use, in types that fit.
//!
//! C: `include/uapi/linux/virtio_*.h`, `include/uapi/linux/vhost_types.h`.

use super::bindings;

/// The device id of a network device.
pub(crate) const ID_NET: u32 = bindings::VIRTIO_ID_NET;

/// Status: the driver is set up and ready to drive the device.
pub(crate) const STATUS_DRIVER_OK: u8 = bindings::VIRTIO_CONFIG_S_DRIVER_OK as u8;

/// Feature: the driver copes with any layout of the descriptors.
pub(crate) const F_ANY_LAYOUT: u64 = 1 << bindings::VIRTIO_F_ANY_LAYOUT;
/// Feature: version 1 of the specification, and so little-endian.
pub(crate) const F_VERSION_1: u64 = 1 << bindings::VIRTIO_F_VERSION_1;
/// Feature: addresses are IOVAs.
pub(crate) const F_ACCESS_PLATFORM: u64 = 1 << bindings::VIRTIO_F_ACCESS_PLATFORM;
/// Feature: a descriptor may refer to a table of descriptors.
pub(crate) const F_RING_INDIRECT_DESC: u64 = 1 << bindings::VIRTIO_RING_F_INDIRECT_DESC;
/// Feature: notifications are suppressed by index.
pub(crate) const F_RING_EVENT_IDX: u64 = 1 << bindings::VIRTIO_RING_F_EVENT_IDX;

/// Net feature: the config space has an MTU.
pub(crate) const F_NET_MTU: u64 = 1 << bindings::VIRTIO_NET_F_MTU;
/// Net feature: the config space has a MAC address.
pub(crate) const F_NET_MAC: u64 = 1 << bindings::VIRTIO_NET_F_MAC;
/// Net feature: the config space has the state of the link.
pub(crate) const F_NET_STATUS: u64 = 1 << bindings::VIRTIO_NET_F_STATUS;
/// Net status: the link is up.
pub(crate) const NET_S_LINK_UP: u16 = bindings::VIRTIO_NET_S_LINK_UP as u16;
/// The size of the config space of a network device, in bytes.
pub(crate) const NET_CONFIG_SIZE: usize = size_of::<bindings::virtio_net_config>();
/// The size of the header before each frame, with version 1.
pub(crate) const NET_HDR_SIZE: usize = size_of::<bindings::virtio_net_hdr_v1>();
/// The size of the header before each frame of a legacy driver.
pub(crate) const NET_HDR_SIZE_LEGACY: usize = size_of::<bindings::virtio_net_hdr>();

/// Backend feature: queues may become ready after DRIVER_OK.
pub(crate) const BACKEND_F_ENABLE_AFTER_DRIVER_OK: u64 =
    1 << bindings::VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK;

/// Reset flag: the driver expects the maps to be gone afterwards.
pub(crate) const RESET_F_CLEAN_MAP: u32 = bindings::VDPA_RESET_F_CLEAN_MAP;
/// Where in that header the number of buffers is: little-endian, with version 1 only.
pub(crate) const NET_HDR_NUM_BUFFERS: usize =
    core::mem::offset_of!(bindings::virtio_net_hdr_v1, num_buffers);
