// SPDX-License-Identifier: GPL-2.0

//! File operations: open, release, write, mmap, and the dispatch of ioctls.
//!
//! C: `vhost_vdpa_fops`, `vhost_vdpa_unlocked_ioctl()`.

use super::{
    device::VhostVdpa,
    uapi::*, //
};
use crate::backend_features;
use core::ops::Deref;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{Full, Relaxed, Release},
        Arc, //
    },
    types::ScopeGuard,
};
use vdpa_bus_driver::{
    chardev::{self, Written},
    doorbell::{DoorbellMaps, Doorbells, Fault, FaultResult, NewVma},
    vhost,
};

/// Open file: vhost core's part and ours. Derefs to both.
#[pin_data]
pub(crate) struct OpenFile {
    #[pin]
    vhost: vhost::Dev<Session>,
    /// The doorbells, and the dummy page that replaces them on removal.
    maps: Arc<DoorbellMaps>,
}

impl Deref for OpenFile {
    type Target = vhost::Dev<Session>;

    fn deref(&self) -> &Self::Target {
        &self.vhost
    }
}

/// The driver's part of an open file.
pub(crate) struct Session {
    node: Arc<VhostVdpa>,
}

impl vhost::Backend for Session {
    #[inline]
    fn kick(&self, idx: u16) {
        if let Ok(ops) = self.node.state.unserialized() {
            if let Some(kicks) = self.node.kicks.get(usize::from(idx)) {
                kicks.count();
            }
            ops.kick_vq(idx);
        }
    }
}

/// Returns true for the error of an unknown ioctl, `ENOIOCTLCMD`. The VFS turns it into `ENOTTY`.
fn is_unknown(e: Error) -> bool {
    e == ENOIOCTLCMD
}

impl chardev::File for OpenFile {
    const MODULE: &'static ThisModule = vdpa_bus_driver::this_module!();

    type Node = VhostVdpa;

    fn open(node: Arc<VhostVdpa>, maps: DoorbellMaps) -> Result<Pin<KBox<Self>>> {
        node.present()?;
        if node.opened.xchg(true, Full) {
            return Err(EBUSY);
        }
        let undo = ScopeGuard::new_with_data(node.clone(), |node| {
            node.opened.store(false, Release);
        });
        let maps = Arc::new(maps, GFP_KERNEL)?;
        let mapping = maps.clone();
        let session = Session { node: node.clone() };
        let vhost = vhost::Dev::new(node.nvqs, Ok::<_, Error>(session));
        let file = KBox::try_pin_init(
            try_pin_init!(Self { vhost <- vhost, maps }? Error),
            GFP_KERNEL,
        )?;
        node.start(mapping)?;
        node.stats.opened();
        undo.dismiss();
        Ok(file)
    }

    fn release(self: Pin<KBox<Self>>) {
        let node = self.node.clone();
        node.close();
        // Ends kick polling, so that no kick of this file reaches the device of the next owner.
        drop(self);
        node.opened.store(false, Release);
    }

    #[inline]
    fn write(self: Pin<&Self>, from: &mut impl Written) -> Result<usize> {
        let acked = self.node.backend_features.load(Relaxed);
        let asids = acked & backend_features::IOTLB_ASID != 0;
        let written = self.node.write(asids, from);
        written.map_err(|e| self.node.error_or_gone(e))
    }

    #[inline]
    fn ioctl(self: Pin<&Self>, cmd: u32, arg: usize) -> Result<isize> {
        let node = &*self.node;
        let user = Arg(arg);
        let done = match cmd {
            VHOST_VDPA_GET_DEVICE_ID => node.get_device_id(user),
            VHOST_VDPA_GET_STATUS => node.get_status(user),
            VHOST_VDPA_SET_STATUS => node.set_status(user),
            VHOST_VDPA_GET_CONFIG => node.get_config(user),
            VHOST_VDPA_SET_CONFIG => node.set_config(user),
            VHOST_GET_FEATURES => node.get_features(user),
            VHOST_SET_FEATURES => node.set_features(user),
            VHOST_VDPA_GET_VRING_NUM => node.get_vring_num(user),
            VHOST_VDPA_GET_GROUP_NUM => node.answer(user, node.ngroups),
            VHOST_VDPA_GET_AS_NUM => node.answer(user, node.nas),
            VHOST_VDPA_GET_VQS_COUNT => node.answer(user, node.nvqs),
            VHOST_SET_LOG_BASE | VHOST_SET_LOG_FD => Err(ENOIOCTLCMD),
            VHOST_VDPA_SET_CONFIG_CALL => node.set_config_call(user),
            VHOST_GET_BACKEND_FEATURES => node.get_backend_features(user),
            VHOST_SET_BACKEND_FEATURES => node.ack_backend_features(user),
            VHOST_VDPA_GET_IOVA_RANGE => node.get_iova_range(user),
            VHOST_VDPA_GET_CONFIG_SIZE => node.get_config_size(user),
            VHOST_VDPA_SUSPEND => node.suspend(),
            VHOST_VDPA_RESUME => node.resume(),
            VHOST_SET_OWNER => self.become_owner(),
            _ => self.other(cmd, arg),
        };
        match done {
            Ok(()) => Ok(0),
            Err(e) => Err(node.error_or_gone(e)),
        }
    }

