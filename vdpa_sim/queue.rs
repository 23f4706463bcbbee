// SPDX-License-Identifier: GPL-2.0

//! One queue of a simulated device: what the driver said about it, and its ring while it runs.

use crate::{
    abstractions::worker::Again,
    parent_ops::Callback,
    ring::{Layout, Memory, Position, RingFeatures, RingResult, Token, VirtQueue},
};

/// One queue.
pub(crate) struct Queue {
    layout: Layout,
    /// The largest size.
    max: u16,
    /// Where the ring begins when it is started; where it was when it was stopped. Unless
    /// somebody said, it is where rings of the negotiated kind begin.
    start: Option<Position>,
    /// What the driver said.
    ready: bool,
    /// Whether its ring cannot be used until it is stopped and started again.
    broken: bool,
    /// The ring, while it is started and not broken.
    ring: Option<VirtQueue>,
    callback: Callback,
    /// The address space of the buffers.
    asid: u32,
    /// The address space of the ring.
    ring_asid: u32,
    /// Whether something was pushed that the driver has not been told about.
    pushed: bool,
}

impl Queue {
    /// A queue after a reset, of at most `max` entries.
    pub(super) fn new(max: u16) -> Self {
        Self {
            layout: Layout {
                num: max.into(),
                ..Layout::default()
            },
            max,
            start: None,
            ready: false,
            broken: false,
            ring: None,
            callback: Callback::none(),
            asid: 0,
            ring_asid: 0,
            pushed: false,
        }
    }

    /// The address space that its buffers are in.
    pub(crate) fn asid(&self) -> u32 {
        self.asid
    }

    /// The address space that its ring is in.
    pub(crate) fn ring_asid(&self) -> u32 {
        self.ring_asid
    }

    /// Whether the device may use it: it is started and not broken.
    pub(crate) fn is_active(&self) -> bool {
        self.ring.is_some()
    }

    /// Whether its ring was found to be impossible.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Does something with the ring. An error breaks the queue: it rests until it is stopped and
    /// started again.
    pub(crate) fn ring<R>(&mut self, f: impl FnOnce(&mut VirtQueue) -> RingResult<R>) -> Option<R> {
        match f(self.ring.as_mut()?) {
            Ok(done) => Some(done),
            Err(_) => {
                self.stop();
                self.broken = true;
                None
            }
        }
    }

    /// Gives a chain back, through the memory of the ring. The driver sees it when the run is
    /// over.
    pub(crate) fn push<M: Memory>(&mut self, mem: &M, token: Token, len: u32) {
        if self.ring(|ring| ring.push(mem, token, len)).is_some() {
            self.pushed = true;
        }
    }

    /// Tells the driver what was pushed since the last time, if it wants to know.
    pub(crate) fn signal<M: Memory>(&mut self, mem: &M) {
        if !core::mem::take(&mut self.pushed) {
            return;
        }
        // A driver whose ring broke meanwhile is told, too.
        if self.ring(|ring| ring.needs_signal(mem)).unwrap_or(true) {
            self.callback.call();
        }
    }

    /// Ends a run: asks the driver to kick, and tells it what was pushed. Says whether it made
    /// something available meanwhile.
    pub(crate) fn end_run<M: Memory>(&mut self, mem: &M) -> Again {
        let more = self.ring(|ring| ring.ask_for_kicks(mem));
        self.signal(mem);
        match more {
            Some(true) => Again::Yes,
            _ => Again::No,
        }
    }

    /// Whether [`Queue::signal`] has something to tell.
    pub(super) fn wants_signal(&self) -> bool {
        self.pushed
    }

    /// Where the queue is, if somebody said or it was ever started.
    pub(super) fn position(&self) -> Option<Position> {
        match &self.ring {
            Some(ring) => Some(ring.position()),
            None => self.start,
        }
    }

    /// Puts a stopped queue somewhere. One that runs is stopped.
    pub(super) fn set_position(&mut self, start: Position) {
        self.stop();
        self.start = Some(start);
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
        ready
    }

    /// Starts the ring where it is, with nothing in flight, if it is time for that: drivers may
    /// say that a queue is ready before they say where it lies, so only a running device looks.
    pub(super) fn begin(&mut self, features: RingFeatures) {
        if !self.ready || self.broken || self.ring.is_some() {
            return;
        }
        if self.layout.num <= self.max.into() {
            let start = self.start.unwrap_or(Position::initial(features.packed));
            self.ring = VirtQueue::new(self.layout, features, start).ok();
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
