// SPDX-License-Identifier: GPL-2.0

//! Engine of a device in software: queues, the threads that serve them, address spaces, and the
//! effect of a vDPA device's ops on these.
//!
//! A device consists of units of one or more queues. Each unit has a thread, and a lock that the
//! thread holds while it does a bounded amount of work. An op that stops something does so under
//! that lock: when it returns, what it stopped does not run any more. An op that changes maps
//! changes the table and then takes every unit's lock once: afterwards nobody uses the old ranges.
//!
//! Lock order: [`Device::control`], then [`Unit::state`], then the locks of the address spaces and
//! those of the class. A kick takes none of these.

use crate::{
    faults::{Directory, Files},
    queue::{Queue, QueueStates},
    ring::{Position, RingFeatures},
    space::{AddressSpace, AddressSpaces, Spaces, Table},
    vq_state,
};
use core::cell::Cell;
use kernel::{
    debugfs::{Dir, Scope},
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
        Mutex, //
    },
};
use vdpa_parent::{
    guest_mem::{GuestMemory, Translation},
    mm::{BoundMm, UserAccess},
    parent_config,
    parent_ops::{Callback, Stats, VqState},
    virtio_ids as ids,
    worker::{Again, Run, Waker, Worker},
};

/// Class of a device, such as NIC or disk. All units share one object, which has its own locks for
/// what they share; these nest inside of all others.
pub trait Class: Send + Sync + Sized + 'static {
    /// The virtio device ID.
    const DEVICE_ID: u32;
    /// The config space, as bytes.
    type Config: AsRef<[u8]>;
    /// Data of one unit, under its lock.
    type Unit: Send + Unpin + 'static;
    /// The files that the class adds to the device's directory in debugfs; `()` for none.
    type Files: Files;

    /// Returns the group of a queue's buffers.
    fn group(&self, _idx: u16, _features: u64) -> u32 {
        0
    }

    /// Returns the group of a queue's ring.
    fn desc_group(&self, idx: u16, features: u64) -> u32 {
        self.group(idx, features)
    }

    /// Returns the config space as the driver sees it.
    fn config(&self, features: u64) -> Self::Config;

    /// Handles a write of the driver to the config space. The range is inside of it.
    fn write_config(&self, _features: u64, _offset: usize, _buf: &[u8]) {}

    /// Called when the device is complete. `wakers` wake its units, in their order.
    fn started(&self, _wakers: KVec<Waker>) {}

    /// Does a bounded amount of work for a unit.
    fn run(&self, unit: &mut Self::Unit, queues: &mut [Queue], io: &Io<'_>) -> Again;

    /// Resets a unit, but not its statistics.
    fn reset_unit(&self, _unit: &mut Self::Unit) {}

    /// Resets what the units share. Called after [`Self::reset_unit`] for all of them.
    fn reset(&self) {}

    /// Adds the statistics of a queue, which belongs to the unit. Errors: `EINVAL` if there are
    /// none.
    fn stats(
        &self,
        _unit: &Self::Unit,
        _queue: &Queue,
        _idx: u16,
        _features: u64,
        _: &mut Stats<'_>,
    ) -> Result {
        Err(EINVAL)
    }
}

/// Setup of a unit. Its queues follow those of the units before it.
pub struct UnitSetup<U> {
    /// The number of queues.
    pub queues: u16,
    /// The data of the unit.
    pub unit: U,
}

/// Setup of a device.
pub struct Setup<C: Class> {
    /// The class.
    pub class: Arc<C>,
    /// The units.
    pub units: KVec<UnitSetup<C::Unit>>,
    /// The features on offer.
    pub offered: u64,
    /// The number of groups of queues.
    pub groups: u32,
    /// The number of address spaces.
    pub address_spaces: u32,
    /// The largest size of a queue; a power of two.
    pub queue_max: u16,
    /// The class's files.
    pub files: C::Files,
}