    fn mmap(self: Pin<&Self>, vma: &NewVma<'_>) -> Result {
        let ops = self.node.state.unserialized()?;
        if vma.size() != PAGE_SIZE || !vma.shared() || vma.readable() {
            return Err(EINVAL);
        }
        if !ops.has_get_vq_notification() {
            return Err(ENOTSUPP);
        }
        let idx = self.node.doorbell_index(vma.pgoff())?;
        // A doorbell must have a page of its own: everything else in the page would be writable
        // too.
        let area = ops.get_vq_notification(idx).ok_or(ENOTSUPP)?;
        if area.addr() & (PAGE_SIZE as u64 - 1) != 0 {
            return Err(EINVAL);
        }
        if area.size() != PAGE_SIZE as u64 {
            return Err(ENOTSUPP);
        }
        Ok(())
    }
}

impl Doorbells for OpenFile {
    fn fault(&self, fault: &Fault) -> FaultResult {
        let node = &self.node;
        let Ok(ops) = node.state.unserialized() else {
            return fault.insert_dummy(&self.maps);
        };
        match node.doorbell_index(fault.pgoff()) {
            Ok(idx) => match ops.get_vq_notification(idx) {
                // Inserted while access is held, so that removal finds and zaps the page.
                Some(area) => fault.insert_device(area),
                None => FaultResult::SIGBUS,
            },
            Err(_) => FaultResult::SIGBUS,
        }
    }
}

/// Ioctls that need vhost core's part of the file.
trait FileIoctls {
    fn become_owner(&self) -> Result;
    fn other(&self, cmd: u32, arg: usize) -> Result;
    fn vring(&self, cmd: u32, arg: usize) -> Result;
}

impl FileIoctls for OpenFile {
    /// Makes the calling process the owner, and binds its address space to the parent, in one step.
    fn become_owner(&self) -> Result {
        self.node.present()?;
        self.set_owner(|| self.node.bind_owner())
    }

    /// Handles ioctls of vhost core, and passes the others on as ioctls of a queue.
    fn other(&self, cmd: u32, arg: usize) -> Result {
        self.node.present()?;
        match self.dev_ioctl(cmd, arg) {
            Err(e) if is_unknown(e) => self.vring(cmd, arg),
            done => done,
        }
    }

    fn vring(&self, cmd: u32, arg: usize) -> Result {
        let node = &*self.node;
        let user = Arg(arg);
        if cmd == VHOST_SET_VRING_NUM {
            // Like in C, this is the only argument that is copied whole before its index is
            // checked.
            let arg = TwoWords::read(user)?;
            return node.set_vring_num(node.queue_index(arg.first)?, arg.second);
        }
        let idx = node.queue_index(user.read::<u32>()?)?;
        match cmd {
            VHOST_SET_VRING_ADDR => node.set_vring_addr(idx, user),
            VHOST_SET_VRING_BASE => node.set_vring_base(idx, user),
            VHOST_GET_VRING_BASE => node.get_vring_base(idx, user),
            VHOST_SET_VRING_CALL => node.set_vring_call(idx, user),
            VHOST_SET_VRING_ERR => node.set_vring_err(idx, user),
            VHOST_VDPA_SET_VRING_ENABLE => node.set_vring_enable(idx, user),
            VHOST_VDPA_GET_VRING_GROUP => node.get_vring_group(idx, user),
            VHOST_VDPA_GET_VRING_DESC_GROUP => node.get_vring_desc_group(idx, user),
            VHOST_VDPA_SET_GROUP_ASID => node.set_group_asid(idx, user),
            VHOST_VDPA_GET_VRING_SIZE => node.get_vring_size(idx, user),
            // VHOST_SET_VRING_KICK, and ioctls that have no effect on a vDPA device.
            _ => self.vring_ioctl(cmd, arg),
        }
    }
}
