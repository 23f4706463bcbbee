// SPDX-License-Identifier: GPL-2.0

//! The ops of the simulators, which are the same for every class of device: those of the engine,
//! with maps that a driver gives in one of the ways that C's simulators know, and with faults.
//!
//! Each simulator's crate has this file: an op table names the module that it is in.

use core::marker::PhantomData;
use kernel::{
    debugfs::Dir,
    page::PAGE_SIZE,
    prelude::*,
    str::CStr, //
};
use vdpa_parent::{
    iotlb::Iotlb,
    mm::BoundMm,
    parent_ops::{Callback, IovaRange, Maps, Mm, Stats, VdpaConfigOps, VqState},
    virtio_ids as ids,
};
use vdpa_sim::{
    engine::{Class, Engine, Setup},
    flavour::Flavour,
    maps::Maps as Table,
};

/// A simulated device.
pub(crate) struct Sim<C: Class, F> {
    /// What serves it.
    pub(crate) engine: Engine<C, Table>,
    /// The number of ranges that an address space has room for.
    limit: u32,
    _flavour: PhantomData<F>,
}

impl<C: Class, F: Flavour> Sim<C, F> {
    /// A device at rest, with a directory below `dir` and room for `limit` ranges in each address
    /// space.
    pub(crate) fn new(name: &CStr, dir: &Dir, setup: Setup<C>, limit: u32) -> Result<Self> {
        Ok(Self {
            engine: Engine::new(name, dir, setup, || Table::IDENTITY)?,
            limit,
            _flavour: PhantomData,
        })
    }
}

#[vtable]
impl<C: Class, F: Flavour> VdpaConfigOps for Sim<C, F> {
    const MAPS: Maps = Maps::Legacy;
    const USE_VA: bool = F::USE_VA;
    const HAS_SET_MAP: bool = F::SET_MAP;
    const HAS_DMA_MAP: bool = !F::SET_MAP;
    const HAS_DMA_UNMAP: bool = !F::SET_MAP;
    const HAS_BIND_MM: bool = F::USE_VA;
    const HAS_UNBIND_MM: bool = F::USE_VA;

    fn set_vq_address(&self, idx: u16, desc: u64, driver: u64, device: u64) -> Result {
        self.engine.set_vq_address(idx, desc, driver, device)
    }

    fn set_vq_num(&self, idx: u16, num: u32) {
        self.engine.set_vq_num(idx, num);
    }

    fn kick_vq(&self, idx: u16) {
        self.engine.kick_vq(idx);
    }

    fn set_vq_cb(&self, idx: u16, cb: Callback) {
        self.engine.set_vq_cb(idx, cb);
    }

    fn set_vq_ready(&self, idx: u16, ready: bool) {
        self.engine.set_vq_ready(idx, ready);
    }

    fn get_vq_ready(&self, idx: u16) -> bool {
        self.engine.get_vq_ready(idx)
    }

    fn set_vq_state(&self, idx: u16, vq_state: &VqState) -> Result {
        self.engine.set_vq_state(idx, vq_state)
    }

    fn get_vq_state(&self, idx: u16) -> Result<VqState> {
        self.engine.get_vq_state(idx)
    }

    fn get_vendor_vq_stats(&self, idx: u16, stats: &mut Stats<'_>) -> Result {
        self.engine.get_vendor_vq_stats(idx, stats)
    }

    fn get_vq_size(&self, idx: u16) -> u16 {
        self.engine.get_vq_size(idx)
    }

    fn get_vq_align(&self) -> u32 {
        PAGE_SIZE as u32
    }

    fn get_vq_group(&self, idx: u16) -> u32 {
        self.engine.get_vq_group(idx)
    }

    fn get_device_features(&self) -> u64 {
        self.engine.get_device_features()
    }

    fn get_backend_features(&self) -> u64 {
        ids::BACKEND_F_ENABLE_AFTER_DRIVER_OK
    }

    fn set_driver_features(&self, features: u64) -> Result {
        self.engine.set_driver_features(features)
    }

    fn get_driver_features(&self) -> u64 {
        self.engine.get_driver_features()
    }

    fn set_config_cb(&self, cb: Callback) {
        self.engine.set_config_cb(cb);
    }

    fn get_vq_num_max(&self) -> u16 {
        self.engine.get_vq_num_max()
    }

    fn get_device_id(&self) -> u32 {
        C::DEVICE_ID
    }

    fn get_vendor_id(&self) -> u32 {
        0
    }

    fn get_status(&self) -> u8 {
        self.engine.get_status()
    }

    fn set_status(&self, status: u8) {
        self.engine.set_status(status);
    }

    fn reset(&self) -> Result {
        self.compat_reset(0)
    }

    fn compat_reset(&self, flags: u32) -> Result {
        self.engine.faults().reset.hit()?;
        self.engine.reset();
        if flags & ids::RESET_F_CLEAN_MAP != 0 {
            self.engine.reset_maps();
        }
        Ok(())
    }

    fn suspend(&self) -> Result {
        self.engine.faults().suspend.hit()?;
        self.engine.suspend();
        Ok(())
    }

    fn resume(&self) -> Result {
        self.engine.faults().resume.hit()?;
        self.engine.resume();
        Ok(())
    }

    fn get_config_size(&self) -> usize {
        self.engine.get_config_size()
    }

    fn get_config(&self, offset: usize, buf: &mut [u8]) {
        self.engine.get_config(offset, buf);
    }

    fn set_config(&self, offset: usize, buf: &[u8]) {
        self.engine.set_config(offset, buf);
    }

    fn get_generation(&self) -> u32 {
        self.engine.get_generation()
    }

    fn get_iova_range(&self) -> IovaRange {
        IovaRange {
            first: 0,
            last: u64::MAX,
        }
    }

    fn set_map(&self, asid: c_uint, iotlb: &Iotlb) -> Result {
        self.engine.faults().set_map.hit()?;
        self.engine.set_map(asid, iotlb, self.limit)
    }

    fn dma_map(&self, asid: c_uint, iova: u64, size: u64, pa: u64, perm: u32) -> Result {
        self.engine.faults().dma_map.hit()?;
        self.engine.dma_map(asid, iova, size, pa, perm, self.limit)
    }

    fn dma_unmap(&self, asid: c_uint, iova: u64, size: u64) -> Result {
        self.engine.faults().dma_unmap.hit()?;
        self.engine.dma_unmap(asid, iova, size, self.limit)
    }

    fn reset_map(&self, asid: c_uint) -> Result {
        self.engine.faults().reset_map.hit()?;
        self.engine.reset_map(asid)
    }

    fn set_group_asid(&self, group: c_uint, asid: c_uint) -> Result {
        self.engine.set_group_asid(group, asid)
    }

    fn bind_mm(&self, mm: &Mm) -> Result {
        self.engine.bind(Some(BoundMm::new(mm)));
        Ok(())
    }

    fn unbind_mm(&self) {
        self.engine.unbind();
    }
}