/// Facilities for a unit while it runs.
pub struct Io<'a> {
    /// The negotiated features.
    pub features: u64,
    spaces: &'a dyn Spaces,
    user: Option<&'a UserAccess<'a>>,
    generation: &'a Atomic<u32>,
    /// True if the driver has to be told about its config space after the run.
    tell: Cell<bool>,
}

/// Translations for the memory of a queue.
pub struct View<'a> {
    ring: Translation<'a>,
    /// `None` if the buffers are in the address space of the ring.
    buffers: Option<Translation<'a>>,
}

impl<'a> View<'a> {
    /// Calls `f` with the memory of the queue, for a run of work.
    ///
    /// The memory caches translations. It is large, and is therefore created in place.
    #[inline(always)]
    pub fn with<R>(self, f: impl FnOnce(&QueueMemory<'_, 'a>) -> R) -> R {
        let ring = GuestMemory::new(self.ring);
        let other;
        let buffers = match self.buffers {
            None => &ring,
            Some(translation) => {
                other = GuestMemory::new(translation);
                &other
            }
        };
        f(&QueueMemory {
            ring: &ring,
            buffers,
        })
    }
}

/// Memory of a queue.
pub struct QueueMemory<'m, 'a> {
    /// The memory of the ring.
    pub ring: &'m GuestMemory<'a>,
    /// The memory of the buffers.
    pub buffers: &'m GuestMemory<'a>,
}

impl<'a> Io<'a> {
    /// Returns the translations for a queue's memory, or `None` if its address spaces cannot be
    /// used now: the queue must then rest.
    pub fn view(&self, queue: &Queue) -> Option<View<'a>> {
        let ring = self.spaces.translation(queue.ring_asid(), self.user)?;
        let buffers = if queue.asid() == queue.ring_asid() {
            None
        } else {
            Some(self.spaces.translation(queue.asid(), self.user)?)
        };
        Some(View { ring, buffers })
    }

    /// Does the same as [`Self::view`] for a queue that software serves, in a device whose other
    /// queues hardware serves.
    pub fn software_view(&self, queue: &Queue) -> Option<View<'a>> {
        let ring = self.spaces.software(queue.ring_asid(), self.user)?;
        let buffers = if queue.asid() == queue.ring_asid() {
            None
        } else {
            Some(self.spaces.software(queue.asid(), self.user)?)
        };
        Some(View { ring, buffers })
    }

    /// Records that the work changed the config space.
    pub fn config_changed(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    /// Makes the engine call the driver's config callback after the run.
    pub fn tell_config(&self) {
        self.tell.set(true);
    }
}

/// Returns true if fields are little-endian with these features, false if they are native.
pub fn little_endian(features: u64) -> bool {
    cfg!(target_endian = "little") || features & ids::F_VERSION_1 != 0
}

/// Returns true if rings are packed with these features, false if they are split.
fn is_packed(features: u64) -> bool {
    features & ids::F_RING_PACKED != 0
}

/// Returns the negotiated features of rings.
fn ring_features(features: u64) -> RingFeatures {
    RingFeatures {
        little_endian: little_endian(features),
        indirect: features & ids::F_RING_INDIRECT_DESC != 0,
        event_idx: features & ids::F_RING_EVENT_IDX != 0,
        packed: is_packed(features),
    }
}

/// State that does not belong to a queue.
struct Control {
    status: u8,
    /// True between `suspend` and `resume` or a reset.
    suspended: bool,
    /// True if units run: DRIVER_OK is set and the device is not suspended. False within
    /// [`Engine::with_vqs_suspended`].
    running: bool,
    features: u64,
    config_cb: Callback,
    /// True if the driver has to be told about its config space when it resumes the device.
    config_pending: bool,
    /// The address space of each group.
    groups: KVec<u32>,
}

impl Control {
    /// Returns true if the driver wants the device to run.
    fn wants_to_run(&self) -> bool {
        self.status & ids::STATUS_DRIVER_OK != 0 && !self.suspended
    }

