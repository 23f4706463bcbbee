// SPDX-License-Identifier: GPL-2.0

//! Steps of the driver, in the order in which the source makes them.
//!
//! Each step has the name of the function that it stands for, with its file;
//! tools/suites/model/model.sh checks that those are there. A step of vhost core or the kernel
//! names that.

use crate::{
    explore::Cx,
    world::{
        Doorbell, Event, Lock, Mutant, Op, Page, Space, State, Style, Table, Wait, World, IOVAS,
        LIMIT, PAGES_OF_FILE,
    },
};

/// Numbers of the threads.
pub mod thread {
    pub const REMOVAL: usize = 2;
    pub const KICK: usize = 3;
    pub const FAULT: usize = 4;
    pub const INTERRUPT: usize = 5;
    pub const OPENER: usize = 6;
    pub const EPILOGUE: usize = 7;
}

/// Error of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Errno {
    NoDev,
    Perm,
    Busy,
    Inval,
    Exist,
    NoSpc,
    NoMem,
    BadF,
    /// An error of the parent.
    Io,
}

use Errno::*;

type Result<T = ()> = core::result::Result<T, Errno>;

/// Call of userspace on the first file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    SetOwner,
    /// `SET_BACKEND_FEATURES`, with `IOTLB_PERSIST`.
    Ack,
    SetKick,
    SetCall,
    /// `SET_VRING_CALL` with -1.
    ClearCall,
    GetStatus,
    /// `SET_STATUS` with `DRIVER_OK`.
    Start,
    /// `SET_STATUS` with 0.
    Reset,
    /// Maps the first `n` pages.
    Update(u8),
    InvalidateAll,
    BatchBegin,
    BatchEnd,
    /// Moves the group to the other address space.
    SetGroup,
    Close,
}

/// A thread of userspace, which has memory and eventfds of its own.
pub struct User<'a> {
    pub cx: &'a Cx,
    /// The number of the program.
    pub who: u8,
    /// The number of the call.
    pub call: u8,
    /// The file that the calls are made on.
    pub file: u8,
}

impl User<'_> {
    fn page(&self, iova: u8) -> Page {
        1 + self.file * PAGES_OF_FILE + self.who * 6 + self.call % 3 * 2 + iova
    }

    fn event(&self) -> Event {
        1 + self.file * 9 + self.who * 3 + self.call % 3
    }
}

// --- locks, access to the device, the parent

async fn lock(cx: &Cx, at: &'static str, lock: Lock) {
    let me = cx.me;
    cx.when(at, Wait::Lock(lock), |w, _| w.acquire(lock, me))
        .await;
}

fn unlock(cx: &Cx, lock: Lock) {
    let me = cx.me;
    cx.now(|w| w.release(lock, me));
}

/// Copies from or to userspace, or faults its pages in. Userspace may never let that end.
async fn user(cx: &Cx, at: &'static str) {
    let me = cx.me;
    let stall = |w: &mut World, answer: u8| {
        w.in_user(me);
        if answer == 1 {
            w.stalls -= 1;
            w.stalled_in_user = true;
        }
        answer == 1
    };
    if cx.when(at, Wait::User, stall).await {
        cx.when("userspace: never lets it end", Wait::Never, |_, _| ())
            .await;
    }
}

/// Gets access to the device.
async fn try_access(cx: &Cx) -> Result {
    let me = cx.me;
    if cx.now(|w| w.mutant == Mutant::AccessLooksFirst) {
        if !cx
            .at(
                "abstractions/bus_driver/bus/revocable.rs: RevocableDevice::try_access",
                |w| w.accessible,
            )
            .await
        {
            return Err(NoDev);
        }
        cx.at(
            "abstractions/bus_driver/bus/revocable.rs: RevocableDevice::try_access",
            |w| w.begin_access(me),
        )
        .await;
        return Ok(());
    }
    // A reader that has not checked yet only delays the grace period.
    let open = cx.at(
        "abstractions/bus_driver/bus/revocable.rs: RevocableDevice::try_access",
        |w| {
            if w.accessible {
                w.begin_access(me);
            }
            w.accessible
        },
    );
    open.await.then_some(()).ok_or(NoDev)
}

/// Locks the state and gets exclusive access to the device.
async fn lock_and_access(cx: &Cx) -> Result {
    let me = cx.me;
    // Both in one step: the holder of the lock only waits here, whether or not access is revoked
    // meanwhile.
    let open = cx.when(
        "abstractions/bus_driver/bus/revocable.rs: Locked::try_access",
        Wait::Lock(Lock::State),
        |w, _| {
            if w.accessible {
                w.acquire(Lock::State, me);
                w.begin_access(me);
            }
            w.accessible
        },
    );
    open.await.then_some(()).ok_or(NoDev)
}

fn end_access(cx: &Cx) {
    let me = cx.me;
    cx.now(|w| w.end_access(me));
    unlock(cx, Lock::State);
}

/// Calls an op of the parent.
async fn call(cx: &Cx, at: &'static str, op: Op) -> Result {
    let me = cx.me;
    cx.now(|w| w.begin(me));
    let refuses = op.refuses();
    let end = |w: &mut World, answer: u8| {
        let stalls = answer == w.parent_answers(refuses);
        if stalls {
            w.parent_stalls -= 1;
            w.stalled_in_parent = true;
        }
        (stalls, !stalls && w.end(op, answer), answer)
    };
    let (stalls, done, answer) = cx.when(at, Wait::Parent(refuses), end).await;
    if stalls {
        cx.note(|| format!("{op:?} never ends"));
        cx.when("parent: never answers", Wait::Never, |_, _| ())
            .await;
    }
    cx.note(|| match (done, answer) {
        (true, _) => format!("{op:?} is done"),
        (false, 2) => format!("{op:?} is refused, and the parent's table is empty"),
        (false, _) => format!("{op:?} is refused"),
    });
    done.then_some(()).ok_or(Io)
}

