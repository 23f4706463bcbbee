// SPDX-License-Identifier: GPL-2.0

//! State that the threads of the model share: locks, access to the device, the node's state, the
//! open files, the parent and the memory; and the invariants.

/// Largest number of address spaces.
pub const SPACES: usize = 2;
/// Number of IOVAs in an address space, of a page each.
pub const IOVAS: usize = 2;
/// Largest number of ranges in an address space: `max_iotlb_entries`.
pub const LIMIT: usize = 2;
/// Largest number of files that are opened in the life of a node.
pub const FILES: usize = 3;

/// Page of memory, which one message maps once. 0 is none.
pub type Page = u8;
/// Number of pages of one file.
pub const PAGES_OF_FILE: u8 = 20;
/// Eventfd. 0 is none.
pub type Event = u8;

/// Returns the file that a page was mapped through.
fn file_of(page: Page) -> u8 {
    (page - 1) / PAGES_OF_FILE
}

/// Returns the bit of a page or an eventfd in a set.
pub fn bit(number: u8) -> u64 {
    1 << number
}

/// Maps of an address space, by IOVA.
pub type Table = [Page; IOVAS];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lock {
    /// The device lock and vdpa core's.
    Device,
    /// Vhost core's mutex, of one file.
    Vhost(u8),
    /// `VhostVdpa::state`.
    State,
    /// `mmap_lock` of the owner.
    Mmap,
    /// The lock of the kick eventfd's wait queue.
    WaitQueue,
}

const LOCKS: usize = 4 + FILES;

impl Lock {
    fn index(self) -> usize {
        match self {
            Lock::Device => 0,
            Lock::State => 1,
            Lock::Mmap => 2,
            Lock::WaitQueue => 3,
            Lock::Vhost(file) => 4 + usize::from(file),
        }
    }
}

/// Condition of a step. It determines the number of answers to the step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wait {
    Free,
    /// There are two answers.
    Either,
    /// Nobody holds the lock.
    Lock(Lock),
    /// All threads that had access to the device have ended it.
    Grace,
    /// The callback that was running has returned.
    Callbacks,
    /// A user copy or page fault ends, or userspace never lets it end.
    User,
    /// The parent answers.
    Parent(Refuses),
    /// Something does not exist, or is not allowed.
    Short,
    /// All threads below this one have ended.
    Others,
    Never,
}

/// Ways in which an op of the parent may fail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refuses {
    Never,
    /// A refusal changes nothing.
    Plainly,
    /// A refusal may also leave the parent without a table.
    EmptyTable,
}

/// An op of the parent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    Reset { clean_map: bool },
    SetStatus,
    SetVqCb { callback: bool, trigger: Event },
    BindMm,
    UnbindMm,
    SetMap(u8, Table),
    DmaMap(u8, u8, Page),
    DmaUnmap(u8, u8),
    DmaUnmapAll(u8),
    ResetMap(u8),
    SetGroupAsid(u8),
}

impl Op {
    pub fn refuses(self) -> Refuses {
        match self {
            Op::SetStatus | Op::SetVqCb { .. } | Op::UnbindMm => Refuses::Never,
            Op::SetMap(..) => Refuses::EmptyTable,
            _ => Refuses::Plainly,
        }
    }
}

/// Ops by which the parent is told of maps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Style {
    SetMap,
    DmaMap,
}

/// Kind of parent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub style: Style,
    /// True if it has a default map, `reset_map` and `compat_reset`.
    pub default_map: bool,
    /// True if it takes user virtual addresses, and has `bind_mm`.
    pub use_va: bool,
    /// The number of address spaces. With more than one it has `set_group_asid`, and a reset does
    /// not move the group.
    pub nas: u8,
}

pub const KINDS: [Kind; 4] = [
    Kind {
        name: "set_map, default map",
        style: Style::SetMap,
        default_map: true,
        use_va: false,
        nas: 1,
    },
    Kind {
        name: "dma_map, default map",
        style: Style::DmaMap,
        default_map: true,
        use_va: false,
        nas: 1,
    },
    Kind {
        name: "set_map, user addresses",
        style: Style::SetMap,
        default_map: false,
        use_va: true,
        nas: 1,
    },
    Kind {
        name: "set_map, two address spaces",
        style: Style::SetMap,
        default_map: false,
        use_va: false,
        nas: 2,
    },
];