    /// Tells the driver that the config space or the status changed: now, or when it resumes the
    /// device. Before DRIVER_OK it reads both anyway.
    fn tell_config(&mut self) {
        if self.running {
            self.config_cb.call();
        } else {
            self.config_pending |= self.suspended;
        }
    }

    /// Returns the address space of a group.
    fn asid(&self, group: u32) -> u32 {
        self.groups.get(group as usize).copied().unwrap_or(0)
    }
}

/// State that the units of a device share.
#[pin_data]
struct Device<C: Class, T> {
    #[pin]
    control: Mutex<Control>,
    /// The generation of the config space.
    generation: Atomic<u32>,
    /// True if the address space of a process is bound.
    bound: Atomic<bool>,
    /// The number of changes of maps. With `resting`, it ensures that a queue whose ring was not
    /// mapped is tried again.
    map_changes: Atomic<u32>,
    /// True if there may be such a queue.
    resting: Atomic<bool>,
    spaces: Arc<AddressSpaces<T>>,
    #[pin]
    directory: Scope<Directory<C::Files, T>>,
    class: Arc<C>,
}

/// State of a unit, under its lock.
struct UnitState<U> {
    /// Copy of [`Control::running`].
    running: bool,
    /// Copy of [`Control::features`].
    features: u64,
    /// The process to whose addresses the maps lead. If `None`, they lead to physical addresses.
    mm: Option<BoundMm>,
    queues: KVec<Queue>,
    own: U,
}

/// A unit: some queues, and the object whose work a thread runs.
#[pin_data]
struct Unit<C: Class, T> {
    device: Arc<Device<C, T>>,
    /// The number of the first queue.
    first: u16,
    #[pin]
    state: Mutex<UnitState<C::Unit>>,
}

impl<C: Class, T: Table> Unit<C, T> {
    /// Moves the queues to the address spaces of their groups.
    fn regroup(&self, control: &Control) {
        let class = &self.device.class;
        let mut state = self.state.lock();
        for (idx, queue) in (self.first..).zip(state.queues.iter_mut()) {
            queue.set_asid(
                control.asid(class.group(idx, control.features)),
                control.asid(class.desc_group(idx, control.features)),
            );
        }
    }
}

/// Result of a run.
struct Served {
    again: Again,
    /// True if the driver has to be told about its config space.
    tell: bool,
    /// True if a queue broke and the driver was not told yet.
    broke: bool,
}

impl Served {
    /// Returns the result of a run that did nothing.
    const fn nothing(again: Again) -> Self {
        Self {
            again,
            tell: false,
            broke: false,
        }
    }
}

impl<C: Class, T: Table> Unit<C, T> {
    /// Does a bounded amount of work. `user` gives access to the addresses of the bound process, if
    /// one is bound.
    fn serve(&self, user: Option<&UserAccess<'_>>) -> Served {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if !state.running {
            return Served::nothing(Again::No);
        }
        match (&state.mm, user) {
            (None, None) => {}
            (Some(mm), Some(user)) if user.is_of(mm) => {}
            // A process was bound or unbound meanwhile.
            _ => return Served::nothing(Again::Yes),
        }
        let map_changes = self.device.map_changes.load(Relaxed);
        let features = ring_features(state.features);
        for queue in state.queues.iter_mut() {
            queue.begin(features);
        }
        let io = Io {
            features: state.features,
            spaces: &*self.device.spaces,
            user,
            generation: &self.device.generation,
            tell: Cell::new(false),
        };
        let mut again = self
            .device
            .class
            .run(&mut state.own, &mut state.queues, &io);
        for queue in state.queues.iter_mut().filter(|queue| queue.wants_signal()) {
            if let Some(view) = io.view(queue) {
                view.with(|mem| queue.signal(mem.ring));
            }
        }
        if state.queues.iter().any(|queue| queue.is_resting()) {
            // Either this sees the change of the maps, or the one who changes them sees `resting`.
            self.device.resting.xchg(true, Full);
            if self.device.map_changes.load(Relaxed) != map_changes {
                again = Again::Yes;
            }
        }
        Served {
            again,
            tell: io.tell.get(),
            broke: state.queues.iter().any(|queue| queue.is_untold()),
        }
    }

    /// Tells the driver about the results of a run. The device may have been reset since then, so
    /// the state is checked again.
    fn tell(&self, served: &Served) {
        if !served.tell && !served.broke {
            return;
        }
        let mut control = self.device.control.lock();
        let mut broke = false;
        for queue in self.state.lock().queues.iter_mut() {
            broke |= queue.take_untold();
        }
        let new = broke && control.status & ids::STATUS_NEEDS_RESET == 0;
        if new {
            control.status |= ids::STATUS_NEEDS_RESET;
        }
        if new || served.tell {
            control.tell_config();
        }
    }
}

