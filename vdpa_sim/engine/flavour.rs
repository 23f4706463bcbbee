// SPDX-License-Identifier: GPL-2.0

//! The flavours of a simulator, which module parameters choose between: each has an op table of
//! its own.

use kernel::prelude::*;
use vdpa_parent::sim_params::SimParams;

/// How a driver gives its maps.
pub trait Flavour: Send + Sync + 'static {
    /// All at once with `set_map`; else one by one, with `dma_map` and `dma_unmap`.
    const SET_MAP: bool;
    /// As user virtual addresses; else as physical ones.
    const USE_VA: bool;
}

/// `set_map`, physical addresses.
pub struct SetMap;

impl Flavour for SetMap {
    const SET_MAP: bool = true;
    const USE_VA: bool = false;
}

/// `dma_map`, physical addresses.
pub struct DmaMap;

impl Flavour for DmaMap {
    const SET_MAP: bool = false;
    const USE_VA: bool = false;
}

/// `set_map`, user virtual addresses.
pub struct VaSetMap;

impl Flavour for VaSetMap {
    const SET_MAP: bool = true;
    const USE_VA: bool = true;
}

/// `dma_map`, user virtual addresses.
pub struct VaDmaMap;

impl Flavour for VaDmaMap {
    const SET_MAP: bool = false;
    const USE_VA: bool = true;
}

/// The smallest `queue_size`. A disk's request and a NIC's control command have a header, data and
/// a status, and so three descriptors: a driver waits for ever for room in a smaller queue.
const QUEUE_SIZE_MIN: u16 = 4;

/// What a simulator's module registers, whatever the flavour.
pub trait Simulator {
    /// What is registered in one flavour, until it is dropped.
    type Registered<F: Flavour>: Send + Sync;

    /// Registers it.
    fn register<F: Flavour>(module: &'static ThisModule) -> Result<Self::Registered<F>>;
}

/// What is registered, in the flavour that the module's parameters ask for.
#[allow(dead_code, reason = "kept to be dropped")]
pub enum Chosen<S: Simulator> {
    /// See [`SetMap`].
    Tables(S::Registered<SetMap>),
    /// See [`DmaMap`].
    Ranges(S::Registered<DmaMap>),
    /// See [`VaSetMap`].
    VaTables(S::Registered<VaSetMap>),
    /// See [`VaDmaMap`].
    VaRanges(S::Registered<VaDmaMap>),
}

impl<S: Simulator> Chosen<S> {
    /// Registers the flavour that `params` ask for.
    ///
    /// Errors: `EINVAL` for parameters that no simulator can have, those of the registration.
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