/// Fault that is put into the driver on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutant {
    None,
    /// The fault of the first version: `close` relies on removal to end what it finds, and removal
    /// relies on the mapping to tell it if there is anything.
    CloseTrustsRemoval,
    /// The fault of the first version: `VHOST_SET_OWNER` in two steps.
    OwnerInTwoSteps,
    UnpinBeforeUnmap,
    HeldDroppedAfterRefusal,
    FreedThoughMapped,
    BatchOutlivesReset,
    ResetExposesSilently,
    IdentityMapStays,
    StartWithIdentityMap,
    OpenWithIdentityMap,
    ForeignForgotten,
    GroupsStay,
    DefaultMapWhileRunning,
    ZapBeforeRevoke,
    RevokeDoesNotWait,
    AccessLooksFirst,
    GetterWithoutLock,
    PinUnderLock,
    RemovalTakesVhost,
    OldEventfdPutFirst,
    CallbackStays,
    CallbackNotAwaited,
    OpenedFirst,
    PollStays,
    OwnerStays,
    FaultTakesState,
}

/// All faults, with the family of cases that must find each.
pub const MUTANTS: [(Mutant, usize); 26] = [
    (Mutant::CloseTrustsRemoval, 0),
    (Mutant::OwnerInTwoSteps, 3),
    (Mutant::UnpinBeforeUnmap, 2),
    (Mutant::HeldDroppedAfterRefusal, 2),
    (Mutant::FreedThoughMapped, 2),
    (Mutant::BatchOutlivesReset, 2),
    (Mutant::ResetExposesSilently, 2),
    (Mutant::IdentityMapStays, 2),
    (Mutant::StartWithIdentityMap, 2),
    (Mutant::OpenWithIdentityMap, 2),
    (Mutant::ForeignForgotten, 2),
    (Mutant::GroupsStay, 2),
    (Mutant::DefaultMapWhileRunning, 2),
    (Mutant::ZapBeforeRevoke, 3),
    (Mutant::RevokeDoesNotWait, 3),
    (Mutant::AccessLooksFirst, 3),
    (Mutant::GetterWithoutLock, 0),
    (Mutant::PinUnderLock, 2),
    (Mutant::RemovalTakesVhost, 4),
    (Mutant::OldEventfdPutFirst, 2),
    (Mutant::CallbackStays, 0),
    (Mutant::CallbackNotAwaited, 3),
    (Mutant::OpenedFirst, 3),
    (Mutant::PollStays, 2),
    (Mutant::OwnerStays, 2),
    (Mutant::FaultTakesState, 4),
];

/// Address space: `AddressSpace` and its `Table`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Space {
    pub table: Table,
    /// Ranges that are out of the table, but that the device may still reach: IOVA and page.
    pub held: Vec<(u8, Page)>,
    pub dirty: bool,
    pub stale: bool,
    pub reachable: bool,
}

impl Space {
    /// Returns the number of ranges.
    pub fn len(&self) -> usize {
        self.table.iter().filter(|page| **page != 0).count()
    }
}

/// `State` of `driver/device.rs`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub active: bool,
    pub owner: bool,
    pub mm_bound: bool,
    pub spaces: [Option<Space>; SPACES],
    pub batch: Option<u8>,
    pub identity_mapped: bool,
    pub foreign: [bool; SPACES],
    pub moved: bool,
    pub mapping: bool,
    /// The eventfd whose producer is registered for bypass.
    pub producer: Event,
}

/// The device, as its parent sees it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Device {
    pub running: bool,
    /// True if the last reset was refused.
    pub reset_refused: bool,
    /// True if the last attempt to unmap was refused.
    pub unmap_refused: bool,
    pub maps: [Table; SPACES],
    pub default_map: [bool; SPACES],
    pub callback: bool,
    pub trigger: Event,
    pub mm: bool,
    /// The address space of the group.
    pub group: u8,
}

/// Vhost core's part of an open file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VhostDev {
    pub alive: bool,
    pub owner: bool,
    pub kick: bool,
}

/// Page behind a doorbell in userspace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Doorbell {
    Nothing,
    Device,
    Dummy,
}