impl<C: Class, T: Table> Run for Unit<C, T> {
    fn run(&self) -> Again {
        self.device.directory.faults().delay();
        let mm = if self.device.bound.load(Relaxed) {
            self.state.lock().mm.clone()
        } else {
            None
        };
        let served = match mm {
            None => self.serve(None),
            // Once the process has exited, no memory can be reached.
            Some(mm) => match mm.with(|user| self.serve(Some(user))) {
                Some(served) => served,
                None => Served::nothing(Again::No),
            },
        };
        self.tell(&served);
        served.again
    }
}

/// Device in software.
pub struct Engine<C: Class, T: Table> {
    /// One worker for each unit. They are dropped first, so that nothing runs any more.
    workers: KVec<Worker<Unit<C, T>>>,
    units: KVec<Arc<Unit<C, T>>>,
    /// For each queue, its unit and its number in that unit.
    places: KVec<(u16, u16)>,
    device: Arc<Device<C, T>>,
    offered: u64,
    queue_max: u16,
    address_spaces: u32,
}

/// A device whose units do not run.
pub struct Paused<'a, C: Class, T: Table> {
    engine: &'a Engine<C, T>,
    control: &'a mut Control,
}

impl<C: Class, T: Table> Paused<'_, C, T> {
    /// Returns true if DRIVER_OK is set.
    pub fn is_started(&self) -> bool {
        self.control.status & ids::STATUS_DRIVER_OK != 0
    }

    /// Returns true if the device continues to run afterwards.
    pub fn is_to_run(&self) -> bool {
        self.control.wants_to_run()
    }

    /// Implements [`VdpaConfigOps::set_group_asid`].
    ///
    /// Errors: `EINVAL` if the group or the address space does not exist.
    pub fn set_group_asid(&mut self, group: u32, asid: u32) -> Result {
        self.engine.move_group(self.control, group, asid)
    }
}

