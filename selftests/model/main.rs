// SPDX-License-Identifier: GPL-2.0

//! A model of the driver's state and locks, which is explored exhaustively: every interleaving of
//! two threads of userspace and a removal, with every answer of the parent.
//!
//! `world.rs` has what is shared and the invariants, `driver.rs` the steps, `explore.rs` the search.
//! See Documentation/testing.rst. Built and run by tools/suites/model/model.sh.

#![forbid(unsafe_code)]

mod driver;
mod explore;
mod world;

use driver::{thread, Call, User};
use explore::{alone, explore, Cx, Scenario, Size, Violation};
use std::{process::ExitCode, time::Instant};
use world::{Kind, Mutant, World, KINDS, MUTANTS};

/// All calls that a program may make.
const CALLS: [Call; 14] = [
    Call::SetOwner,
    Call::Ack,
    Call::SetKick,
    Call::SetCall,
    Call::ClearCall,
    Call::GetStatus,
    Call::Start,
    Call::Reset,
    Call::Update(2),
    Call::InvalidateAll,
    Call::BatchBegin,
    Call::BatchEnd,
    Call::SetGroup,
    Call::Close,
];

/// Calls that bring the first file to the state in which programs begin.
struct Setup {
    name: &'static str,
    calls: &'static [Call],
}

const SETUPS: [Setup; 4] = [
    Setup {
        name: "opened",
        calls: &[],
    },
    Setup {
        name: "owned",
        calls: &[Call::SetOwner],
    },
    Setup {
        name: "running",
        calls: &[
            Call::SetOwner,
            Call::SetKick,
            Call::SetCall,
            Call::Update(1),
            Call::Start,
        ],
    },
    Setup {
        name: "in a batch",
        calls: &[
            Call::SetOwner,
            Call::Update(2),
            Call::Start,
            Call::BatchBegin,
            Call::InvalidateAll,
        ],
    },
];

const NAMES: [&str; 8] = [
    "A",
    "B",
    "removal",
    "kick",
    "fault",
    "interrupt",
    "opener",
    "epilogue",
];

/// Programs and threads that run together.
#[derive(Clone, Default)]
struct Case {
    a: Vec<Call>,
    b: Vec<Call>,
    /// The threads in addition to the two, by number.
    beside: Vec<usize>,
    refusals: u8,
    stalls: u8,
    parent_stalls: u8,
}

async fn program(cx: Cx, who: u8, calls: Vec<Call>) {
    for (number, call) in calls.into_iter().enumerate() {
        cx.forget(number);
        let user = User {
            cx: &cx,
            who,
            call: number as u8,
            file: 0,
        };
        let _ = driver::run(&user, call).await;
    }
    cx.forget(0);
}

/// Returns the state after a set-up.
fn prepare(kind: Kind, mutant: Mutant, setup: &Setup) -> Result<World, String> {
    let world = World::new(kind, mutant);
    let calls = setup.calls;
    alone(&world, &|cxs| {
        let cx = cxs[0].clone();
        vec![Box::pin(async move {
            if driver::open_first(&cx).await.is_err() {
                cx.now(|w| w.fault("the first open fails"));
                return;
            }
            program(cx, 2, calls.to_vec()).await;
        })]
    })
}

fn run_case(start: &World, case: &Case) -> Result<Size, Violation> {
    let mut start = start.clone();
    start.refusals = case.refusals;
    start.stalls = case.stalls;
    start.parent_stalls = case.parent_stalls;
    if case.beside.contains(&thread::FAULT) {
        // The map.
        start.refs += 1;
    }
    let spawn = |cxs: &[Cx]| {
        let mut tasks: Vec<std::pin::Pin<Box<dyn std::future::Future<Output = ()>>>> = Vec::new();
        for (number, cx) in cxs.iter().cloned().enumerate() {
            let there = case.beside.contains(&number);
            let (a, b) = (case.a.clone(), case.b.clone());
            tasks.push(Box::pin(async move {
                match number {
                    0 => program(cx, 0, a).await,
                    1 => program(cx, 1, b).await,
                    thread::EPILOGUE => driver::epilogue(&cx).await,
                    _ if !there => (),
                    thread::REMOVAL => driver::remove(&cx).await,
                    thread::KICK => driver::kick(&cx).await,
                    thread::FAULT => driver::fault(&cx).await,
                    thread::INTERRUPT => driver::interrupt(&cx).await,
                    _ => {
                        let opened = driver::open(&cx, 1).await;
                        cx.note(|| format!("open returns {opened:?}"));
                    }
                }
            }));
        }
        tasks
    };
    explore(&Scenario {
        start: &start,
        names: &NAMES,
        spawn: &spawn,
    })
}

