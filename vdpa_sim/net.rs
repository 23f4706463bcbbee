// SPDX-License-Identifier: GPL-2.0
//! test
use kernel::prelude::*;
#[path = "../abstractions/bindings.rs"]
mod bindings;
#[path = "../abstractions/iotlb.rs"]
mod iotlb;
#[path = "../abstractions/irqlock.rs"]
mod irqlock;
module! { type: M, name: "rust_vdpa_sim_net", authors: ["x"], description: "x", license: "GPL v2", }
struct M;
impl kernel::Module for M { fn init(_m: &'static ThisModule) -> Result<Self> { Ok(M) } }
