// SPDX-License-Identifier: GPL-2.0

//! A simulated vDPA device: what is the same for every class of device.
//!
//! The ops set state; a thread does the work. Everything that the thread looks at is under a lock
//! that it holds while it runs, so once an op that stops the device has returned, nothing of it
//! runs, and once `set_map` has returned, nothing uses the maps before it.
//!
//! Lock order: [`Core::state`], then [`Core::spaces`]. A kick takes neither.

use crate::{
    abstractions::{
        iotlb::Iotlb,
        virtio_ids as ids,
        worker::{Again, Run, Worker},
    },
    maps::{copy_of, AddressSpaces},
    parent_ops::{Callback, IovaRange, Maps, Stats, VdpaConfigOps, VqState},
    ring::{Layout, Memory, RingFeatures, RingResult, SplitQueue},
};
use kernel::{
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    sync::{Arc, Mutex}, //
};

/// The largest size of a queue.
pub(crate) const QUEUE_MAX: u16 = 256;

/// What makes a simulated device a NIC, or a disk.
pub(crate) trait Class: Send + Unpin + Sized + 'static {
    /// The virtio device id.
    const DEVICE_ID: u32;
    /// The number of queues.
    const QUEUES: u16;
    /// The number of groups of queues.
    const GROUPS: u32;
    /// The number of address spaces.
    const ADDRESS_SPACES: u32;
    /// The config space, as bytes.
    type Config: AsRef<[u8]>;

    /// The group of a queue; smaller than `GROUPS`.
    fn group(idx: u16) -> u32;

    /// The config space as the driver is to see it.
    fn config(&self, little_endian: bool) -> Self::Config;

    /// The driver writes to the config space; the range lies in it.
    fn write_config(&mut self, legacy: bool, offset: usize, buf: &[u8]);

    /// Does a bounded amount of work.
    fn run(&mut self, queues: &mut [Queue], spaces: &AddressSpaces, features: u64) -> Again;

    /// Gives the statistics of a queue.
    fn stats(&self, idx: u16, stats: &mut Stats<'_>) -> Result;
}

/// One queue.
pub(crate) struct Queue {
    layout: Layout,
    /// Where the ring begins when it is started; where it was when it was stopped.
    start: u16,
    /// What the driver said.
    ready: bool,
    /// Whether its ring cannot be used until it is stopped and started again.
    broken: bool,
    /// The ring, while it is started and not broken.
    ring: Option<SplitQueue>,
    callback: Callback,
    /// The address space of the queue's group.
    asid: c_uint,
    /// Whether something was pushed that the driver has not been told about.
    pushed: bool,
}

impl Queue {
    /// A queue after a reset.
    fn new() -> Self {
        Self {
            layout: Layout {
                num: QUEUE_MAX.into(),
                ..Layout::default()
            },
            start: 0,
            ready: false,
            broken: false,
            ring: None,
            callback: Callback::none(),
            asid: 0,
            pushed: false,
        }
    }

    /// The address space that the queue is in.
    pub(crate) fn asid(&self) -> usize {
        self.asid as usize
    }

    /// Whether the device may use it: it is started and not broken.
    pub(crate) fn is_active(&self) -> bool {
        self.ring.is_some()
    }

    /// Does something with the ring. An error breaks the queue: it rests until it is stopped and
    /// started again.
    pub(crate) fn ring<R>(
        &mut self,
        f: impl FnOnce(&mut SplitQueue) -> RingResult<R>,
    ) -> Option<R> {
        match f(self.ring.as_mut()?) {
            Ok(done) => Some(done),
            Err(_) => {
                self.stop();
                self.broken = true;
                None
            }
        }
    }

    /// Gives a chain back.
    pub(crate) fn push<M: Memory>(&mut self, mem: &M, head: u16, len: u32) {
        if self.ring(|ring| ring.push(mem, head, len)).is_some() {
            self.pushed = true;
        }
    }

    /// Where the queue is.
    fn position(&self) -> u16 {
        self.ring
            .as_ref()
            .map_or(self.start, SplitQueue::next_avail)
    }

    /// Starts the ring where it is, with the used index equal to the available one, if it is time
    /// for that: drivers may say that a queue is ready before they say where it lies, so only a
    /// running device looks.
    fn begin(&mut self, features: RingFeatures) {
        if !self.ready || self.broken || self.ring.is_some() {
            return;
        }
        if self.layout.num <= QUEUE_MAX.into() {
            self.ring = SplitQueue::new(self.layout, features, self.start).ok();
        }
        self.broken = self.ring.is_none();
    }

    /// Stops the ring where it is.
    fn stop(&mut self) {
        self.start = self.position();
        self.ring = None;
        self.broken = false;
    }
}

/// The state of a device.
struct State<C> {
    status: u8,
    /// DRIVER_OK is set and the device is not suspended.
    running: bool,
    features: u64,
    /// Changes with the config space.
    generation: u32,
    queues: KVec<Queue>,
    config_cb: Callback,
    class: C,
}