/// Family of cases.
struct Family {
    name: &'static str,
    cases: fn() -> Vec<Case>,
}

/// Returns all programs of `len` calls.
fn programs(len: usize) -> Vec<Vec<Call>> {
    let mut programs = vec![Vec::new()];
    for _ in 0..len {
        programs = programs
            .iter()
            .flat_map(|program| {
                CALLS.iter().map(move |call| {
                    let mut program = program.clone();
                    program.push(*call);
                    program
                })
            })
            .collect();
    }
    programs
}

/// Returns all pairs of calls. The two threads are alike, so the order of a pair does not matter.
fn pairs() -> Vec<(Call, Call)> {
    let mut pairs = Vec::new();
    for (i, a) in CALLS.iter().enumerate() {
        pairs.extend(CALLS[i..].iter().map(|b| (*a, *b)));
    }
    pairs
}

fn two_and_removal() -> Vec<Case> {
    pairs()
        .into_iter()
        .map(|(a, b)| Case {
            a: vec![a],
            b: vec![b],
            beside: vec![thread::REMOVAL],
            refusals: 1,
            ..Case::default()
        })
        .collect()
}

fn longer_and_removal() -> Vec<Case> {
    let mut programs = Vec::new();
    for call in CALLS {
        programs.extend([
            vec![Call::Reset, call],
            vec![call, Call::Start],
            vec![Call::BatchBegin, call],
        ]);
    }
    programs
        .into_iter()
        .map(|a| Case {
            a,
            b: vec![Call::Close],
            beside: vec![thread::REMOVAL],
            ..Case::default()
        })
        .collect()
}

fn refusals() -> Vec<Case> {
    programs(3)
        .into_iter()
        .map(|mut a| {
            a.push(Call::Close);
            Case {
                a,
                refusals: 2,
                ..Case::default()
            }
        })
        .collect()
}

fn beside_others() -> Vec<Case> {
    let mut cases = Vec::new();
    for call in CALLS {
        for other in [
            thread::KICK,
            thread::FAULT,
            thread::INTERRUPT,
            thread::OPENER,
        ] {
            cases.push(Case {
                a: vec![call],
                b: vec![Call::Close],
                beside: vec![thread::REMOVAL, other],
                ..Case::default()
            });
        }
        cases.push(Case {
            a: vec![call],
            b: vec![Call::Close],
            beside: vec![thread::KICK, thread::OPENER],
            ..Case::default()
        });
    }
    // Calls that can conflict with a kick.
    for (a, b) in [
        (Call::SetOwner, Call::SetKick),
        (Call::SetKick, Call::SetKick),
        (Call::SetKick, Call::Start),
    ] {
        cases.push(Case {
            a: vec![a, Call::Close],
            b: vec![b],
            beside: vec![thread::REMOVAL, thread::KICK],
            ..Case::default()
        });
    }
    cases
}

fn stalls() -> Vec<Case> {
    let mut cases = Vec::new();
    for (a, b) in pairs() {
        cases.push(Case {
            a: vec![a],
            b: vec![b],
            beside: vec![thread::REMOVAL],
            stalls: 1,
            ..Case::default()
        });
    }
    for call in CALLS {
        for other in [
            thread::KICK,
            thread::FAULT,
            thread::INTERRUPT,
            thread::OPENER,
        ] {
            cases.push(Case {
                a: vec![call],
                beside: vec![thread::REMOVAL, other],
                stalls: 1,
                parent_stalls: 1,
                ..Case::default()
            });
        }
    }
    cases
}