/// Calls an op that only reads.
async fn read<R: std::hash::Hash>(cx: &Cx, at: &'static str, f: impl FnOnce(&World) -> R) -> R {
    let me = cx.me;
    cx.now(|w| w.begin(me));
    cx.at(at, |w| {
        w.op = None;
        f(w)
    })
    .await
}

/// Calls an op that may run at the same time as others: kicks and doorbells.
async fn bell(cx: &Cx, at: &'static str) {
    let me = cx.me;
    cx.now(|w| w.reach_parent(me));
    cx.at(at, |w| w.reach_parent(me)).await;
}

fn mutant(cx: &Cx, mutant: Mutant) -> bool {
    cx.now(|w| w.mutant == mutant)
}

// --- callbacks

/// Replaces the eventfd of the call slot, and tells the parent.
async fn tell(cx: &Cx, new: Event, callback: bool) {
    let at = "abstractions/bus_driver/events/eventfd.rs: CallSlot::tell";
    let old = cx.at(at, |w| std::mem::replace(&mut w.call, new)).await;
    let put = |w: &mut World| {
        if old != 0 {
            w.events &= !crate::world::bit(old);
        }
    };
    let op = Op::SetVqCb {
        callback,
        trigger: new,
    };
    if mutant(cx, Mutant::OldEventfdPutFirst) {
        cx.now(put);
        let _ = call(cx, at, op).await;
        return;
    }
    let _ = call(cx, at, op).await;
    cx.now(put);
}

/// Replaces the eventfd that callbacks signal. Callers hold the lock of the state, which serialises
/// this.
async fn install(cx: &Cx, new: Event, running: bool) {
    let callback = cx.now(|w| {
        w.registered = new != 0 || running && w.registered;
        w.registered
    });
    tell(cx, new, callback).await;
}

/// Unregisters the callback that the parent kept without an eventfd.
async fn unregister_callback(cx: &Cx) {
    let kept = cx.now(|w| {
        let kept = w.registered && w.call == 0;
        w.registered &= !kept;
        kept
    });
    if kept {
        tell(cx, 0, false).await;
    }
}

// --- address spaces

/// Releases all held ranges but the first `mark`.
fn drop_held(cx: &Cx, asid: u8, mark: usize) {
    cx.now(|w| {
        while w.space(asid).held.len() > mark {
            if let Some((_, page)) = w.space(asid).held.pop() {
                w.give_back(page);
            }
        }
    });
}

/// Moves every range of the first `n` IOVAs to the held ranges.
fn defer_unpin(cx: &Cx, asid: u8, iovas: usize) -> usize {
    cx.now(|w| {
        let space = w.space(asid);
        let mut n = 0;
        for iova in 0..iovas {
            let page = std::mem::take(&mut space.table[iova]);
            if page != 0 {
                space.held.push((iova as u8, page));
                n += 1;
            }
        }
        n
    })
}

/// Pushes the table to the parent. Releases the held ranges if that succeeds.
async fn push(cx: &Cx, asid: u8) -> Result {
    let at = "iotlb.rs: AddressSpace::push";
    let whole = cx.now(|w| w.kind.style == Style::SetMap);
    if whole {
        let table = cx.now(|w| {
            let space = w.space(asid);
            space.reachable |= space.len() != 0;
            space.table
        });
        if mutant(cx, Mutant::UnpinBeforeUnmap) {
            drop_held(cx, asid, 0);
        }
        if let Err(e) = call(cx, at, Op::SetMap(asid, table)).await {
            cx.now(|w| w.space(asid).stale = true);
            if mutant(cx, Mutant::HeldDroppedAfterRefusal) {
                drop_held(cx, asid, 0);
            }
            return Err(e);
        }
        cx.now(|w| w.space(asid).reachable = table != Table::default());
    }
    cx.now(|w| {
        w.space(asid).dirty = false;
        w.space(asid).stale = false;
    });
    drop_held(cx, asid, 0);
    Ok(())
}

/// Pushes the table if the last push failed, or if a batch was cut short.
async fn sync_map(cx: &Cx, asid: u8) -> Result {
    if cx.now(|w| w.space(asid).stale || w.space(asid).dirty) {
        push(cx, asid).await?;
    }
    Ok(())
}

/// Pushes the table if as many ranges are held as it can have.
async fn bound_held(cx: &Cx, asid: u8) -> Result {
    if cx.now(|w| w.space(asid).held.len() < LIMIT) {
        return Ok(());
    }
    push(cx, asid).await
}

/// Unmaps everything in one address space.
async fn unmap_all(cx: &Cx, asid: u8) -> Result {
    let op = cx.now(|w| w.kind.style == Style::SetMap);
    let op = match op {
        true => Op::SetMap(asid, Table::default()),
        false => Op::DmaUnmapAll(asid),
    };
    call(cx, "iotlb.rs: Target::unmap_all", op).await
}

/// Unmaps what others left in an address space.
async fn empty_space(cx: &Cx, asid: u8) -> Result {
    if cx.now(|w| w.state.foreign[usize::from(asid)]) {
        unmap_all(cx, asid).await?;
        cx.now(|w| w.state.foreign[usize::from(asid)] = false);
    }
    Ok(())
}