impl<C: Class> State<C> {
    /// What was negotiated about rings.
    fn ring_features(&self) -> RingFeatures {
        RingFeatures {
            little_endian: self.little_endian(),
            indirect: self.features & ids::F_RING_INDIRECT_DESC != 0,
            event_idx: self.features & ids::F_RING_EVENT_IDX != 0,
        }
    }

    /// Whether fields are little-endian; else they are native.
    fn little_endian(&self) -> bool {
        cfg!(target_endian = "little") || self.features & ids::F_VERSION_1 != 0
    }

    /// Back to the beginning; the maps are not part of it.
    fn reset(&mut self) {
        self.status = 0;
        self.running = false;
        self.features = 0;
        self.generation = self.generation.wrapping_add(1);
        self.config_cb = Callback::none();
        for queue in self.queues.iter_mut() {
            *queue = Queue::new();
        }
    }

    /// The queue with that number.
    fn queue(&mut self, idx: u16) -> Result<&mut Queue> {
        self.queues.get_mut(usize::from(idx)).ok_or(EINVAL)
    }
}

/// What ops and thread share.
#[pin_data]
struct Core<C> {
    #[pin]
    state: Mutex<State<C>>,
    #[pin]
    spaces: Mutex<AddressSpaces>,
}

impl<C: Class> Run for Core<C> {
    fn run(&self) -> Again {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if !state.running {
            return Again::No;
        }
        let features = state.ring_features();
        for queue in state.queues.iter_mut() {
            queue.begin(features);
        }

        let spaces = self.spaces.lock();
        let again = state.class.run(&mut state.queues, &spaces, state.features);
        let mut tell = [false; 64];
        for (queue, tell) in state.queues.iter_mut().zip(tell.iter_mut()) {
            if core::mem::take(&mut queue.pushed) {
                if let Some(mem) = spaces.memory(queue.asid()) {
                    *tell = queue.ring(|ring| ring.needs_signal(&mem)).unwrap_or(true);
                }
            }
        }
        drop(spaces);

        for (queue, _) in state.queues.iter().zip(tell).filter(|(_, tell)| *tell) {
            queue.callback.call();
        }
        again
    }
}

/// A simulated device.
pub(crate) struct Sim<C: Class> {
    /// Goes first: nothing runs once it is dropped.
    worker: Worker<Core<C>>,
    core: Arc<Core<C>>,
    /// The features on offer.
    offered: u64,
}

