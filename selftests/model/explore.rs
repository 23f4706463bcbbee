// SPDX-License-Identifier: GPL-2.0

//! Exhaustive exploration: runs every interleaving of a few threads, with every answer to their
//! steps, once for each state.
//!
//! A thread is an `async` block. It yields at each [`Step`], and only there, so everything between
//! two steps is atomic. All that threads share is in the [`World`]; what a thread knows follows
//! from the results of its steps, so the two together are the state. A state that was seen before
//! is not explored again. Futures cannot be copied: to go back, the path is run again from its
//! start.

use crate::world::{Wait, World};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    future::Future,
    hash::{BuildHasherDefault, Hash, Hasher},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Hash of 64 bits: each word is multiplied in, and the two halves of the product are folded.
struct Mix(u64);

impl Default for Mix {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        let wide = u128::from(self.0 ^ n ^ 0xa409_3822_299f_31d0) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (wide as u64) ^ (wide >> 64) as u64;
        self.0 = self.0.rotate_left(23);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Largest number of threads in a scenario.
pub const THREADS: usize = 8;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// State of one run.
struct Shared {
    world: RefCell<World>,
    /// The next step of each thread, and its condition.
    pending: RefCell<[Option<(&'static str, Wait)>; THREADS]>,
    /// A hash of all results that each thread got since its call began.
    known: RefCell<[u64; THREADS]>,
    choice: Cell<u8>,
    log: RefCell<Option<Vec<String>>>,
}

/// Handle of a thread on the run.
#[derive(Clone)]
pub struct Cx {
    /// The number of the thread.
    pub me: usize,
    shared: Rc<Shared>,
}

/// Point at which other threads may run. It yields the answer that was chosen.
struct Step<'a> {
    cx: &'a Cx,
    at: &'static str,
    wait: Wait,
    armed: bool,
}

impl Future for Step<'_> {
    type Output = u8;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
        if self.armed {
            return Poll::Ready(self.cx.shared.choice.get());
        }
        self.armed = true;
        self.cx.shared.pending.borrow_mut()[self.cx.me] = Some((self.at, self.wait));
        Poll::Pending
    }
}

impl Cx {
    /// Lets other threads run until `wait` allows the step. Then calls `f` with the answer that was
    /// chosen.
    pub async fn when<R: Hash>(
        &self,
        at: &'static str,
        wait: Wait,
        f: impl FnOnce(&mut World, u8) -> R,
    ) -> R {
        let step = Step {
            cx: self,
            at,
            wait,
            armed: false,
        };
        let choice = step.await;
        self.now(|w| f(w, choice))
    }

    /// Lets other threads run, then calls `f`.
    pub async fn at<R: Hash>(&self, at: &'static str, f: impl FnOnce(&mut World) -> R) -> R {
        self.when(at, Wait::Free, |w, _| f(w)).await
    }

    /// Calls `f` in the current step.
    pub fn now<R: Hash>(&self, f: impl FnOnce(&mut World) -> R) -> R {
        let told = f(&mut self.shared.world.borrow_mut());
        let known = &mut self.shared.known.borrow_mut()[self.me];
        let mut hasher = Mix::default();
        (*known, &told).hash(&mut hasher);
        *known = hasher.finish();
        told
    }

    /// Clears the results that the thread got: call number `call` of its program begins.
    pub fn forget(&self, call: usize) {
        self.shared.known.borrow_mut()[self.me] = call as u64 + 1;
    }

    /// Adds text to the current step, if steps are logged.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut *self.shared.log.borrow_mut() {
            if let Some(last) = log.last_mut() {
                last.push_str("  -- ");
                last.push_str(&text());
            }
        }
    }
}

/// Threads that run together, from a state on.
pub struct Scenario<'a> {
    /// The initial state.
    pub start: &'a World,
    /// The names of the threads.
    pub names: &'a [&'static str],
    /// Creates the threads.
    pub spawn: &'a dyn Fn(&[Cx]) -> Vec<Task>,
}

/// Run of a scenario.
struct Run {
    shared: Rc<Shared>,
    tasks: Vec<Option<Task>>,
}

impl Run {
    fn new(scenario: &Scenario<'_>, log: bool) -> Self {
        let shared = Rc::new(Shared {
            world: RefCell::new(scenario.start.clone()),
            pending: RefCell::new([None; THREADS]),
            known: RefCell::new([0; THREADS]),
            choice: Cell::new(0),
            log: RefCell::new(log.then(Vec::new)),
        });
        let cxs: Vec<Cx> = (0..scenario.names.len())
            .map(|me| Cx {
                me,
                shared: shared.clone(),
            })
            .collect();
        let tasks = (scenario.spawn)(&cxs);
        let mut run = Self {
            shared,
            tasks: tasks.into_iter().map(Some).collect(),
        };
        for me in 0..run.tasks.len() {
            run.poll(me);
        }
        run
    }