/// Clears the default map that a reset brought back.
async fn clear_identity_map(cx: &Cx) -> Result {
    if !cx.now(|w| w.state.identity_mapped) {
        return Ok(());
    }
    for asid in 0..cx.now(|w| w.kind.nas) {
        empty_space(cx, asid).await?;
    }
    for asid in 0..cx.now(|w| w.kind.nas) {
        if cx.now(|w| w.state.spaces[usize::from(asid)].is_some()) {
            // `AddressSpace::mark_unmapped`.
            cx.now(|w| {
                let space = w.space(asid);
                space.dirty = false;
                space.stale = false;
                space.reachable = false;
            });
            drop_held(cx, asid, 0);
        }
    }
    cx.now(|w| w.state.identity_mapped = w.mutant == Mutant::IdentityMapStays);
    Ok(())
}

/// Ends a space that was taken out of the state. Returns true if the device reaches nothing through
/// it any more.
async fn release_space(cx: &Cx, asid: u8, mut space: Space, at_rest: bool) -> bool {
    let at = "iotlb.rs: AddressSpace::release";
    let whole = cx.now(|w| w.kind.style == Style::SetMap);
    let freed_first = mutant(cx, Mutant::FreedThoughMapped);
    let unmapped = if space.reachable {
        unmap_all(cx, asid).await
    } else {
        Ok(())
    };
    let default_map = cx.now(|w| w.kind.default_map);
    if unmapped.is_ok()
        || freed_first
        || (at_rest
            && default_map
            && call(cx, "iotlb.rs: Target::reset_map", Op::ResetMap(asid))
                .await
                .is_ok())
    {
        cx.now(|w| {
            let held = space.held.iter().map(|(_, page)| *page);
            for page in held.chain(space.table) {
                if page != 0 {
                    w.give_back(page);
                }
            }
        });
        return true;
    }
    if !whole {
        for iova in 0..IOVAS {
            let page = std::mem::take(&mut space.table[iova]);
            if page == 0 {
                continue;
            }
            match call(cx, at, Op::DmaUnmap(asid, iova as u8)).await {
                Ok(()) => cx.now(|w| w.give_back(page)),
                Err(_) => cx.now(|w| w.leak(page)),
            }
        }
    }
    cx.now(|w| {
        let held = space.held.iter().map(|(_, page)| *page);
        for page in held.chain(space.table) {
            if page != 0 {
                w.leak(page);
            }
        }
    });
    false
}

// --- open, close, reset, removal

/// Undoes what the open file set up. Callers hold the lock of the state, and have access to the
/// device.
async fn stop(cx: &Cx) {
    if !cx.now(|w| w.state.active) {
        return;
    }
    cx.now(|w| w.state.producer = 0);
    let clean_map = cx.now(|w| !w.persist);
    let at = "driver/device.rs: VhostVdpa::stop";
    let reset = call(cx, at, Op::Reset { clean_map }).await;
    if cx.now(|w| w.state.mm_bound) {
        let _ = call(cx, at, Op::UnbindMm).await;
    }
    if !mutant(cx, Mutant::CallbackStays) {
        install(cx, 0, false).await;
    }
    let nas = cx.now(|w| w.kind.nas);
    for asid in 0..nas {
        let space = cx.now(|w| w.state.spaces[usize::from(asid)].take());
        if let Some(space) = space {
            let unmapped = release_space(cx, asid, space, reset.is_ok()).await;
            cx.now(|w| w.state.foreign[usize::from(asid)] |= !unmapped);
        }
    }
    let running_too = mutant(cx, Mutant::DefaultMapWhileRunning);
    if (reset.is_ok() || running_too) && cx.now(|w| w.kind.default_map) {
        for asid in 0..nas {
            let _ = call(cx, at, Op::ResetMap(asid)).await;
        }
    }
    cx.now(|w| {
        if w.kind.default_map && w.mutant != Mutant::ForeignForgotten {
            w.state.foreign[..usize::from(nas)].fill(true);
        }
        w.persist = false;
        // `State::clear`.
        w.state = State {
            spaces: std::mem::take(&mut w.state.spaces),
            foreign: w.state.foreign,
            moved: w.state.moved,
            mapping: w.state.mapping,
            ..State::default()
        };
        w.user_batch = false;
    });
}

/// Resets the device for `SET_STATUS(0)`.
async fn reset(cx: &Cx) -> Result {
    let clean_map = cx.now(|w| !w.persist);
    call(
        cx,
        "driver/device.rs: VhostVdpa::reset",
        Op::Reset { clean_map },
    )
    .await?;
    cx.now(|w| {
        w.user_batch = false;
        if w.mutant != Mutant::BatchOutlivesReset {
            w.state.batch = None;
        }
    });
    unregister_callback(cx).await;
    if clean_map && cx.now(|w| w.kind.default_map) {
        cx.now(|w| {
            if w.mutant != Mutant::ResetExposesSilently {
                w.state.identity_mapped = true;
                let nas = w.nas();
                w.state.foreign[..nas].fill(true);
            }
        });
        return clear_identity_map(cx).await;
    }
    for asid in 0..cx.now(|w| w.kind.nas) {
        if cx.now(|w| w.state.spaces[usize::from(asid)].is_some()) {
            sync_map(cx, asid).await?;
        }
    }
    Ok(())
}

