// SPDX-License-Identifier: GPL-2.0

//! One queue of a simulated device: what the driver set, and the ring while the queue runs.

use crate::ring::{
    Chain, Layout, Memory, Position, RingError, RingFeatures, RingResult, Token, Violation,
    VirtQueue,
};
use kernel::{
    fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, //
    },
};
use vdpa_parent::{parent_ops::Callback, worker::Again};

/// State of a queue, for debugfs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    /// The driver has not enabled it, or has disabled it.
    Stopped,
    /// It is enabled, and the device has not started its ring yet.
    Ready,
    /// The device serves it.
    Running,
    /// Its ring is not mapped; the device tries again later.
    Resting,
    /// Its ring violates the specification.
    Broken(Violation),
}

impl Health {
    /// The states without a violation, in the order of their numbers.
    const PLAIN: [Self; 4] = [Self::Stopped, Self::Ready, Self::Running, Self::Resting];

    /// Returns the number of a state.
    fn number(self) -> u32 {
        let plain = Self::PLAIN.iter().position(|health| *health == self);
        let broken = |why| {
            Violation::ALL
                .iter()
                .position(|violation| *violation == why)
        };
        let number = match self {
            Self::Broken(why) => broken(why).map(|at| Self::PLAIN.len() + at),
            _ => plain,
        };
        number.unwrap_or(0) as u32
    }

    /// Returns the state with a number.
    fn numbered(number: u32) -> Self {
        let number = number as usize;
        let broken = number.checked_sub(Self::PLAIN.len());
        let broken = broken.and_then(|at| Violation::ALL.get(at));
        let plain = Self::PLAIN.get(number).copied();
        broken.map_or(plain.unwrap_or(Self::Stopped), |why| Self::Broken(*why))
    }
}

/// File `queues` of a device: a line with number and state for each queue.
pub struct QueueStates(KVec<Atomic<u32>>);

impl QueueStates {
    /// Creates the content for `count` queues, all of them stopped.
    pub(super) fn new(count: usize) -> Result<Arc<Self>> {
        let mut all = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            all.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Arc::new(Self(all), GFP_KERNEL)?)
    }
}

impl fmt::Debug for QueueStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, number) in self.0.iter().enumerate() {
            match Health::numbered(number.load(Relaxed)) {
                Health::Stopped => writeln!(f, "{idx} stopped")?,
                Health::Ready => writeln!(f, "{idx} ready")?,
                Health::Running => writeln!(f, "{idx} running")?,
                Health::Resting => writeln!(f, "{idx} resting: its ring is not mapped")?,
                Health::Broken(why) => writeln!(f, "{idx} broken: {}", why.reason())?,
            }
        }
        Ok(())
    }
}

/// A queue.
pub struct Queue {
    layout: Layout,
    /// The largest size that is allowed.
    max: u16,
    /// The position at which the ring starts, or at which it was stopped. `None` is the initial
    /// position of a ring of the negotiated kind.
    start: Option<Position>,
    /// True if the driver enabled the queue.
    ready: bool,
    /// The reason why the ring cannot be used until it is stopped and started again.
    broken: Option<Violation>,
    /// True if the queue broke and the driver was not told. Only a reset changes that.
    untold: bool,
    /// The ring, while the queue is started and not broken.
    ring: Option<VirtQueue>,
    /// True if the ring was found to be unmapped in this run. The next run tries again.
    resting: bool,
    /// The number of chains that were taken since the last reset.
    received: u64,
    /// The number of chains that were returned since then.
    completed: u64,
    callback: Callback,
    /// The address space of the buffers.
    asid: u32,
    /// The address space of the ring.
    ring_asid: u32,
    /// True if chains were pushed that the driver has not been signalled for.
    pushed: bool,
    states: Arc<QueueStates>,
    /// The index of this queue in `states`.
    idx: usize,
}

