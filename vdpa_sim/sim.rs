// SPDX-License-Identifier: GPL-2.0

//! Ops of the simulators, which are the same for every class of device: those of the engine, plus
//! maps in the ways that C's simulators support, plus injected faults.
//!
//! Each simulator's crate includes this file, because an op table names the module that it is in.

use core::marker::PhantomData;
use kernel::{
    debugfs::Dir,
    prelude::*,
    str::CStr, //
};
use vdpa_parent::{
    iotlb::Iotlb,
    mm::BoundMm,
    parent_ops::{IovaRange, Maps, Mm, VdpaConfigOps},
    virtio_ids as ids,
};
use vdpa_sim::{
    engine::{Class, Engine, Setup},
    engine_ops,
    flavour::Flavour,
    maps::Maps as Table,
};

/// A simulated device.
pub(crate) struct Sim<C: Class, F> {
    /// The engine of the device.
    pub(crate) engine: Engine<C, Table>,
    /// The largest number of ranges in an address space.
    limit: u32,
    _flavour: PhantomData<F>,
}

impl<C: Class, F: Flavour> Sim<C, F> {
    /// Creates a device after a reset, with a directory below `dir` and at most `limit` ranges in
    /// each address space.
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

    engine_ops!(engine: set_vq_address, set_vq_num, kick_vq, set_vq_cb, set_vq_ready, get_vq_ready,
        set_vq_state, get_vq_state, get_vendor_vq_stats, get_vq_size, get_vq_align, get_vq_group,
        get_device_features, get_backend_features, set_driver_features, get_driver_features,
        set_config_cb, get_vq_num_max, get_device_id, get_vendor_id, get_status, set_status,
        get_config_size, get_config, set_config, get_generation, set_group_asid);

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

    fn bind_mm(&self, mm: &Mm) -> Result {
        self.engine.bind(Some(BoundMm::new(mm)));
        Ok(())
    }

    fn unbind_mm(&self) {
        self.engine.unbind();
    }
}