/// Opens the node as file number `file`.
pub async fn open(cx: &Cx, file: u8) -> Result {
    let at = "abstractions/bus_driver/file/chardev.rs: Published::find";
    let gone = cx.now(|w| w.removed);
    cx.at(at, |w| w.published)
        .await
        .then_some(())
        .ok_or(NoDev)?;
    if gone {
        cx.now(|w| w.fault("a node is found whose device was removed"));
    }
    present(cx, "driver/file.rs: OpenFile::open").await?;
    let was = cx.at("driver/file.rs: OpenFile::open", |w| {
        let free = w.opened.is_none();
        if free {
            w.opened = Some(file);
        }
        !free
    });
    if was.await {
        return Err(Busy);
    }
    cx.now(|w| w.files[usize::from(file)].alive = true);
    let started = start(cx, file).await;
    if started.is_err() {
        cx.now(|w| w.files[usize::from(file)].alive = false);
        cx.at("driver/file.rs: OpenFile::open", |w| w.opened = None)
            .await;
    }
    started
}

/// Prepares the device for the file that is being opened.
async fn start(cx: &Cx, file: u8) -> Result {
    lock_and_access(cx).await?;
    let at = "driver/device.rs: VhostVdpa::start";
    let done = call(cx, at, Op::Reset { clean_map: false }).await;
    if done.is_err() {
        end_access(cx);
        return done;
    }
    cx.now(|w| w.state.active = true);
    let prepared = prepare_device(cx).await;
    if prepared.is_err() {
        stop(cx).await;
    } else {
        cx.now(|w| {
            w.state.mapping = true;
            w.session = file;
            w.check_opened();
        });
    }
    end_access(cx);
    prepared
}

async fn prepare_device(cx: &Cx) -> Result {
    let (nas, default_map) = cx.now(|w| (w.kind.nas, w.kind.default_map));
    if nas > 1 && cx.now(|w| w.state.moved && w.mutant != Mutant::GroupsStay) {
        let at = "driver/device.rs: VhostVdpa::gather_groups";
        still_open(cx, at).await?;
        call(cx, at, Op::SetGroupAsid(0)).await?;
        cx.now(|w| w.state.moved = false);
    }
    let count = if default_map { nas } else { 1 };
    if mutant(cx, Mutant::OpenWithIdentityMap) {
        return Ok(());
    }
    for asid in 0..count {
        still_open(cx, "driver/device.rs: VhostVdpa::prepare_device").await?;
        empty_space(cx, asid).await?;
    }
    Ok(())
}

async fn still_open(cx: &Cx, at: &'static str) -> Result {
    cx.at(at, |w| w.accessible).await.then_some(()).ok_or(NoDev)
}

/// Undoes what the file set up when it is closed.
async fn close(cx: &Cx) {
    lock(cx, "driver/device.rs: VhostVdpa::close", Lock::State).await;
    let trusts = mutant(cx, Mutant::CloseTrustsRemoval);
    if !trusts {
        cx.now(|w| w.state.mapping = false);
    }
    match try_access(cx).await {
        Ok(()) => {
            stop(cx).await;
            end_access(cx);
        }
        Err(_) => {
            if trusts {
                // The first version forgot the state, and so who had to unpin.
                cx.now(|w| w.state.mapping = false);
            }
            unlock(cx, Lock::State);
        }
    }
}

/// Drops a reference to the first file; the last one closes it.
async fn put_file(cx: &Cx) {
    let last = cx.now(|w| {
        w.refs -= 1;
        w.refs == 0
    });
    if last {
        release(cx, 0).await;
    }
}

/// Releases a file, after its last reference was put.
pub async fn release(cx: &Cx, file: u8) {
    close(cx).await;
    let at = "driver/file.rs: OpenFile::release";
    let early = mutant(cx, Mutant::OpenedFirst);
    if early {
        cx.at(at, |w| w.opened = None).await;
    }
    free_vhost(cx, file).await;
    if !early {
        cx.at(at, |w| w.opened = None).await;
    }
}

/// `Dev::drop`: ends kick polling and frees the memory.
async fn free_vhost(cx: &Cx, file: u8) {
    let polls = cx.now(|w| w.files[usize::from(file)].kick && w.mutant != Mutant::PollStays);
    if polls {
        lock(cx, "vhost core: vhost_dev_stop", Lock::WaitQueue).await;
        cx.now(|w| w.polled = None);
        unlock(cx, Lock::WaitQueue);
    }
    cx.at("abstractions/bus_driver/file/vhost.rs: Dev::drop", |w| {
        w.files[usize::from(file)] = Default::default();
    })
    .await;
}

/// Removes the device, when it is unbound from the driver.
pub async fn remove(cx: &Cx) {
    let comes = |_: &mut World, answer: u8| answer == 0;
    if !cx.when("vdpa core: removal", Wait::Either, comes).await {
        cx.note(|| "does not come".to_owned());
        return;
    }
    lock(cx, "vdpa core: vdpa_dev_remove", Lock::Device).await;
    let zaps_first = mutant(cx, Mutant::ZapBeforeRevoke);
    if zaps_first {
        zap(cx).await;
    }
    let at = "abstractions/bus_driver/bus/revocable.rs: RevocableDevice::revoke";
    cx.at(at, |w| w.accessible = false).await;
    if !mutant(cx, Mutant::RevokeDoesNotWait) {
        cx.at(at, |w| w.grace = w.inside).await;
        cx.when(at, Wait::Grace, |_, _| ()).await;
    }
    let at = "vhost_vdpa.rs: Published::remove";
    cx.at(at, |w| w.published = false).await;
    if mutant(cx, Mutant::RemovalTakesVhost) {
        lock(cx, at, Lock::Vhost(0)).await;
        unlock(cx, Lock::Vhost(0));
    }
    let at = "driver/device.rs: VhostVdpa::end_for_removal";
    lock(cx, at, Lock::State).await;
    let nothing_left = cx.now(|w| w.mutant == Mutant::CloseTrustsRemoval && !w.state.mapping);
    if !nothing_left {
        if cx.now(|w| w.state.mapping) && !zaps_first {
            zap(cx).await;
        }
        stop(cx).await;
    }
    unlock(cx, Lock::State);
    if !mutant(cx, Mutant::CallbackNotAwaited) {
        let at = "abstractions/bus_driver/events/eventfd.rs: wait_for_callbacks";
        cx.at(at, |w| w.awaited = w.in_callback).await;
        cx.when(at, Wait::Callbacks, |_, _| ()).await;
    }
    cx.at(
        "abstractions/bus_driver/bus/vdpa_driver.rs: Registration::remove",
        |w| {
            w.removed = true;
            w.check_at_rest();
            if w.in_callback {
                w.fault("a callback still runs when remove returns, and the node may go");
            }
        },
    )
    .await;
    unlock(cx, Lock::Device);
}

