// SPDX-License-Identifier: GPL-2.0

//! `rust_vdpa_sample.ko`: a source of entropy on the vDPA bus, as small as a parent can be.
//!
//! `Documentation/writing-a-parent.rst` builds it step by step.

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

/// The features on offer if nobody asks for others.
const FEATURES: u64 =
    ids::F_VERSION_1 | ids::F_ACCESS_PLATFORM | ids::F_RING_INDIRECT_DESC | ids::F_RING_EVENT_IDX;
/// The features that can be asked for.
const ALL_FEATURES: u64 = FEATURES | ids::F_RING_PACKED;
/// The largest size of the queue.
const QUEUE_MAX: u16 = 256;
/// The number of requests that are served before somebody else may run.
const BUDGET: u32 = 64;
/// The number of bytes that one request gets at most.
const REQUEST_MAX: usize = 4096;
/// The number of ranges that a driver may map.
const MAPS_MAX: u32 = 2048;

/// Fills the buffers of a request, and returns the number of bytes that were written.
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

/// What the device is.
struct Entropy;

impl Class for Entropy {
    const DEVICE_ID: u32 = ids::ID_RNG;
    /// No config space.
    type Config = [u8; 0];
    /// Nothing to remember.
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

/// What makes devices, and their directory in debugfs.
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

/// The module: it is there as long as its management device is.
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
