// SPDX-License-Identifier: GPL-2.0

//! Flavours of a simulator, one of which module parameters select. Each has an op table of its own.

use kernel::prelude::*;
use vdpa_parent::sim_params::SimParams;

/// The way in which a driver passes its maps.
pub trait Flavour: Send + Sync + 'static {
    /// True for all at once with `set_map`, false for one by one with `dma_map` and `dma_unmap`.
    const SET_MAP: bool;
    /// True for user virtual addresses, false for physical ones.
    const USE_VA: bool;
}

/// Flavour with `set_map` and physical addresses.
pub struct SetMap;

impl Flavour for SetMap {
    const SET_MAP: bool = true;
    const USE_VA: bool = false;
}

/// Flavour with `dma_map` and physical addresses.
pub struct DmaMap;

impl Flavour for DmaMap {
    const SET_MAP: bool = false;
    const USE_VA: bool = false;
}

/// Flavour with `set_map` and user virtual addresses.
pub struct VaSetMap;

impl Flavour for VaSetMap {
    const SET_MAP: bool = true;
    const USE_VA: bool = true;
}

/// Flavour with `dma_map` and user virtual addresses.
pub struct VaDmaMap;

impl Flavour for VaDmaMap {
    const SET_MAP: bool = false;
    const USE_VA: bool = true;
}

/// Smallest `queue_size`. A disk's request and a NIC's control command have a header, data and a
/// status, and so three descriptors: in a smaller queue a driver would wait for room for ever.
const QUEUE_SIZE_MIN: u16 = 4;

/// Registration of a simulator's module, in any flavour.
pub trait Simulator {
    /// The registration in one flavour. Dropping it unregisters the simulator.
    type Registered<F: Flavour>: Send + Sync;

    /// Registers the simulator.
    fn register<F: Flavour>(module: &'static ThisModule) -> Result<Self::Registered<F>>;
}

/// Registration in the flavour that the module's parameters select.
#[allow(dead_code, reason = "kept to be dropped")]
pub enum Chosen<S: Simulator> {
    /// [`SetMap`].
    Tables(S::Registered<SetMap>),
    /// [`DmaMap`].
    Ranges(S::Registered<DmaMap>),
    /// [`VaSetMap`].
    VaTables(S::Registered<VaSetMap>),
    /// [`VaDmaMap`].
    VaRanges(S::Registered<VaDmaMap>),
}

impl<S: Simulator> Chosen<S> {
    /// Registers the flavour that `params` select.
    ///
    /// Errors: `EINVAL` for parameters that are invalid for every simulator, those of the
    /// registration.
    pub fn new(params: SimParams, module: &'static ThisModule) -> Result<Self> {
        let queue_size = params.queue_size;
        if params.max_iotlb_entries < 2
            || !queue_size.is_power_of_two()
            || queue_size < QUEUE_SIZE_MIN
        {
            return Err(EINVAL);
        }
        Ok(match (params.use_va, params.batch_mapping) {
            (false, true) => Self::Tables(S::register::<SetMap>(module)?),
            (false, false) => Self::Ranges(S::register::<DmaMap>(module)?),
            (true, true) => Self::VaTables(S::register::<VaSetMap>(module)?),
            (true, false) => Self::VaRanges(S::register::<VaDmaMap>(module)?),
        })
    }
}