/// The shared state.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub kind: Kind,
    pub mutant: Mutant,
    locks: [Option<u8>; LOCKS],

    // Access to the device: the threads that have it, and those for which `revoke` waits.
    pub accessible: bool,
    pub inside: u16,
    pub grace: u16,

    // The node.
    pub published: bool,
    pub opened: Option<u8>,
    /// The file that was opened last with success.
    pub session: u8,
    pub persist: bool,
    pub call: Event,
    pub registered: bool,
    pub state: State,
    pub removed: bool,

    // The files: the descriptor of the first, its references, and the files that exist.
    pub descriptor: bool,
    pub refs: u8,
    pub files: [VhostDev; FILES],
    /// The file whose poll is in the kick eventfd's wait queue.
    pub polled: Option<u8>,
    pub doorbell: Doorbell,

    pub dev: Device,
    /// The thread whose op the parent runs, among ops that are serialised.
    pub op: Option<u8>,
    /// True if a callback is running. `awaited` is true if `wait_for_callbacks` waits for it.
    pub in_callback: bool,
    pub awaited: bool,

    // Memory: pages that are pinned, counted, leaked; eventfds with a reference.
    pub pinned: u64,
    pub charged: u64,
    pub leaked: u64,
    pub events: u64,

    // The number of failures that may still happen, and the failures that did.
    pub refusals: u8,
    pub stalls: u8,
    pub parent_stalls: u8,
    pub refused: bool,
    pub stalled_in_user: bool,
    pub stalled_in_parent: bool,
    pub ended: u16,
    /// True if userspace has a batch open.
    pub user_batch: bool,
    pub bad: Option<&'static str>,
}

impl World {
    /// Returns the state of a device that was just bound to the driver.
    pub fn new(kind: Kind, mutant: Mutant) -> Self {
        let spaces = usize::from(kind.nas);
        let mut dev = Device::default();
        let mut state = State::default();
        for asid in 0..spaces {
            dev.default_map[asid] = kind.default_map;
            state.foreign[asid] = true;
        }
        state.moved = true;
        Self {
            kind,
            mutant,
            locks: [None; LOCKS],
            accessible: true,
            inside: 0,
            grace: 0,
            published: true,
            opened: None,
            session: 0,
            persist: false,
            call: 0,
            registered: false,
            state,
            removed: false,
            descriptor: false,
            refs: 0,
            files: [VhostDev::default(); FILES],
            polled: None,
            doorbell: Doorbell::Nothing,
            dev,
            op: None,
            in_callback: false,
            awaited: false,
            pinned: 0,
            charged: 0,
            leaked: 0,
            events: 0,
            refusals: 0,
            stalls: 0,
            parent_stalls: 0,
            refused: false,
            stalled_in_user: false,
            stalled_in_parent: false,
            ended: 0,
            user_batch: false,
            bad: None,
        }
    }

    pub fn nas(&self) -> usize {
        usize::from(self.kind.nas)
    }

    /// Records that an invariant does not hold.
    pub fn fault(&mut self, what: &'static str) {
        self.bad.get_or_insert(what);
    }

    fn require(&mut self, holds: bool, what: &'static str) {
        if !holds {
            self.fault(what);
        }
    }

    pub fn acquire(&mut self, lock: Lock, me: usize) {
        self.locks[lock.index()] = Some(me as u8);
    }

    pub fn release(&mut self, lock: Lock, me: usize) {
        let held = self.locks[lock.index()] == Some(me as u8);
        self.require(held, "a lock is dropped that is not held");
        self.locks[lock.index()] = None;
    }

    fn holds(&self, lock: Lock, me: usize) -> bool {
        self.locks[lock.index()] == Some(me as u8)
    }

    /// Returns the number of answers to a step; 0 while it cannot be taken.
    pub fn answers(&self, me: usize, wait: Wait) -> u8 {
        let may_refuse = self.refusals > 0;
        match wait {
            Wait::Free => 1,
            Wait::Either => 2,
            Wait::Lock(lock) => self.locks[lock.index()].is_none().into(),
            Wait::Grace => (self.grace == 0).into(),
            Wait::Callbacks => (!self.awaited).into(),
            Wait::User => 1 + u8::from(self.stalls > 0),
            Wait::Short => 1 + u8::from(may_refuse),
            Wait::Parent(refuses) => {
                self.parent_answers(refuses) + u8::from(self.parent_stalls > 0)
            }
            Wait::Others => {
                let others = (1u16 << me) - 1;
                (self.ended & others == others).into()
            }
            Wait::Never => 0,
        }
    }

    /// Returns the number of ways in which an op may end. An answer equal to this number means that
    /// it never ends.
    pub fn parent_answers(&self, refuses: Refuses) -> u8 {
        match refuses {
            Refuses::Plainly if self.refusals > 0 => 2,
            Refuses::EmptyTable if self.refusals > 0 => 3,
            _ => 1,
        }
    }

    /// Returns an address space, which is created if it does not exist.
    pub fn space(&mut self, asid: u8) -> &mut Space {
        self.state.spaces[usize::from(asid)].get_or_insert_with(Space::default)
    }

    // --- access to the device

