// SPDX-License-Identifier: GPL-2.0

//! One queue of a simulated device: what the driver said about it, and its ring while it runs.

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

/// How a queue is, for the administrator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    /// The driver did not say that it is ready, or stopped it.
    Stopped,
    /// It is ready, and the device did not look at it yet.
    Ready,
    /// The device serves it.
    Running,
    /// Its ring is not mapped.
    Resting,
    /// Its ring is impossible.
    Broken(Violation),
}

impl Health {
    /// Those without a reason, in the order of their numbers.
    const PLAIN: [Self; 4] = [Self::Stopped, Self::Ready, Self::Running, Self::Resting];

    /// Returns its number.
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

    /// Returns the one with that number.
    fn numbered(number: u32) -> Self {
        let number = number as usize;
        let broken = number.checked_sub(Self::PLAIN.len());
        let broken = broken.and_then(|at| Violation::ALL.get(at));
        let plain = Self::PLAIN.get(number).copied();
        broken.map_or(plain.unwrap_or(Self::Stopped), |why| Self::Broken(*why))
    }
}

/// The file `queues` of a device: a line for each queue, with its number and how it is.
pub struct QueueStates(KVec<Atomic<u32>>);

impl QueueStates {
    /// Makes lines for `count` queues, all of them stopped.
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

/// One queue.
pub struct Queue {
    layout: Layout,
    /// The largest size.
    max: u16,
    /// Where the ring begins when it is started; where it was when it was stopped. Unless
    /// somebody said, it is where rings of the negotiated kind begin.
    start: Option<Position>,
    /// What the driver said.
    ready: bool,
    /// Why its ring cannot be used until it is stopped and started again.
    broken: Option<Violation>,
    /// Whether it broke and the driver was not told. Only a reset makes up for it.
    untold: bool,
    /// The ring, while it is started and not broken.
    ring: Option<VirtQueue>,
    /// Whether the ring was found to be unmapped in this run. The next run tries again.
    resting: bool,
    /// The number of chains that were taken since the last reset.
    received: u64,
    /// The number of chains that were given back since then.
    completed: u64,
    callback: Callback,
    /// The address space of the buffers.
    asid: u32,
    /// The address space of the ring.
    ring_asid: u32,
    /// Whether something was pushed that the driver has not been told about.
    pushed: bool,
    states: Arc<QueueStates>,
    /// Its own number there.
    idx: usize,
}

impl Queue {
    /// A queue after a reset, of at most `max` entries. It is number `idx` of its device.
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

    /// Takes it back to how it was made.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.max, self.states.clone(), self.idx);
        self.show();
    }

    /// Lets the administrator see how it is.
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

    /// The address space that its buffers are in.
    pub fn asid(&self) -> u32 {
        self.asid
    }

    /// The address space that its ring is in.
    pub fn ring_asid(&self) -> u32 {
        self.ring_asid
    }

    /// Whether the device may use it: it is started and not broken.
    pub fn is_active(&self) -> bool {
        self.ring.is_some()
    }

    /// Whether its ring was found to be impossible.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether its ring was found to be unmapped in this run.
    pub(super) fn is_resting(&self) -> bool {
        self.resting
    }

    /// Returns whether it broke since the last call.
    pub(super) fn take_untold(&mut self) -> bool {
        core::mem::take(&mut self.untold)
    }

    /// Whether the driver has to be told that it broke.
    pub(super) fn is_untold(&self) -> bool {
        self.untold
    }

    /// Returns how many chains were taken, and how many were given back, since the last reset.
    pub fn counts(&self) -> (u64, u64) {
        (self.received, self.completed)
    }

    /// Breaks it: it is not used until it is stopped and started again.
    fn break_by(&mut self, why: Violation) {
        self.stop();
        self.broken = Some(why);
        self.untold = true;
        self.show();
    }

