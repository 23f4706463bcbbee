// SPDX-License-Identifier: GPL-2.0

//! `rust_vdpa_sample.ko`: a source of entropy on the vDPA bus, as small as a parent can be.
//!
//! `Documentation/writing-a-parent.rst` explains it step by step.

#![forbid(unsafe_code)]

use kernel::{debugfs::Dir, prelude::*};
use vdpa_parent::{
    iotlb::Iotlb,
    mgmtdev::{Management, ManagementDevice},
    parent_device::{NewDevice, Registered},
    parent_ops::{Maps, Provision, VdpaConfigOps},
    random::fill_random,
    virtio_ids as ids,
    worker::Again,
};
use vdpa_sim::{
    engine::{Class, Engine, Io, Setup},
    engine_ops,
    engine_ops::ONE_QUEUE,
    maps,
    queue::Queue,
    ring::{Chain, Memory, RingResult},
};

/// Features that are offered by default.
const FEATURES: u64 =
    ids::F_VERSION_1 | ids::F_ACCESS_PLATFORM | ids::F_RING_INDIRECT_DESC | ids::F_RING_EVENT_IDX;
/// Features that can be requested.
const ALL_FEATURES: u64 = FEATURES | ids::F_RING_PACKED;
/// Largest size of the queue.
const QUEUE_MAX: u16 = 256;
/// Number of requests that are served before other work may run.
const BUDGET: u32 = 64;
/// Largest number of bytes that one request gets.
const REQUEST_MAX: usize = 4096;
/// Largest number of ranges that a driver may map.
const MAPS_MAX: u32 = 2048;

/// Fills the buffers of a request. Returns the number of bytes that were written.
fn fill(ring: &impl Memory, mut chain: Chain, buffers: &impl Memory) -> RingResult<u32> {
    let mut bytes = [0; 64];
    let mut written = 0;
    while let Some(segment) = chain.next(ring)? {
        let mut addr = segment.addr;
        let mut left = (segment.len as usize).min(REQUEST_MAX - written);
        while segment.writable && left > 0 {
            let (now, _) = bytes.split_at_mut(left.min(64));
            fill_random(now);
            buffers.write(addr, now)?;
            addr = addr.wrapping_add(now.len() as u64);
            left -= now.len();
            written += now.len();
        }
    }
    Ok(written as u32)
}

/// Class of the device.
struct Entropy;

impl Class for Entropy {
    const DEVICE_ID: u32 = ids::ID_RNG;
    /// No config space.
    type Config = [u8; 0];
    /// No data of its own.
    type Unit = ();
    type Files = ();

    fn config(&self, _features: u64) -> [u8; 0] {
        []
    }

    fn run(&self, _unit: &mut (), queues: &mut [Queue], io: &Io<'_>) -> Again {
        io.serve(queues, BUDGET, |ring, chain, buffers| {
            fill(ring, chain, buffers)
        })
    }
}

/// The device on the bus.
struct Rng {
    engine: Engine<Entropy, maps::Maps>,
}

#[vtable]
impl VdpaConfigOps for Rng {
    const MAPS: Maps = Maps::Persistent;

    engine_ops!(engine);

    fn set_map(&self, asid: c_uint, iotlb: &Iotlb) -> Result {
        self.engine.set_map(asid, iotlb, MAPS_MAX)
    }

    fn reset_map(&self, asid: c_uint) -> Result {
        self.engine.reset_map(asid)
    }
}

/// Management device, with the directory of its devices in debugfs.
struct RngManagement(Dir);

#[vtable]
impl Management for RngManagement {
    type Device = Rng;

    const NAME: &'static CStr = c"rust_vdpa_sample";
    const DEVICE_ID: u32 = Entropy::DEVICE_ID;
    const ATTRIBUTES: u64 = Provision::FEATURES;
    const FEATURES: u64 = ALL_FEATURES;
    const MAX_VQS: u32 = ONE_QUEUE.vqs;

    fn dev_add(&self, new: NewDevice<'_, Rng>, provision: &Provision) -> Result<Registered> {
        let offered = provision.features_of(ALL_FEATURES, FEATURES)?;
        let setup = Setup::one_queue(Entropy, (), offered, QUEUE_MAX)?;
        new.register(ONE_QUEUE, |name| {
            let engine = Engine::new(name, &self.0, setup, || maps::Maps::IDENTITY)?;
            Ok(Rng { engine })
        })
    }
}

module! {
    type: RngModule,
    name: "rust_vdpa_sample",
    authors: ["The rust-vhost-vdpa authors"],
    description: "vDPA entropy source, the sample of a parent in Rust",
    license: "GPL v2",
}

/// The module. Unloading it unregisters the management device.
struct RngModule {
    _management: Pin<KBox<ManagementDevice<RngManagement>>>,
}

impl kernel::Module for RngModule {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let management = RngManagement(Dir::new(c"rust_vdpa_sample"));
        Ok(Self {
            _management: KBox::try_pin_init(ManagementDevice::new(management, module), GFP_KERNEL)?,
        })
    }
}