impl<C: Class, T: Table> Engine<C, T> {
    /// Creates a device after a reset, with a directory below `dir`. `table` is called for the
    /// table of each address space. Errors: `ENOMEM`, those of [`Worker::new`].
    pub fn new(name: &CStr, dir: &Dir, setup: Setup<C>, table: impl FnMut() -> T) -> Result<Self> {
        let groups = KVec::from_elem(0u32, setup.groups as usize, GFP_KERNEL)?;
        let count = setup.units.iter().map(|unit| usize::from(unit.queues));
        let states = QueueStates::new(count.sum())?;
        let shown = states.clone();
        let spaces = Arc::new(AddressSpaces::new(setup.address_spaces, table)?, GFP_KERNEL)?;
        let (class, files) = (setup.class, setup.files);
        let device = Arc::pin_init(
            try_pin_init!(Device {
                control <- new_mutex!(Control {
                    status: 0,
                    suspended: false,
                    running: false,
                    features: 0,
                    config_cb: Callback::none(),
                    config_pending: false,
                    groups,
                }),
                generation: Atomic::new(0),
                bound: Atomic::new(false),
                map_changes: Atomic::new(0),
                resting: Atomic::new(false),
                directory <- Directory::new(dir, name, spaces.clone(), shown, files),
                spaces,
                class,
            }),
            GFP_KERNEL,
        )?;

        let mut units = KVec::with_capacity(setup.units.len(), GFP_KERNEL)?;
        let mut places = KVec::new();
        for unit in setup.units {
            let first = places.len() as u16;
            let mut queues = KVec::with_capacity(unit.queues.into(), GFP_KERNEL)?;
            for at in 0..unit.queues {
                let queue = Queue::new(setup.queue_max, states.clone(), places.len());
                queues.push(queue, GFP_KERNEL)?;
                places.push((units.len() as u16, at), GFP_KERNEL)?;
            }
            let shared = device.clone();
            let unit = Arc::pin_init(
                pin_init!(Unit {
                    device: shared,
                    first,
                    state <- new_mutex!(UnitState {
                        running: false,
                        features: 0,
                        mm: None,
                        queues,
                        own: unit.unit,
                    }),
                }),
                GFP_KERNEL,
            )?;
            units.push(unit, GFP_KERNEL)?;
        }
        let mut workers = KVec::with_capacity(units.len(), GFP_KERNEL)?;
        for (number, unit) in (0u32..).zip(units.iter()) {
            workers.push(Worker::new(name, number, unit.clone())?, GFP_KERNEL)?;
        }
        let mut wakers = KVec::with_capacity(workers.len(), GFP_KERNEL)?;
        for worker in workers.iter() {
            wakers.push(worker.waker(), GFP_KERNEL)?;
        }
        device.class.started(wakers);
        Ok(Self {
            workers,
            units,
            places,
            device,
            offered: setup.offered,
            queue_max: setup.queue_max,
            address_spaces: setup.address_spaces,
        })
    }

    /// Returns the number of queues.
    pub fn queues(&self) -> u32 {
        self.places.len() as u32
    }

    /// Returns the class of the device.
    pub fn class(&self) -> &C {
        &self.device.class
    }

    /// Returns the faults of the device.
    pub fn faults(&self) -> &crate::faults::Faults {
        self.device.directory.faults()
    }

    /// Changes the content of the config space, and tells the driver: if the device is suspended,
    /// when it is resumed.
    pub fn change_config(&self, change: impl FnOnce(&C)) {
        let mut control = self.device.control.lock();
        change(&self.device.class);
        self.device.generation.fetch_add(1, Relaxed);
        control.tell_config();
    }

    /// Returns an address space.
    ///
    /// Errors: `EINVAL` if it does not exist.
    pub fn space(&self, asid: u32) -> Result<&AddressSpace<T>> {
        self.device.spaces.get(asid)
    }

    /// Changes the table of an address space. On return nobody uses the old ranges any more, see
    /// [`Self::quiesce`].
    ///
    /// Errors: `EINVAL` if the address space does not exist.
    pub fn change_maps<R>(&self, asid: u32, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        let result = self.space(asid)?.change(f);
        self.quiesce();
        self.maps_changed();
        Ok(result)
    }

    /// Does the same as [`Self::change_maps`] for every address space.
    pub fn change_all_maps(&self, mut f: impl FnMut(&mut T)) {
        for space in self.device.spaces.iter() {
            space.change(&mut f);
        }
        self.quiesce();
        self.maps_changed();
    }

    /// Tries again the queues whose rings were not mapped. To be called after a change of maps.
    pub fn maps_changed(&self) {
        self.device.map_changes.fetch_add(1, Full);
        if self.device.resting.xchg(false, Full) {
            self.call_all();
        }
    }

    /// Waits until all units that run now have ended their run.
    ///
    /// Does nothing while a process is bound: a unit may wait for its `mmap_lock`, which drivers
    /// hold when they change maps. The ranges that it found are then addresses of that process,
    /// which lead to nothing but its own memory.
    pub fn quiesce(&self) {
        if self.device.bound.load(Relaxed) {
            return;
        }
        for unit in self.units.iter() {
            drop(unit.state.lock());
        }
    }