const FAMILIES: [Family; 5] = [
    Family {
        name: "two threads and a removal",
        cases: two_and_removal,
    },
    Family {
        name: "a longer program, another thread and a removal",
        cases: longer_and_removal,
    },
    Family {
        name: "one thread, and a parent that refuses",
        cases: refusals,
    },
    Family {
        name: "kicks, faults, callbacks and another open",
        cases: beside_others,
    },
    Family {
        name: "userspace or a parent that never goes on",
        cases: stalls,
    },
];

/// Returns true if a case can show something on a parent that it shows on no other.
fn concerns(kind: &Kind, case: &Case) -> bool {
    case.a.iter().chain(&case.b).all(|call| match call {
        Call::Ack => kind.default_map,
        Call::SetGroup => kind.nas > 1,
        Call::SetKick | Call::SetCall | Call::ClearCall | Call::GetStatus => {
            *kind == KINDS[0] || kind.use_va
        }
        _ => true,
    })
}

/// Violation, with the case that was run.
struct Found {
    what: String,
    violation: Violation,
}

/// Explores a family. Stops at the first violation.
fn run_family(family: &Family, mutant: Mutant) -> Result<(usize, Size), Box<Found>> {
    let mut sum = Size::default();
    let cases = (family.cases)();
    let mut n = 0;
    for kind in KINDS {
        for setup in &SETUPS {
            let found = |what: String, violation| {
                Box::new(Found {
                    what: format!("{}; {}; {what}", kind.name, setup.name),
                    violation,
                })
            };
            let start = prepare(kind, mutant, setup).map_err(|what| {
                let steps = Vec::new();
                found("the set-up".to_owned(), Violation { what, steps })
            })?;
            for case in cases.iter().filter(|case| concerns(&kind, case)) {
                let size = run_case(&start, case).map_err(|violation| {
                    found(format!("A: {:?}, B: {:?}", case.a, case.b), violation)
                })?;
                sum.add(size);
                n += 1;
            }
        }
    }
    Ok((n, sum))
}

fn show(found: &Found, prefix: &str) {
    println!("{prefix}{}", found.what);
    println!("{prefix}violated: {}", found.violation.what);
    for step in &found.violation.steps {
        println!("{prefix}  {step}");
    }
}

/// Explores the driver without a fault.
fn run_driver(only: Option<usize>) -> bool {
    let mut good = true;
    for (number, family) in FAMILIES.iter().enumerate() {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let began = Instant::now();
        match run_family(family, Mutant::None) {
            Ok((n, size)) => println!(
                "ok - {}: {n} cases, {} states, {} steps, {} ends; {} ms",
                family.name,
                size.states,
                size.steps,
                size.ends,
                began.elapsed().as_millis()
            ),
            Err(found) => {
                println!("not ok - {}", family.name);
                show(&found, "# ");
                good = false;
            }
        }
    }
    good
}

/// Checks that each fault that is put in on purpose is found.
fn run_mutants(only: Option<&str>) -> bool {
    let mut good = true;
    for (mutant, family) in MUTANTS {
        let name = format!("{mutant:?}");
        if only.is_some_and(|only| only != name) {
            continue;
        }
        match run_family(&FAMILIES[family], mutant).err() {
            Some(found) => {
                println!("ok - {name} is found: {}", found.violation.what);
                if only.is_some() {
                    show(&found, "# ");
                }
            }
            None => {
                println!("not ok - {name} is not found");
                good = false;
            }
        }
    }
    good
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let good = match args[..] {
        [] => run_driver(None) & run_mutants(None),
        ["driver"] => run_driver(None),
        ["family", n] => run_driver(n.parse().ok()),
        ["mutants"] => run_mutants(None),
        ["mutant", name] => run_mutants(Some(name)),
        _ => {
            eprintln!("usage: model [driver | family N | mutants | mutant NAME]");
            return ExitCode::from(2);
        }
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