    fn poll(&mut self, me: usize) {
        let Some(task) = &mut self.tasks[me] else {
            return;
        };
        self.shared.pending.borrow_mut()[me] = None;
        let mut context = Context::from_waker(Waker::noop());
        if task.as_mut().poll(&mut context).is_ready() {
            self.tasks[me] = None;
            self.shared.known.borrow_mut()[me] = 0;
            self.shared.world.borrow_mut().ended |= 1 << me;
        }
    }

    /// Takes the next step of a thread.
    fn take(&mut self, scenario: &Scenario<'_>, (me, choice): (u8, u8)) {
        let me = usize::from(me);
        if let Some(log) = &mut *self.shared.log.borrow_mut() {
            if let Some((at, _)) = self.shared.pending.borrow()[me] {
                log.push(format!("{:<10} {at}", scenario.names[me]));
            }
        }
        self.shared.choice.set(choice);
        self.poll(me);
    }

    /// Returns the steps that can be taken: threads and answers.
    fn options(&self) -> Vec<(u8, u8)> {
        let world = self.shared.world.borrow();
        let mut options = Vec::new();
        for (me, pending) in self.shared.pending.borrow().iter().enumerate() {
            if let Some((_, wait)) = pending {
                let n = world.answers(me, *wait);
                options.extend((0..n).map(|choice| (me as u8, choice)));
            }
        }
        options
    }

    fn key(&self) -> u64 {
        let mut hasher = Mix::default();
        self.shared.world.borrow().hash(&mut hasher);
        self.shared.known.borrow().hash(&mut hasher);
        hasher.finish()
    }

    /// Returns the invariant that does not hold, if any. `last` says that no step can be taken.
    fn bad(&self, last: bool) -> Option<String> {
        let mut world = self.shared.world.borrow_mut();
        world.check();
        if last && world.bad.is_none() {
            let pending = self.shared.pending.borrow();
            let waiting = |me: usize| pending[me].is_some();
            world.check_end(&waiting);
        }
        world.bad.map(str::to_owned)
    }
}

/// Size of an exploration.
#[derive(Clone, Copy, Default)]
pub struct Size {
    pub states: u64,
    pub steps: u64,
    pub ends: u64,
}

impl Size {
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.steps += other.steps;
        self.ends += other.ends;
    }
}

/// Invariant that does not hold, with the steps that led there.
pub struct Violation {
    pub what: String,
    pub steps: Vec<String>,
}

/// State on the path, with the steps that can be taken and the one that was taken.
struct Frame {
    options: Vec<(u8, u8)>,
    taken: usize,
}

/// Explores every state.
pub fn explore(scenario: &Scenario<'_>) -> Result<Size, Violation> {
    let mut seen: HashSet<u64, BuildHasherDefault<Mix>> = HashSet::default();
    let mut size = Size::default();
    let mut path: Vec<Frame> = Vec::new();
    loop {
        let mut run = Run::new(scenario, false);
        // The states that this leads through were checked before.
        for frame in &path {
            run.take(scenario, frame.options[frame.taken]);
        }
        loop {
            if let Some(what) = run.bad(false) {
                return Err(violation(scenario, what, &path));
            }
            size.steps += 1;
            if !seen.insert(run.key()) {
                break;
            }
            let options = run.options();
            let Some(first) = options.first().copied() else {
                if let Some(what) = run.bad(true) {
                    return Err(violation(scenario, what, &path));
                }
                size.ends += 1;
                break;
            };
            path.push(Frame { options, taken: 0 });
            run.take(scenario, first);
        }
        loop {
            let Some(frame) = path.last_mut() else {
                size.states = seen.len() as u64;
                return Ok(size);
            };
            frame.taken += 1;
            if frame.taken < frame.options.len() {
                break;
            }
            path.pop();
        }
    }
}

fn violation(scenario: &Scenario<'_>, what: String, path: &[Frame]) -> Violation {
    let mut run = Run::new(scenario, true);
    for frame in path {
        run.take(scenario, frame.options[frame.taken]);
    }
    let mut steps = run.shared.log.borrow_mut().take().unwrap_or_default();
    for (me, pending) in run.shared.pending.borrow().iter().enumerate() {
        if let Some((at, wait)) = pending {
            steps.push(format!(
                "{:<10} {at}  -- not done: {wait:?}",
                scenario.names[me]
            ));
        }
    }
    Violation { what, steps }
}

/// Runs one thread alone, without refusals, and returns the final state.
pub fn alone(start: &World, spawn: &dyn Fn(&[Cx]) -> Vec<Task>) -> Result<World, String> {
    let scenario = Scenario {
        start,
        names: &["setup"],
        spawn,
    };
    let mut run = Run::new(&scenario, false);
    while let Some(&first) = run.options().first() {
        run.take(&scenario, first);
        if let Some(what) = run.bad(false) {
            return Err(what);
        }
    }
    if run.tasks[0].is_some() {
        return Err("the set-up waits for ever".to_owned());
    }
    let mut world = run.shared.world.borrow().clone();
    world.ended = 0;
    Ok(world)
}