    /// Makes maps lead to the addresses of a process, or to physical ones if it is `None`. On
    /// return nobody uses the process that was bound before.
    pub fn bind(&self, mm: Option<BoundMm>) {
        self.device.bound.store(mm.is_some(), Relaxed);
        for unit in self.units.iter() {
            let old = core::mem::replace(&mut unit.state.lock().mm, mm.clone());
            // The lock was released at the end of the statement, so `old` is dropped without it.
            drop(old);
        }
        self.maps_changed();
    }

    /// Calls `f` while no unit runs. Units that ran before then continue.
    pub fn with_vqs_suspended<R>(&self, f: impl FnOnce(&mut Paused<'_, C, T>) -> R) -> R {
        let mut control = self.device.control.lock();
        let running = control.running;
        self.set_running(&mut control, false);
        let result = f(&mut Paused {
            engine: self,
            control: &mut control,
        });
        self.set_running(&mut control, running);
        result
    }

    /// Calls `f` with the state of a queue, under its unit's lock. `EINVAL` if it does not exist.
    fn queue<R>(&self, idx: u16, f: impl FnOnce(&mut Queue) -> R) -> Result<R> {
        let (unit, at) = self.places.get(usize::from(idx)).ok_or(EINVAL)?;
        let unit = self.units.get(usize::from(*unit)).ok_or(EINVAL)?;
        let mut state = unit.state.lock();
        Ok(f(state.queues.get_mut(usize::from(*at)).ok_or(EINVAL)?))
    }

    /// Calls `f` with the state of every unit, under its lock.
    fn each(&self, mut f: impl FnMut(&mut UnitState<C::Unit>)) {
        for unit in self.units.iter() {
            f(&mut unit.state.lock());
        }
    }

    /// Queues a run of every unit.
    fn call_all(&self) {
        for worker in self.workers.iter() {
            worker.queue();
        }
    }

    /// Returns true if the device cannot use a queue until it is stopped and started again.
    pub fn is_broken(&self, idx: u16) -> bool {
        self.queue(idx, |queue| queue.is_broken()).unwrap_or(false)
    }

    /// Implements [`VdpaConfigOps::set_vq_address`].
    pub fn set_vq_address(&self, idx: u16, desc: u64, driver: u64, device: u64) -> Result {
        self.queue(idx, |queue| queue.set_address(desc, driver, device))
    }

    /// Implements [`VdpaConfigOps::set_vq_num`].
    pub fn set_vq_num(&self, idx: u16, num: u32) {
        let _ = self.queue(idx, |queue| queue.set_num(num));
    }

    /// Implements [`VdpaConfigOps::kick_vq`]. Takes no lock but that of the thread's list of work,
    /// and does not sleep.
    pub fn kick_vq(&self, idx: u16) {
        let place = self.places.get(usize::from(idx));
        if let Some(worker) = place.and_then(|(unit, _)| self.workers.get(usize::from(*unit))) {
            worker.queue();
        }
    }

    /// Implements [`VdpaConfigOps::set_vq_cb`].
    pub fn set_vq_cb(&self, idx: u16, cb: Callback) {
        let _ = self.queue(idx, |queue| queue.set_callback(cb));
    }

    /// Implements [`VdpaConfigOps::set_vq_ready`].
    pub fn set_vq_ready(&self, idx: u16, ready: bool) {
        if self.queue(idx, |queue| queue.set_ready(ready)) == Ok(true) {
            // The driver may have kicked before.
            self.kick_vq(idx);
        }
    }

    /// Implements [`VdpaConfigOps::get_vq_ready`].
    pub fn get_vq_ready(&self, idx: u16) -> bool {
        self.queue(idx, |queue| queue.is_ready()).unwrap_or(false)
    }

    /// Implements [`VdpaConfigOps::set_vq_state`].
    pub fn set_vq_state(&self, idx: u16, vq_state: &VqState) -> Result {
        let packed = is_packed(self.get_driver_features());
        let position = vq_state::restored(vq_state, packed);
        self.queue(idx, |queue| queue.set_position(position))
    }

    /// Implements [`VdpaConfigOps::get_vq_state`].
    pub fn get_vq_state(&self, idx: u16) -> Result<VqState> {
        let initial = Position::initial(is_packed(self.get_driver_features()));
        let position = self.queue(idx, |queue| queue.position())?;
        Ok(vq_state::saved(position.unwrap_or(initial)))
    }

    /// Implements [`VdpaConfigOps::get_vendor_vq_stats`].
    pub fn get_vendor_vq_stats(&self, idx: u16, stats: &mut Stats<'_>) -> Result {
        let (unit, at) = self.places.get(usize::from(idx)).ok_or(EINVAL)?;
        let unit = self.units.get(usize::from(*unit)).ok_or(EINVAL)?;
        let state = unit.state.lock();
        let queue = state.queues.get(usize::from(*at)).ok_or(EINVAL)?;
        self.class()
            .stats(&state.own, queue, idx, state.features, stats)
    }

    /// Implements [`VdpaConfigOps::get_vq_size`]: the largest size before DRIVER_OK.
    pub fn get_vq_size(&self, idx: u16) -> u16 {
        if self.get_status() & ids::STATUS_DRIVER_OK == 0 {
            return self.queue_max;
        }
        match self.queue(idx, |queue| queue.num()) {
            Ok(num) => u16::try_from(num).unwrap_or(self.queue_max),
            Err(_) => 0,
        }
    }

    /// Implements [`VdpaConfigOps::get_vq_group`].
    pub fn get_vq_group(&self, idx: u16) -> u32 {
        self.class().group(idx, self.get_driver_features())
    }

    /// Implements [`VdpaConfigOps::get_vq_desc_group`].
    pub fn get_vq_desc_group(&self, idx: u16) -> u32 {
        self.class().desc_group(idx, self.get_driver_features())
    }

    /// Implements [`VdpaConfigOps::get_vq_align`]. Returns the page size.
    pub fn get_vq_align(&self) -> u32 {
        PAGE_SIZE as u32
    }

    /// Implements [`VdpaConfigOps::get_device_id`].
    pub fn get_device_id(&self) -> u32 {
        C::DEVICE_ID
    }

    /// Implements [`VdpaConfigOps::get_vendor_id`]. There is none.
    pub fn get_vendor_id(&self) -> u32 {
        0
    }

    /// Implements [`VdpaConfigOps::get_backend_features`]. A queue may be enabled after DRIVER_OK.
    pub fn get_backend_features(&self) -> u64 {
        ids::BACKEND_F_ENABLE_AFTER_DRIVER_OK
    }

    /// Implements [`VdpaConfigOps::get_device_features`].
    pub fn get_device_features(&self) -> u64 {
        self.offered
    }

    /// Implements [`VdpaConfigOps::set_driver_features`].
    ///
    /// Errors: `EINVAL` for a driver that uses physical addresses, which would work only by
    /// accident.
    pub fn set_driver_features(&self, features: u64) -> Result {
        if features & ids::F_ACCESS_PLATFORM == 0 {
            return Err(EINVAL);
        }
        let mut control = self.device.control.lock();
        control.features = features & self.offered;
        self.each(|state| state.features = control.features);
        self.units.iter().for_each(|unit| unit.regroup(&control));
        Ok(())
    }

    /// Implements [`VdpaConfigOps::get_driver_features`].
    pub fn get_driver_features(&self) -> u64 {
        self.device.control.lock().features
    }

    /// Implements [`VdpaConfigOps::set_config_cb`].
    pub fn set_config_cb(&self, cb: Callback) {
        self.device.control.lock().config_cb = cb;
    }

    /// Implements [`VdpaConfigOps::get_vq_num_max`].
    pub fn get_vq_num_max(&self) -> u16 {
        self.queue_max
    }

    /// Implements [`VdpaConfigOps::get_status`].
    pub fn get_status(&self) -> u8 {
        self.device.control.lock().status
    }

    /// Implements [`VdpaConfigOps::set_status`]. A suspended device stays suspended, and only a
    /// reset clears `DEVICE_NEEDS_RESET`.
    pub fn set_status(&self, status: u8) {
        let mut control = self.device.control.lock();
        control.status = status | control.status & ids::STATUS_NEEDS_RESET;
        self.run_or_rest(&mut control);
    }

    /// Runs every unit if the driver wants the device to run, and stops them otherwise.
    fn run_or_rest(&self, control: &mut Control) {
        let running = control.wants_to_run();
        self.set_running(control, running);
    }

    /// Runs or stops every unit. On return, units that were stopped do not run any more.
    fn set_running(&self, control: &mut Control, running: bool) {
        control.running = running;
        self.each(|state| state.running = running);
        if running {
            // The driver may have made buffers available and kicked before.
            self.call_all();
        }
    }

    /// Implements [`VdpaConfigOps::reset`] for everything but the maps, which stay.
    pub fn reset(&self) {
        let mut control = self.device.control.lock();
        self.each(|state| {
            state.running = false;
            state.features = 0;
            for queue in state.queues.iter_mut() {
                queue.reset();
            }
            self.class().reset_unit(&mut state.own);
        });
        self.class().reset();
        control.status = 0;
        control.suspended = false;
        control.running = false;
        control.features = 0;
        control.config_cb = Callback::none();
        control.config_pending = false;
        for asid in control.groups.iter_mut() {
            *asid = 0;
        }
        self.device.generation.fetch_add(1, Relaxed);
    }

    /// Implements [`VdpaConfigOps::suspend`].
    pub fn suspend(&self) {
        let mut control = self.device.control.lock();
        control.suspended = true;
        self.run_or_rest(&mut control);
    }

    /// Implements [`VdpaConfigOps::resume`].
    pub fn resume(&self) {
        let mut control = self.device.control.lock();
        control.suspended = false;
        self.run_or_rest(&mut control);
        if core::mem::take(&mut control.config_pending) {
            control.tell_config();
        }
    }

    /// Implements [`VdpaConfigOps::get_config_size`].
    pub fn get_config_size(&self) -> usize {
        size_of::<C::Config>()
    }

    /// Implements [`VdpaConfigOps::get_config`].
    pub fn get_config(&self, offset: usize, buf: &mut [u8]) {
        let config = self.class().config(self.get_driver_features());
        parent_config::read(config.as_ref(), offset, buf);
    }

    /// Implements [`VdpaConfigOps::set_config`].
    pub fn set_config(&self, offset: usize, buf: &[u8]) {
        let features = self.get_driver_features();
        let end = offset.checked_add(buf.len());
        if end.is_some_and(|end| end <= self.get_config_size()) {
            self.class().write_config(features, offset, buf);
        }
    }

    /// Implements [`VdpaConfigOps::get_generation`].
    pub fn get_generation(&self) -> u32 {
        self.device.generation.load(Relaxed)
    }

    /// Implements [`VdpaConfigOps::set_group_asid`].
    ///
    /// Errors: `EINVAL` if the group or the address space does not exist.
    pub fn set_group_asid(&self, group: u32, asid: u32) -> Result {
        self.move_group(&mut self.device.control.lock(), group, asid)
    }

    /// Moves a group to an address space. Errors: `EINVAL` if either does not exist.
    fn move_group(&self, control: &mut Control, group: u32, asid: u32) -> Result {
        if asid >= self.address_spaces {
            return Err(EINVAL);
        }
        *control.groups.get_mut(group as usize).ok_or(EINVAL)? = asid;
        self.units.iter().for_each(|unit| unit.regroup(control));
        Ok(())
    }
}