async fn zap(cx: &Cx) {
    cx.at(
        "abstractions/bus_driver/file/doorbell.rs: DoorbellMaps::zap",
        |w| {
            w.doorbell = Doorbell::Nothing;
        },
    )
    .await;
}

// --- ioctls

async fn present(cx: &Cx, at: &'static str) -> Result {
    cx.at(at, |w| w.accessible).await.then_some(()).ok_or(NoDev)
}

async fn set_owner(cx: &Cx, file: u8) -> Result {
    present(cx, "driver/file.rs: FileIoctls::become_owner").await?;
    let at = "abstractions/bus_driver/file/vhost.rs: Dev::set_owner";
    let vhost = Lock::Vhost(file);
    let this = usize::from(file);
    lock(cx, at, vhost).await;
    let has = cx.now(|w| std::mem::replace(&mut w.files[this].owner, true));
    if has {
        unlock(cx, vhost);
        return Err(Busy);
    }
    let two_steps = mutant(cx, Mutant::OwnerInTwoSteps);
    if two_steps {
        unlock(cx, vhost);
    }
    let bound = bind_owner(cx).await;
    if two_steps {
        lock(cx, at, vhost).await;
    }
    if bound.is_err() {
        // `vhost_dev_reset_owner`: puts a kick, and leaves its poll to `vhost_dev_stop`.
        cx.now(|w| {
            w.files[this].owner = false;
            w.files[this].kick = false;
        });
    }
    unlock(cx, vhost);
    bound
}

async fn bind_owner(cx: &Cx) -> Result {
    lock_and_access(cx).await?;
    if cx.now(|w| w.mutant == Mutant::OwnerStays) {
        cx.now(|w| w.state.owner = true);
    }
    if cx.now(|w| w.kind.use_va) {
        let bound = call(cx, "driver/ioctl.rs: VhostVdpa::bind_owner", Op::BindMm).await;
        if bound.is_err() {
            cx.now(|w| w.persist = false);
            end_access(cx);
            return bound;
        }
    }
    cx.now(|w| {
        w.state.mm_bound = w.kind.use_va;
        w.state.owner = true;
    });
    end_access(cx);
    Ok(())
}

async fn ack(cx: &Cx) -> Result {
    user(cx, "driver/ioctl.rs: VhostVdpa::ack_backend_features").await;
    lock_and_access(cx).await?;
    // On offer if the parent has `reset_map`.
    cx.now(|w| w.persist = w.kind.default_map);
    end_access(cx);
    Ok(())
}

async fn set_kick(cx: &Cx, file: u8) -> Result {
    present(cx, "driver/file.rs: FileIoctls::other").await?;
    let at = "abstractions/bus_driver/file/vhost.rs: Dev::vring_ioctl";
    let (vhost, this) = (Lock::Vhost(file), usize::from(file));
    lock(cx, at, vhost).await;
    if !cx.now(|w| w.files[this].owner) {
        unlock(cx, vhost);
        return Err(Perm);
    }
    user(cx, "vhost core: vhost_vring_ioctl").await;
    // The same eventfd again changes nothing.
    if !cx.now(|w| std::mem::replace(&mut w.files[this].kick, true)) {
        lock(cx, "vhost core: vhost_poll_start", Lock::WaitQueue).await;
        cx.now(|w| w.polled = Some(file));
        unlock(cx, Lock::WaitQueue);
    }
    unlock(cx, vhost);
    Ok(())
}

async fn set_call(cx: &Cx, new: Event) -> Result {
    let at = "driver/ioctl.rs: VhostVdpa::set_vring_call";
    user(cx, at).await;
    let put = |w: &mut World| w.events &= !crate::world::bit(new);
    if new != 0 {
        cx.now(|w| w.events |= crate::world::bit(new));
    }
    if let Err(e) = lock_and_access(cx).await {
        if new != 0 {
            cx.now(put);
        }
        return Err(e);
    }
    cx.now(|w| w.state.producer = 0);
    let running = read(cx, at, |w| w.dev.running).await;
    install(cx, new, running).await;
    if running {
        cx.now(|w| w.state.producer = w.call);
    }
    end_access(cx);
    Ok(())
}

async fn get_status(cx: &Cx) -> Result {
    let at = "driver/ioctl.rs: VhostVdpa::get_status";
    if mutant(cx, Mutant::GetterWithoutLock) {
        let me = cx.me;
        try_access(cx).await?;
        read(cx, at, |w| w.dev.running).await;
        cx.now(|w| w.end_access(me));
    } else {
        lock_and_access(cx).await?;
        read(cx, at, |w| w.dev.running).await;
        end_access(cx);
    }
    user(cx, at).await;
    Ok(())
}