    /// Does something with the ring, unless it rests.
    ///
    /// A ring that is not mapped lets the queue rest: nothing is done with it until the next run,
    /// which begins where this one ended. An impossible one breaks the queue.
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

    /// Takes the next chain, through the memory of the ring. There is none when the queue is
    /// empty, rests or is broken.
    pub fn pop<M: Memory>(&mut self, mem: &M) -> Option<Chain> {
        let chain = self.ring(|ring| ring.pop(mem)).flatten()?;
        self.received += 1;
        Some(chain)
    }

    /// Walks the chain that `pop` returned last. On an error the chain is put back, so `f` must not
    /// have done what cannot be done twice.
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

    /// Gives a chain back, through the memory of the ring. The driver sees it when the run is
    /// over, or once the ring is mapped again.
    pub fn push<M: Memory>(&mut self, mem: &M, token: Token, len: u32) {
        if self.ring(|ring| ring.push(mem, token, len)).is_some() {
            self.completed += 1;
            self.pushed = true;
        }
    }

    /// Asks the driver to kick, and returns whether it made something available meanwhile.
    pub fn asks_for_kicks<M: Memory>(&mut self, mem: &M) -> bool {
        self.ring(|ring| ring.enable_notify(mem)) == Some(true)
    }

    /// Tells the driver what was pushed since the last time, if it wants to know.
    pub fn signal<M: Memory>(&mut self, mem: &M) {
        if !self.pushed {
            return;
        }
        let wanted = self.ring(|ring| ring.needs_signal(mem));
        if self.resting {
            // It is told once the ring is mapped again.
            return;
        }
        self.pushed = false;
        // A driver whose ring broke meanwhile is told, too.
        if wanted.unwrap_or(true) {
            self.callback.call();
        }
    }

    /// Ends a run: asks the driver to kick, and tells it what was pushed. Says whether it made
    /// something available meanwhile.
    pub fn end_run<M: Memory>(&mut self, mem: &M) -> Again {
        let more = self.asks_for_kicks(mem);
        self.signal(mem);
        if more {
            Again::Yes
        } else {
            Again::No
        }
    }

    /// Whether [`Queue::signal`] has something to tell.
    pub(super) fn wants_signal(&self) -> bool {
        self.pushed
    }

    /// Where the queue is, if somebody said or it was ever started.
    pub(super) fn position(&self) -> Option<Position> {
        match &self.ring {
            Some(ring) => Some(ring.restart()),
            None => self.start,
        }
    }

    /// Puts a stopped queue somewhere. One that runs is stopped.
    pub(super) fn set_position(&mut self, start: Position) {
        self.stop();
        self.start = Some(start);
        self.show();
    }

    /// Sets the addresses of the three areas.
    pub(super) fn set_address(&mut self, desc: u64, driver: u64, device: u64) {
        self.layout = Layout {
            desc,
            driver,
            device,
            num: self.layout.num,
        };
    }

    /// Sets the size.
    pub(super) fn set_num(&mut self, num: u32) {
        self.layout.num = num;
    }

    /// The size.
    pub(super) fn num(&self) -> u32 {
        self.layout.num
    }

    /// Replaces the callback.
    pub(super) fn set_callback(&mut self, callback: Callback) {
        self.callback = callback;
    }

    /// Moves it to address spaces.
    pub(super) fn set_asid(&mut self, asid: u32, ring_asid: u32) {
        self.asid = asid;
        self.ring_asid = ring_asid;
    }

    /// Whether the driver said that it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Starts or stops it, and returns whether it was started by that.
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

    /// Starts the ring where it is, with nothing in flight, if it is time for that: drivers may
    /// say that a queue is ready before they say where it lies, so only a running device looks.
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
            // Nobody looks at the memory yet.
            Err(RingError::Unmapped) => (),
        }
    }

    /// Stops the ring where it is.
    fn stop(&mut self) {
        self.start = self.position();
        self.ring = None;
        self.broken = None;
        self.resting = false;
    }
}
