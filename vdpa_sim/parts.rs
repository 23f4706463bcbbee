// SPDX-License-Identifier: GPL-2.0

// What a parent in software is put together from. A module's root includes this file.

#[path = "../abstractions/parent.rs"]
mod abstractions;
#[allow(dead_code, reason = "no parent uses all of it")]
mod engine;
#[allow(dead_code, reason = "no parent uses all of it")]
mod faults;
#[allow(dead_code, reason = "no parent uses all of it")]
mod maps;
#[allow(dead_code, unused_imports, reason = "no parent uses all of it")]
#[path = "../parent_ops.rs"]
mod parent_ops;
#[allow(dead_code, reason = "no parent uses all of it")]
mod queue;
#[allow(dead_code, reason = "no parent uses all of it")]
mod ring;
#[macro_use]
mod small;
#[allow(dead_code, reason = "no parent uses all of it")]
mod space;
mod vq_state;