async fn set_status(cx: &Cx, start: bool) -> Result {
    let at = "driver/ioctl.rs: VhostVdpa::set_status";
    user(cx, at).await;
    lock_and_access(cx).await?;
    let was = read(cx, at, |w| w.dev.running).await;
    let done = if start {
        let cleared = if mutant(cx, Mutant::StartWithIdentityMap) {
            Ok(())
        } else {
            clear_identity_map(cx).await
        };
        match cleared {
            Ok(()) => call(cx, at, Op::SetStatus).await,
            failed => failed,
        }
    } else {
        if was {
            cx.now(|w| w.state.producer = 0);
        }
        reset(cx).await
    };
    let starts = start && !was && done.is_ok();
    let runs_on = !start && was && done.is_err() && read(cx, at, |w| w.dev.running).await;
    if starts || runs_on {
        cx.now(|w| w.state.producer = w.call);
    }
    end_access(cx);
    done
}

async fn set_group(cx: &Cx) -> Result {
    let at = "driver/ioctl.rs: VhostVdpa::set_group_asid";
    user(cx, at).await;
    lock_and_access(cx).await?;
    let done = set_group_locked(cx, at).await;
    end_access(cx);
    done
}

async fn set_group_locked(cx: &Cx, at: &'static str) -> Result {
    if cx.now(|w| w.kind.nas) == 1 {
        return Err(Inval);
    }
    if read(cx, at, |w| w.dev.running).await {
        return Err(Busy);
    }
    empty_space(cx, 1).await?;
    cx.now(|w| w.state.moved = true);
    call(cx, at, Op::SetGroupAsid(1)).await
}

// --- messages

/// Makes the checks that every message begins with. Creates space `asid` if `asid < create`.
async fn check(cx: &Cx, asid: u8, create: u8) -> Result {
    if !cx.now(|w| w.state.owner) {
        return Err(Perm);
    }
    let there = cx.now(|w| w.state.spaces[usize::from(asid)].is_some());
    if !there {
        if asid >= create {
            return Err(Inval);
        }
        empty_space(cx, asid).await?;
        cx.now(|w| {
            w.space(asid);
        });
    }
    if cx.now(|w| w.state.batch.is_some_and(|batch| batch != asid)) {
        return Err(Inval);
    }
    Ok(())
}

/// Locks the state, and prepares device and space for a message.
async fn with_space(cx: &Cx, asid: u8, create: u8) -> Result {
    lock_and_access(cx).await?;
    let ready = ready(cx, asid, create).await;
    if ready.is_err() {
        end_access(cx);
    }
    ready
}

async fn ready(cx: &Cx, asid: u8, create: u8) -> Result {
    if cx.now(|w| w.state.identity_mapped) {
        if !cx.now(|w| w.state.owner) {
            return Err(Perm);
        }
        if asid >= create && cx.now(|w| w.state.spaces[usize::from(asid)].is_none()) {
            return Err(Inval);
        }
        clear_identity_map(cx).await?;
    }
    check(cx, asid, create).await
}

async fn batch_begin(cx: &Cx) -> Result {
    user(cx, "driver/message.rs: VhostVdpa::batch_begin").await;
    let nas = cx.now(|w| w.kind.nas);
    with_space(cx, 0, nas).await?;
    if cx.now(|w| w.state.batch.is_none()) {
        let _ = sync_map(cx, 0).await;
    }
    cx.now(|w| {
        w.state.batch = Some(0);
        w.user_batch = true;
    });
    end_access(cx);
    Ok(())
}

async fn batch_end(cx: &Cx) -> Result {
    user(cx, "driver/message.rs: VhostVdpa::batch_end").await;
    with_space(cx, 0, 0).await?;
    let open = cx.now(|w| {
        w.user_batch = false;
        w.state.batch.take().is_some()
    });
    let done = if open {
        push(cx, 0).await
    } else {
        sync_map(cx, 0).await
    };
    end_access(cx);
    done
}

async fn invalidate(cx: &Cx) -> Result {
    user(cx, "driver/message.rs: VhostVdpa::unmap").await;
    with_space(cx, 0, 0).await?;
    let batch = cx.now(|w| w.state.batch.is_some());
    let done = remove_ranges(cx, 0, batch).await;
    end_access(cx);
    done
}

/// `AddressSpace::remove`, for all ranges.
async fn remove_ranges(cx: &Cx, asid: u8, batch: bool) -> Result {
    if !cx.now(|w| w.kind.style == Style::SetMap) {
        return unmap_range(cx, asid, IOVAS).await;
    }
    bound_held(cx, asid).await?;
    let mark = cx.now(|w| w.space(asid).held.len());
    defer_unpin(cx, asid, IOVAS);
    cx.now(|w| w.space(asid).dirty = true);
    if !batch {
        if let Err(e) = push(cx, asid).await {
            // `Table::restore`.
            cx.now(|w| {
                let space = w.space(asid);
                while space.held.len() > mark {
                    if let Some((iova, page)) = space.held.pop() {
                        space.table[usize::from(iova)] = page;
                    }
                }
            });
            return Err(e);
        }
    }
    Ok(())
}