impl Queue {
    /// Creates queue `idx` of a device, as after a reset. It has at most `max` entries.
    pub(super) fn new(max: u16, states: Arc<QueueStates>, idx: usize) -> Self {
        Self {
            layout: Layout {
                num: max.into(),
                ..Layout::default()
            },
            max,
            start: None,
            ready: false,
            broken: None,
            untold: false,
            ring: None,
            resting: false,
            received: 0,
            completed: 0,
            callback: Callback::none(),
            asid: 0,
            ring_asid: 0,
            pushed: false,
            states,
            idx,
        }
    }

    /// Resets the queue to the state in which it was created.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.max, self.states.clone(), self.idx);
        self.show();
    }

    /// Updates the state in debugfs.
    fn show(&self) {
        let health = match (self.broken, &self.ring) {
            (Some(why), _) => Health::Broken(why),
            (None, Some(_)) if self.resting => Health::Resting,
            (None, Some(_)) => Health::Running,
            (None, None) if self.ready => Health::Ready,
            (None, None) => Health::Stopped,
        };
        if let Some(state) = self.states.0.get(self.idx) {
            state.store(health.number(), Relaxed);
        }
    }

    /// Returns the address space of the buffers.
    pub fn asid(&self) -> u32 {
        self.asid
    }

    /// Returns the address space of the ring.
    pub fn ring_asid(&self) -> u32 {
        self.ring_asid
    }

    /// Returns true if the device may use the queue: it is started and not broken.
    pub fn is_active(&self) -> bool {
        self.ring.is_some()
    }

    /// Returns true if the ring was found to violate the specification.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Returns true if the ring was found to be unmapped in this run.
    pub(super) fn is_resting(&self) -> bool {
        self.resting
    }

    /// Returns true if the queue broke since the last call.
    pub(super) fn take_untold(&mut self) -> bool {
        core::mem::take(&mut self.untold)
    }

    /// Returns true if the driver has to be told that the queue broke.
    pub(super) fn is_untold(&self) -> bool {
        self.untold
    }

    /// Returns the numbers of chains that were taken and returned since the last reset.
    pub fn counts(&self) -> (u64, u64) {
        (self.received, self.completed)
    }

    /// Breaks the queue: it is not used until it is stopped and started again.
    fn break_by(&mut self, why: Violation) {
        self.stop();
        self.broken = Some(why);
        self.untold = true;
        self.show();
    }

    /// Calls `f` with the ring, unless the queue rests or has no ring.
    ///
    /// If the ring is not mapped, the queue rests: nothing is done with it until the next run,
    /// which continues where this one ended. If the ring is impossible, the queue breaks.
    pub fn ring<R>(&mut self, f: impl FnOnce(&mut VirtQueue) -> RingResult<R>) -> Option<R> {
        if self.resting {
            return None;
        }
        match f(self.ring.as_mut()?) {
            Ok(done) => return Some(done),
            Err(RingError::Unmapped) => {
                self.resting = true;
                self.show();
            }
            Err(RingError::Invalid(why)) => self.break_by(why),
        }
        None
    }

    /// Takes the next chain, through the memory of the ring. Returns `None` if the queue is empty,
    /// rests or is broken.
    pub fn pop<M: Memory>(&mut self, mem: &M) -> Option<Chain> {
        let chain = self.ring(|ring| ring.pop(mem)).flatten()?;
        self.received += 1;
        Some(chain)
    }

    /// Calls `f` to walk the chain that `pop` returned last. After an error the chain is put back,
    /// so `f` must not have done what cannot be done twice.
    pub fn walk<R>(&mut self, token: Token, f: impl FnOnce() -> RingResult<R>) -> Option<R> {
        let walked = self.ring(|_| f());
        if walked.is_none() {
            self.received = self.received.saturating_sub(1);
            if let Some(ring) = &mut self.ring {
                ring.put_back(token);
            }
        }
        walked
    }

    /// Returns a chain to the driver, through the memory of the ring. The driver sees it after the
    /// run, or once the ring is mapped again.
    pub fn push<M: Memory>(&mut self, mem: &M, token: Token, len: u32) {
        if self.ring(|ring| ring.push(mem, token, len)).is_some() {
            self.completed += 1;
            self.pushed = true;
        }
    }

    /// Asks the driver to kick. Returns true if it made chains available meanwhile.
    pub fn asks_for_kicks<M: Memory>(&mut self, mem: &M) -> bool {
        self.ring(|ring| ring.enable_notify(mem)) == Some(true)
    }

    /// Signals the driver for the chains that were pushed since the last call, if it wants that.
    pub fn signal<M: Memory>(&mut self, mem: &M) {
        if !self.pushed {
            return;
        }
        let wanted = self.ring(|ring| ring.needs_signal(mem));
        if self.resting {
            // The driver is signalled once the ring is mapped again.
            return;
        }
        self.pushed = false;
        // A driver whose ring broke meanwhile is signalled, too.
        if wanted.unwrap_or(true) {
            self.callback.call();
        }
    }

    /// Ends a run: asks the driver to kick, and signals what was pushed. Returns [`Again::Yes`] if
    /// the driver made chains available meanwhile.
    pub fn end_run<M: Memory>(&mut self, mem: &M) -> Again {
        let more = self.asks_for_kicks(mem);
        self.signal(mem);
        if more {
            Again::Yes
        } else {
            Again::No
        }
    }

    /// Returns true if [`Queue::signal`] has chains to signal.
    pub(super) fn wants_signal(&self) -> bool {
        self.pushed
    }

    /// Returns the position of the queue, if one was set or the queue was ever started.
    pub(super) fn position(&self) -> Option<Position> {
        match &self.ring {
            Some(ring) => Some(ring.restart()),
            None => self.start,
        }
    }

    /// Sets the position of the queue, and stops its ring.
    pub(super) fn set_position(&mut self, start: Position) {
        self.stop();
        self.start = Some(start);
        self.show();
    }

    /// Sets the addresses of the descriptor, driver and device areas.
    pub(super) fn set_address(&mut self, desc: u64, driver: u64, device: u64) {
        self.layout = Layout {
            desc,
            driver,
            device,
            num: self.layout.num,
        };
    }

    /// Sets the number of entries.
    pub(super) fn set_num(&mut self, num: u32) {
        self.layout.num = num;
    }

    /// Returns the number of entries.
    pub(super) fn num(&self) -> u32 {
        self.layout.num
    }

    /// Replaces the callback.
    pub(super) fn set_callback(&mut self, callback: Callback) {
        self.callback = callback;
    }

    /// Moves the buffers and the ring to address spaces.
    pub(super) fn set_asid(&mut self, asid: u32, ring_asid: u32) {
        self.asid = asid;
        self.ring_asid = ring_asid;
    }

    /// Returns true if the driver enabled the queue.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Enables or disables the queue. Returns true if this enabled it.
    pub(super) fn set_ready(&mut self, ready: bool) -> bool {
        if ready == self.ready {
            return false;
        }
        self.ready = ready;
        if !ready {
            self.stop();
        }
        self.show();
        ready
    }

    /// Begins a run. Starts the ring at its position, with nothing in flight, if the queue is
    /// enabled and not broken. Drivers may enable a queue before they set its addresses, so the
    /// ring is started only when the device runs.
    pub(super) fn begin(&mut self, features: RingFeatures) {
        if core::mem::take(&mut self.resting) {
            self.show();
        }
        if !self.ready || self.broken.is_some() || self.ring.is_some() {
            return;
        }
        let start = self.start.unwrap_or(Position::initial(features.packed));
        let ring = if self.layout.num <= self.max.into() {
            VirtQueue::new(self.layout, features, start)
        } else {
            Err(Violation::Size.into())
        };
        match ring {
            Ok(ring) => {
                self.ring = Some(ring);
                self.show();
            }
            Err(RingError::Invalid(why)) => self.break_by(why),
            // `VirtQueue::new()` does not access memory.
            Err(RingError::Unmapped) => (),
        }
    }

    /// Stops the ring and keeps its position.
    fn stop(&mut self) {
        self.start = self.position();
        self.ring = None;
        self.broken = None;
        self.resting = false;
    }
}