impl<C: Class> Sim<C> {
    /// A device at rest, which offers these features.
    pub(crate) fn new(name: &CStr, offered: u64, class: C) -> Result<Self> {
        const { assert!(C::QUEUES <= 64) };
        let mut queues = KVec::with_capacity(usize::from(C::QUEUES), GFP_KERNEL)?;
        for _ in 0..C::QUEUES {
            queues.push(Queue::new(), GFP_KERNEL)?;
        }
        let spaces = AddressSpaces::new(C::ADDRESS_SPACES as usize)?;
        let core = Arc::pin_init(
            pin_init!(Core {
                state <- new_mutex!(State {
                    status: 0,
                    running: false,
                    features: 0,
                    generation: 0,
                    queues,
                    config_cb: Callback::none(),
                    class,
                }),
                spaces <- new_mutex!(spaces),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self {
            worker: Worker::new(name, core.clone())?,
            core,
            offered,
        })
    }

    /// Changes what the config space is made of, and tells the driver.
    pub(crate) fn change_config(&self, change: impl FnOnce(&mut C)) {
        let mut state = self.core.state.lock();
        change(&mut state.class);
        state.generation = state.generation.wrapping_add(1);
        if state.running {
            state.config_cb.call();
        }
    }
}

#[vtable]
impl<C: Class> VdpaConfigOps for Sim<C> {
    const MAPS: Maps = Maps::Legacy;

    fn set_vq_address(&self, idx: u16, desc: u64, driver: u64, device: u64) -> Result {
        let mut state = self.core.state.lock();
        let layout = &mut state.queue(idx)?.layout;
        *layout = Layout {
            desc,
            driver,
            device,
            num: layout.num,
        };
        Ok(())
    }

    fn set_vq_num(&self, idx: u16, num: u32) {
        if let Ok(queue) = self.core.state.lock().queue(idx) {
            queue.layout.num = num;
        }
    }

    fn kick_vq(&self, _idx: u16) {
        self.worker.queue();
    }

    fn set_vq_cb(&self, idx: u16, cb: Callback) {
        if let Ok(queue) = self.core.state.lock().queue(idx) {
            queue.callback = cb;
        }
    }

    fn set_vq_ready(&self, idx: u16, ready: bool) {
        let mut state = self.core.state.lock();
        let Ok(queue) = state.queue(idx) else {
            return;
        };
        if ready == queue.ready {
            return;
        }
        queue.ready = ready;
        if ready {
            // There may have been kicks already.
            self.worker.queue();
        } else {
            queue.stop();
        }
    }

    fn get_vq_ready(&self, idx: u16) -> bool {
        let mut state = self.core.state.lock();
        state.queue(idx).is_ok_and(|queue| queue.ready)
    }

    fn set_vq_state(&self, idx: u16, vq_state: &VqState) -> Result {
        let mut state = self.core.state.lock();
        let queue = state.queue(idx)?;
        queue.stop();
        queue.start = vq_state.as_split();
        Ok(())
    }

    fn get_vq_state(&self, idx: u16) -> Result<VqState> {
        let mut state = self.core.state.lock();
        Ok(VqState::split(state.queue(idx)?.position()))
    }

    fn get_vendor_vq_stats(&self, idx: u16, stats: &mut Stats<'_>) -> Result {
        self.core.state.lock().class.stats(idx, stats)
    }

    fn get_vq_size(&self, idx: u16) -> u16 {
        let mut state = self.core.state.lock();
        if state.status & ids::STATUS_DRIVER_OK == 0 {
            return QUEUE_MAX;
        }
        match state.queue(idx) {
            Ok(queue) => u16::try_from(queue.layout.num).unwrap_or(QUEUE_MAX),
            Err(_) => 0,
        }
    }

    fn get_vq_align(&self) -> u32 {
        PAGE_SIZE as u32
    }

    fn get_vq_group(&self, idx: u16) -> u32 {
        C::group(idx)
    }

    fn get_device_features(&self) -> u64 {
        self.offered
    }

    fn get_backend_features(&self) -> u64 {
        ids::BACKEND_F_ENABLE_AFTER_DRIVER_OK
    }

    fn set_driver_features(&self, features: u64) -> Result {
        // A driver that uses physical addresses would be right only by accident.
        if features & ids::F_ACCESS_PLATFORM == 0 {
            return Err(EINVAL);
        }
        self.core.state.lock().features = features & self.offered;
        Ok(())
    }

    fn get_driver_features(&self) -> u64 {
        self.core.state.lock().features
    }

    fn set_config_cb(&self, cb: Callback) {
        self.core.state.lock().config_cb = cb;
    }

    fn get_vq_num_max(&self) -> u16 {
        QUEUE_MAX
    }

    fn get_device_id(&self) -> u32 {
        C::DEVICE_ID
    }

    fn get_vendor_id(&self) -> u32 {
        0
    }

    fn get_status(&self) -> u8 {
        self.core.state.lock().status
    }

    fn set_status(&self, status: u8) {
        let mut state = self.core.state.lock();
        state.status = status;
        state.running = status & ids::STATUS_DRIVER_OK != 0;
        if state.running {
            // The driver may have made buffers available before.
            self.worker.queue();
        }
    }

    fn reset(&self) -> Result {
        self.compat_reset(0)
    }

    fn compat_reset(&self, flags: u32) -> Result {
        let mut state = self.core.state.lock();
        state.reset();
        if flags & ids::RESET_F_CLEAN_MAP != 0 {
            self.core.spaces.lock().clear();
        }
        Ok(())
    }

    fn suspend(&self) -> Result {
        self.core.state.lock().running = false;
        Ok(())
    }

    fn resume(&self) -> Result {
        let mut state = self.core.state.lock();
        state.running = state.status & ids::STATUS_DRIVER_OK != 0;
        // Kicks that came meanwhile were for nothing.
        self.worker.queue();
        Ok(())
    }

    fn get_config_size(&self) -> usize {
        size_of::<C::Config>()
    }

    fn get_config(&self, offset: usize, buf: &mut [u8]) {
        let state = self.core.state.lock();
        let config = state.class.config(state.little_endian());
        let range = offset..offset.saturating_add(buf.len());
        if let Some(bytes) = config.as_ref().get(range) {
            buf.copy_from_slice(bytes);
        }
    }

    fn set_config(&self, offset: usize, buf: &[u8]) {
        let mut state = self.core.state.lock();
        if offset
            .checked_add(buf.len())
            .is_some_and(|end| end <= size_of::<C::Config>())
        {
            let legacy = state.features & ids::F_VERSION_1 == 0;
            state.class.write_config(legacy, offset, buf);
        }
    }

    fn get_generation(&self) -> u32 {
        self.core.state.lock().generation
    }

    fn get_iova_range(&self) -> IovaRange {
        IovaRange {
            first: 0,
            last: u64::MAX,
        }
    }

    fn set_map(&self, asid: c_uint, iotlb: &Iotlb) -> Result {
        if asid >= C::ADDRESS_SPACES {
            return Err(EINVAL);
        }
        let maps = copy_of(iotlb)?;
        let old = self.core.spaces.lock().set(asid, Some(maps));
        // The lock was released at the end of the statement.
        drop(old?);
        Ok(())
    }

    fn reset_map(&self, asid: c_uint) -> Result {
        let old = self.core.spaces.lock().set(asid, None);
        drop(old?);
        Ok(())
    }

    fn set_group_asid(&self, group: c_uint, asid: c_uint) -> Result {
        if group >= C::GROUPS || asid >= C::ADDRESS_SPACES {
            return Err(EINVAL);
        }
        let mut state = self.core.state.lock();
        for (idx, queue) in (0u16..).zip(state.queues.iter_mut()) {
            if C::group(idx) == group {
                queue.asid = asid;
            }
        }
        Ok(())
    }
}