/// Removes mappings one by one, for a parent that is told of each range.
async fn unmap_range(cx: &Cx, asid: u8, iovas: usize) -> Result {
    let at = "iotlb.rs: AddressSpace::unmap_range";
    for iova in 0..iovas {
        let page = cx.now(|w| w.space(asid).table[iova]);
        if page == 0 {
            continue;
        }
        let unpins_first = mutant(cx, Mutant::UnpinBeforeUnmap);
        if unpins_first {
            cx.now(|w| w.give_back(page));
        }
        call(cx, at, Op::DmaUnmap(asid, iova as u8)).await?;
        cx.now(|w| w.space(asid).table[iova] = 0);
        if !unpins_first {
            cx.now(|w| w.give_back(page));
        }
    }
    Ok(())
}

/// Maps the first `n` pages.
async fn update(user_thread: &User<'_>, n: u8) -> Result {
    let cx = user_thread.cx;
    user(cx, "driver/message.rs: VhostVdpa::write").await;
    let pages: Vec<Page> = (0..n).map(|iova| user_thread.page(iova)).collect();
    let pinned = pin(cx, &pages).await;
    let nas = cx.now(|w| w.kind.nas);
    let mut done = with_space(cx, 0, nas).await;
    if done.is_ok() {
        done = match pinned {
            Ok(()) => insert(cx, &pages).await,
            failed => failed,
        };
        check_mapped(cx, &pages, done.is_ok());
        end_access(cx);
    }
    // Release the pages that no range took over: first the pins, then what was counted.
    cx.now(|w| {
        for &page in &pages {
            let owned = w.pinned & !w.leaked & crate::world::bit(page) != 0;
            if owned && !in_spaces(w, page) {
                w.unpin(page);
            }
        }
        for &page in &pages {
            if w.pinned & crate::world::bit(page) == 0 {
                w.uncharge(page);
            }
        }
    });
    done
}

fn in_spaces(w: &World, page: Page) -> bool {
    w.state.spaces.iter().flatten().any(|space| {
        space.table.contains(&page) || space.held.iter().any(|(_, held)| *held == page)
    })
}

/// Checks the end of an update, with the state locked: outside of a batch the device has its pages.
fn check_mapped(cx: &Cx, pages: &[Page], done: bool) {
    cx.now(|w| {
        let mapped = pages.iter().all(|page| w.dev.maps[0].contains(page));
        if done && !w.user_batch && !mapped {
            w.fault("an update outside of a batch succeeds, and the device does not have it");
        }
    });
}

/// Pins the memory of an update, or looks up its files.
async fn pin(cx: &Cx, pages: &[Page]) -> Result {
    let fault_in = "abstractions/bus_driver/memory/gup.rs: pin";
    if cx.now(|w| w.kind.use_va) {
        let at = "driver/message.rs: VhostVdpa::look_up";
        lock(cx, at, Lock::Mmap).await;
        cx.now(|w| pages.iter().for_each(|page| w.pin(*page)));
        unlock(cx, Lock::Mmap);
        return Ok(());
    }
    // `VhostVdpa::prepare`.
    lock_and_access(cx).await?;
    let nas = cx.now(|w| w.kind.nas);
    let mut checked = check(cx, 0, nas).await;
    if checked.is_ok() {
        checked = check_range(cx, pages);
    }
    if checked.is_err() {
        end_access(cx);
        return checked;
    }
    let under_lock = mutant(cx, Mutant::PinUnderLock);
    if !under_lock {
        end_access(cx);
    }
    let charge = |w: &mut World, answer: u8| {
        if answer == 0 {
            for page in pages {
                w.charged |= crate::world::bit(*page);
            }
        } else {
            w.refusals -= 1;
        }
        answer == 0
    };
    let at = "abstractions/bus_driver/memory/gup.rs: Charge::new";
    if !cx.when(at, Wait::Short, charge).await {
        cx.note(|| "above the limit".to_owned());
        if under_lock {
            end_access(cx);
        }
        flush_held(cx).await?;
        if !cx.when(at, Wait::Short, charge).await {
            return Err(NoMem);
        }
    }
    user(cx, fault_in).await;
    lock(cx, fault_in, Lock::Mmap).await;
    cx.now(|w| pages.iter().for_each(|page| w.pin(*page)));
    unlock(cx, Lock::Mmap);
    if under_lock {
        end_access(cx);
    }
    Ok(())
}

async fn flush_held(cx: &Cx) -> Result {
    with_space(cx, 0, 0).await?;
    let mut done = Ok(());
    if cx.now(|w| !w.space(0).held.is_empty()) {
        done = push(cx, 0).await;
    }
    end_access(cx);
    done
}

fn check_range(cx: &Cx, pages: &[Page]) -> Result {
    let taken = cx.now(|w| {
        w.space(0).table[..pages.len()]
            .iter()
            .any(|page| *page != 0)
    });
    if taken {
        return Err(Exist);
    }
    Ok(())
}

/// `AddressSpace::insert`.
async fn insert(cx: &Cx, pages: &[Page]) -> Result {
    let at = "iotlb.rs: AddressSpace::insert";
    check_range(cx, pages)?;
    if cx.now(|w| w.space(0).len()) + pages.len() > LIMIT {
        return Err(NoSpc);
    }
    bound_held(cx, 0).await?;
    let whole = cx.now(|w| w.kind.style == Style::SetMap);
    cx.now(|w| w.space(0).reachable |= !whole);
    for (iova, &page) in pages.iter().enumerate() {
        cx.now(|w| w.space(0).table[iova] = page);
        if whole {
            continue;
        }
        if let Err(e) = call(cx, at, Op::DmaMap(0, iova as u8, page)).await {
            cx.now(|w| w.space(0).table[iova] = 0);
            let _ = unmap_range(cx, 0, iova).await;
            return Err(e);
        }
    }
    if !whole {
        return Ok(());
    }
    cx.now(|w| w.space(0).dirty = true);
    if cx.now(|w| w.state.batch.is_some()) {
        return Ok(());
    }
    let pushed = push(cx, 0).await;
    if pushed.is_err() {
        defer_unpin(cx, 0, pages.len());
        let _ = push(cx, 0).await;
    }
    pushed
}