    pub fn begin_access(&mut self, me: usize) {
        self.inside |= 1 << me;
    }

    pub fn end_access(&mut self, me: usize) {
        self.inside &= !(1 << me);
        self.grace &= !(1 << me);
    }

    // --- user copies

    /// Checks the state at a point where userspace decides how long the thread waits.
    pub fn in_user(&mut self, me: usize) {
        let blocks_removal = self.holds(Lock::State, me)
            || self.holds(Lock::Device, me)
            || self.inside & 1 << me != 0;
        self.require(
            !blocks_removal,
            "removal may wait for userspace: a user copy with access to the device or under its lock",
        );
    }

    // --- memory

    pub fn pin(&mut self, page: Page) {
        self.pinned |= bit(page);
    }

    pub fn unpin(&mut self, page: Page) {
        let was = self.pinned & bit(page) != 0;
        self.require(was, "a page is unpinned twice");
        self.pinned &= !bit(page);
    }

    pub fn uncharge(&mut self, page: Page) {
        self.charged &= !bit(page);
    }

    /// Unpins the page of a range, and subtracts what was counted for it.
    pub fn give_back(&mut self, page: Page) {
        self.unpin(page);
        self.uncharge(page);
    }

    /// Leaves a page pinned for good. A file is put.
    pub fn leak(&mut self, page: Page) {
        if self.kind.use_va {
            self.give_back(page);
            return;
        }
        let once = self.leaked & bit(page) == 0;
        self.require(once, "a page is leaked twice");
        let refused = self.dev.unmap_refused;
        self.require(
            refused,
            "a page is leaked though the parent did not refuse to unmap",
        );
        self.leaked |= bit(page);
    }

    // --- ops of the parent

    /// Begins an op, which must be serialised with others.
    pub fn begin(&mut self, me: usize) {
        self.reach_parent(me);
        let alone = self.op.is_none();
        self.require(alone, "two ops of the parent run at once");
        self.op = Some(me as u8);
    }

    /// Checks that a thread may call the parent.
    pub fn reach_parent(&mut self, me: usize) {
        let there = !self.removed;
        self.require(there, "an op of the parent after remove returned");
        let allowed = self.inside & 1 << me != 0 || self.holds(Lock::Device, me);
        self.require(allowed, "an op of the parent without access to the device");
    }

    /// Ends an op. Returns true if the parent executed it.
    pub fn end(&mut self, op: Op, answer: u8) -> bool {
        self.op = None;
        let done = answer == 0;
        if !done {
            self.refusals -= 1;
            self.refused = true;
        }
        let nas = self.nas();
        let dev = &mut self.dev;
        match op {
            Op::Reset { clean_map } => {
                dev.reset_refused = !done;
                if done {
                    dev.running = false;
                    if clean_map && self.kind.default_map {
                        dev.maps = Default::default();
                        dev.default_map[..nas].fill(true);
                    }
                    if nas == 1 {
                        dev.group = 0;
                    }
                }
            }
            Op::SetStatus => dev.running = true,
            Op::SetVqCb { callback, trigger } => {
                dev.callback = callback;
                dev.trigger = trigger;
            }
            Op::BindMm => dev.mm |= done,
            Op::UnbindMm => dev.mm = false,
            Op::SetMap(asid, table) => {
                let asid = usize::from(asid);
                dev.unmap_refused = !done;
                if done {
                    dev.maps[asid] = table;
                    dev.default_map[asid] = false;
                } else if answer == 2 {
                    dev.maps[asid] = Table::default();
                    dev.default_map[asid] = false;
                }
            }
            Op::DmaMap(asid, iova, page) => {
                if done {
                    dev.maps[usize::from(asid)][usize::from(iova)] = page;
                }
            }
            Op::DmaUnmap(asid, iova) => {
                dev.unmap_refused = !done;
                if done {
                    dev.maps[usize::from(asid)][usize::from(iova)] = 0;
                }
            }
            Op::DmaUnmapAll(asid) => {
                dev.unmap_refused = !done;
                if done {
                    dev.maps[usize::from(asid)] = Table::default();
                    dev.default_map[usize::from(asid)] = false;
                }
            }
            Op::ResetMap(asid) => {
                if done {
                    dev.maps[usize::from(asid)] = Table::default();
                    dev.default_map[usize::from(asid)] = true;
                }
            }
            Op::SetGroupAsid(asid) => {
                if done {
                    dev.group = asid;
                }
            }
        }
        done
    }

    // --- invariants