// --- threads

/// Makes a call on the first file.
pub async fn run(user_thread: &User<'_>, call: Call) -> Result {
    let cx = user_thread.cx;
    let file = user_thread.file;
    let found = cx.at("kernel: fdget", |w| {
        w.refs += u8::from(w.descriptor);
        w.descriptor
    });
    if !found.await {
        return Err(BadF);
    }
    if call == Call::Close {
        // The reference of the descriptor is put; `fdget` took none.
        cx.now(|w| {
            w.refs -= 1;
            w.descriptor = false;
        });
        put_file(cx).await;
        return Ok(());
    }
    let done = match call {
        Call::SetOwner => set_owner(cx, file).await,
        Call::Ack => ack(cx).await,
        Call::SetKick => set_kick(cx, file).await,
        Call::SetCall => set_call(cx, user_thread.event()).await,
        Call::ClearCall => set_call(cx, 0).await,
        Call::GetStatus => get_status(cx).await,
        Call::Start => set_status(cx, true).await,
        Call::Reset => set_status(cx, false).await,
        Call::Update(n) => update(user_thread, n).await,
        Call::InvalidateAll => invalidate(cx).await,
        Call::BatchBegin => batch_begin(cx).await,
        Call::BatchEnd => batch_end(cx).await,
        Call::SetGroup => set_group(cx).await,
        Call::Close => Ok(()),
    };
    cx.note(|| format!("{call:?} returns {done:?}"));
    put_file(cx).await;
    done
}

/// Opens the first file.
pub async fn open_first(cx: &Cx) -> Result {
    open(cx, 0).await?;
    cx.now(|w| {
        w.descriptor = true;
        w.refs = 1;
    });
    Ok(())
}

/// Writes to the kick eventfd.
pub async fn kick(cx: &Cx) {
    lock(cx, "vhost core: vhost_poll_wakeup", Lock::WaitQueue).await;
    if let Some(file) = cx.now(|w| w.polled) {
        cx.now(|w| {
            if !w.files[usize::from(file)].alive {
                w.fault("a kick goes through a poll whose memory is gone");
            }
            if w.opened != Some(file) {
                w.fault("a kick of one owner's eventfd reaches the device of another");
            }
        });
        if try_access(cx).await.is_ok() {
            let me = cx.me;
            bell(cx, "driver/file.rs: Session::kick").await;
            cx.now(|w| w.end_access(me));
        }
    }
    unlock(cx, Lock::WaitQueue);
}

/// Accesses a doorbell, and then unmaps it. The map holds a reference to the file.
pub async fn fault(cx: &Cx) {
    let me = cx.me;
    let at = "driver/file.rs: OpenFile::fault";
    lock(cx, "mm: page fault", Lock::Mmap).await;
    let takes_state = mutant(cx, Mutant::FaultTakesState);
    if takes_state {
        lock(cx, at, Lock::State).await;
    }
    if try_access(cx).await.is_ok() {
        bell(cx, at).await;
        cx.at(at, |w| w.doorbell = Doorbell::Device).await;
        cx.now(|w| w.end_access(me));
    } else {
        cx.at(at, |w| w.doorbell = Doorbell::Dummy).await;
    }
    if takes_state {
        unlock(cx, Lock::State);
    }
    unlock(cx, Lock::Mmap);
    cx.at("mm: munmap", |w| w.doorbell = Doorbell::Nothing)
        .await;
    put_file(cx).await;
}

/// Runs the device's callback.
pub async fn interrupt(cx: &Cx) {
    let at = "abstractions/bus_driver/events/eventfd.rs: CallSlot::signal";
    let called = cx.at("parent: looks at the callback", |w| {
        w.in_callback = w.dev.callback;
        w.in_callback
    });
    if called.await {
        cx.at(at, |w| {
            w.in_callback = false;
            w.awaited = false;
        })
        .await;
    }
}

/// Closes what is open and opens again, when all other threads have ended.
pub async fn epilogue(cx: &Cx) {
    cx.when("all have ended", Wait::Others, |w, _| {
        w.refusals = 0;
        w.stalls = 0;
        w.parent_stalls = 0;
        if w.removed {
            w.check_at_rest();
        }
    })
    .await;
    cx.forget(0);
    let first = User {
        cx,
        who: 0,
        call: 0,
        file: 0,
    };
    let _ = run(&first, Call::Close).await;
    if let Some(file) = cx.now(|w| w.opened) {
        release(cx, file).await;
    }
    cx.now(World::check_closed);
    let next = User { file: 2, ..first };
    let opened = open(cx, 2).await;
    let removed = cx.now(|w| w.removed);
    if removed {
        if opened != Err(NoDev) {
            cx.now(|w| w.fault("a node whose device was removed can be opened"));
        }
        return;
    }
    if opened.is_err() {
        cx.now(|w| w.fault("the next open fails"));
        return;
    }
    let mut done = set_owner(cx, 2).await;
    if done.is_ok() {
        done = update(&next, 2).await;
    }
    if done.is_ok() {
        done = set_status(cx, true).await;
    }
    if done.is_err() {
        cx.now(|w| w.fault("the next owner cannot start the device"));
    }
    release(cx, 2).await;
    cx.now(World::check_closed);
}