    /// Checks the invariants of every state.
    pub fn check(&mut self) {
        let nas = self.nas();
        let dev = &self.dev;
        if dev.running && dev.default_map[..nas].contains(&true) {
            return self.fault("the device runs with its default map, which reaches all of memory");
        }
        if !self.kind.use_va {
            for page in dev.maps.iter().flatten().copied() {
                if page != 0 && self.pinned & bit(page) == 0 {
                    return self.fault("the device can reach a page that is not pinned");
                }
            }
            if self.pinned & !self.charged != 0 {
                return self.fault("a pinned page is not counted");
            }
        }
        if dev.running && !dev.reset_refused {
            let reached = dev.maps[usize::from(dev.group)];
            let foreign = |page: &Page| *page != 0 && file_of(*page) != self.session;
            if reached.iter().any(foreign) {
                return self.fault("the device reaches memory of an owner before this one");
            }
        }
        for event in [dev.trigger, self.call, self.state.producer] {
            if event != 0 && self.events & bit(event) == 0 {
                return self.fault("an eventfd is in use that was put");
            }
        }
        let settled = self.locks[Lock::State.index()].is_none();
        if settled && self.kind.use_va && self.state.owner && !dev.mm {
            return self.fault("an owner whose address space the parent was not given");
        }
        if self.removed && self.doorbell == Doorbell::Device {
            self.fault("a doorbell of a device that is gone is mapped");
        }
    }

    /// Checks a device that a file was just opened on.
    pub fn check_opened(&mut self) {
        let nas = self.nas();
        let dev = &self.dev;
        let clean = !dev.default_map[..nas].contains(&true)
            && dev.maps[usize::from(dev.group)] == Table::default()
            && dev.group == 0
            && !dev.running
            && !dev.callback;
        self.require(clean, "an open leaves what another owner or driver set up");
    }

    /// Checks a parent that no file uses any more, because the file was closed or the device goes.
    pub fn check_at_rest(&mut self) {
        let nas = self.nas();
        let dev = self.dev.clone();
        self.require(
            !dev.running || dev.reset_refused,
            "the device runs on after its file ended",
        );
        self.require(
            !dev.callback && dev.trigger == 0,
            "the parent keeps a callback",
        );
        self.require(!dev.mm, "the parent keeps the owner's address space");
        let mapped = dev.maps != <[Table; SPACES]>::default();
        self.require(
            !mapped || self.refused,
            "the parent keeps maps after the file ended",
        );
        if self.kind.default_map {
            self.require(
                self.refused || !dev.default_map[..nas].contains(&false),
                "the next driver does not find the default map",
            );
        }
        let state = &self.state;
        let cleared = !state.active
            && !state.owner
            && state.spaces == [None, None]
            && state.batch.is_none()
            && state.producer == 0
            && !self.persist;
        self.require(cleared, "the node keeps what the file set up");
        self.require(self.call == 0, "a call slot keeps an eventfd");
    }

    /// Checks that nothing of a file is left.
    pub fn check_closed(&mut self) {
        self.check_at_rest();
        self.require(self.opened.is_none(), "the node stays open");
        self.require(
            self.pinned == self.leaked,
            "pages stay pinned that were not leaked",
        );
        self.require(
            self.charged == self.leaked,
            "pages stay counted that were not leaked",
        );
        self.require(self.events == 0, "an eventfd is never put");
        self.require(
            self.polled.is_none(),
            "a poll stays in the eventfd's wait queue",
        );
        let alive = self.files.iter().any(|file| file.alive);
        self.require(!alive, "a file is never freed");
    }

    /// Checks a state in which no step can be taken.
    pub fn check_end(&mut self, waiting: &dyn Fn(usize) -> bool) {
        use crate::driver::thread::{EPILOGUE, FAULT, INTERRUPT, KICK, OPENER, REMOVAL};
        let any = (0..=EPILOGUE).any(waiting);
        if !any {
            return;
        }
        if !self.stalled_in_user && !self.stalled_in_parent {
            self.fault("deadlock");
        }
        // The thread of a fault may still have to close the file, which waits for the parent.
        let faulting = self.locks[Lock::Mmap.index()].is_some();
        self.require(
            !waiting(KICK) && !waiting(INTERRUPT) && !faulting,
            "a kick, a fault or a callback waits for ever",
        );
        if !self.stalled_in_parent {
            for thread in [REMOVAL, OPENER, FAULT] {
                self.require(
                    !waiting(thread),
                    "removal, an open or a fault waits for what userspace does",
                );
            }
        }
        if self.removed {
            self.check_at_rest();
        }
    }
}
