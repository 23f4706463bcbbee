// SPDX-License-Identifier: GPL-2.0

//! One function per ioctl.
//!
//! The order of checks is part of the ABI and is that of C. Arguments are copied from userspace
//! before [`VhostVdpa::state`] is taken, and results after it was dropped. Each argument is copied
//! once, but for the index of a queue, of which only the first copy is used. No check comes after a change.
//!
//! C: `vhost_vdpa_unlocked_ioctl()`, `vhost_vdpa_vring_ioctl()`.

use super::{
    device::{State, VhostVdpa},
    uapi::*, //
};
use crate::backend_features::Capabilities;
use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};
use vdpa_bus_driver::{
    eventfd::{EventFd, Source},
    gup,
    irqbypass::Producer,
    trace,
    vdpa::{self, Device, VqState},
};

/// Returns true if the driver set `DRIVER_OK`.
fn driver_ok(dev: &Device) -> bool {
    dev.get_status() & VIRTIO_CONFIG_S_DRIVER_OK != 0
}

impl State {
    /// Returns true if queues are running, so that the device uses their addresses and state.
    fn running(&self, dev: &Device) -> bool {
        driver_ok(dev) && !self.suspended
    }
}

impl VhostVdpa {
    /// Returns `ENODEV` once the device is gone. For calls that vhost core handles without the
    /// device.
    pub(super) fn present(&self) -> Result {
        self.state.is_accessible().then_some(()).ok_or(ENODEV)
    }

    /// Returns `ENODEV` once the device is gone, otherwise `e`: every call on the file of a removed
    /// device fails with `ENODEV`.
    pub(super) fn error_or_gone(&self, e: Error) -> Error {
        self.present().err().unwrap_or(e)
    }

    /// Writes a constant number to userspace.
    pub(super) fn answer(&self, user: Arg, number: u32) -> Result {
        self.present()?;
        user.write(&number)
    }

    /// Checks a queue index from userspace, and clamps it. `ENOBUFS` if there is no such queue.
    pub(super) fn queue_index(&self, idx: u32) -> Result<u16> {
        if idx >= self.nvqs {
            return Err(enobufs());
        }
        Ok(vdpa::clamp_index(idx, self.nvqs) as u16)
    }

    /// Checks the page offset of a doorbell map, which is a queue index. `EINVAL` if there is no
    /// such queue.
    pub(super) fn doorbell_index(&self, pgoff: u64) -> Result<u16> {
        let idx = u32::try_from(pgoff)?;
        self.queue_index(idx).map_err(|_| EINVAL)
    }

    pub(super) fn get_device_id(&self, user: Arg) -> Result {
        let id = self.ask(Device::get_device_id)?;
        user.write(&id)
    }

    pub(super) fn get_status(&self, user: Arg) -> Result {
        let status = self.ask(Device::get_status)?;
        user.write(&status)
    }

    /// Sets the device status, or resets the device if it is 0. `EINVAL` if single bits are
    /// cleared.
    pub(super) fn set_status(&self, user: Arg) -> Result {
        let status = user.read::<u8>()?;
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        let old = dev.get_status();
        if status != 0 && old & !status != 0 {
            return Err(EINVAL);
        }
        let starts = status & !old & VIRTIO_CONFIG_S_DRIVER_OK != 0;
        let stops = old & !status & VIRTIO_CONFIG_S_DRIVER_OK != 0;
        if stops || status == 0 {
            for producer in &mut state.producers {
                *producer = None;
            }
        }
        let done = if status == 0 {
            self.reset(state, &dev)
        } else {
            self.clear_identity_map(state, &dev)
                .map(|()| dev.set_status(status))
        };
        if starts && done.is_ok() {
            state.suspended = false;
        }
        if stops && done.is_err() {
            // The device decides if it still runs.
            state.suspended &= driver_ok(&dev);
        }
        // A parent may refuse to start, and tells so only in the status.
        if ((starts && done.is_ok()) || (stops && done.is_err())) && driver_ok(&dev) {
            for idx in 0..self.nvqs {
                self.offer_irq(state, &dev, idx as u16);
            }
        }
        done
    }

    /// Offers a queue's interrupt for bypass, if the queue has an eventfd and an interrupt.
    fn offer_irq(&self, state: &mut State, dev: &Device, idx: u16) {
        let (Some(call), Some(place)) = (
            self.calls.get(Source::Queue(idx)),
            state.producers.get_mut(usize::from(idx)),
        ) else {
            return;
        };
        *place = None;
        if !call.is_set() {
            return;
        }
        if let Some(irq) = dev.get_vq_irq(idx) {
            // Without bypass, interrupts go through the eventfd.
            *place = Producer::register(call, irq).ok();
        }
    }

    /// Checks a config access. `EINVAL` if it is empty or ends beyond the config space.
    fn check_config(&self, header: &TwoWords) -> Result {
        let size = self.ask(Device::get_config_size)?;
        let (off, len) = (header.first as usize, header.second as usize);
        if len == 0 || off > size || len > size.wrapping_sub(off) {
            return Err(EINVAL);
        }
        Ok(())
    }

    pub(super) fn get_config(&self, user: Arg) -> Result {
        let header = TwoWords::read(user)?;
        self.check_config(&header)?;
        let len = header.second as usize;
        let mut buf = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
        self.ask(|dev| dev.get_config(header.first, &mut buf))?;
        kernel::uaccess::UserSlice::new(user.after(8), len)
            .writer()
            .write_slice(&buf)
    }

    pub(super) fn set_config(&self, user: Arg) -> Result {
        let header = TwoWords::read(user)?;
        self.check_config(&header)?;
        let len = header.second as usize;
        let mut buf = KVVec::with_capacity(len, GFP_KERNEL)?;
        kernel::uaccess::UserSlice::new(user.after(8), len).read_all(&mut buf, GFP_KERNEL)?;
        self.ask(|dev| dev.set_config(header.first, &buf))
    }

    pub(super) fn get_features(&self, user: Arg) -> Result {
        let features = self.ask(Device::get_device_features)?;
        user.write(&features)
    }

    /// Negotiates virtio features. `EBUSY` after `FEATURES_OK`, `EINVAL` if the parent refuses.
    pub(super) fn set_features(&self, user: Arg) -> Result {
        let agreed = |status: u8| status & VIRTIO_CONFIG_S_FEATURES_OK != 0;
        if agreed(self.ask(Device::get_status)?) {
            return Err(EBUSY);
        }
        let features = user.read::<u64>()?;
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if agreed(dev.get_status()) {
            return Err(EBUSY);
        }
        dev.set_features(features).map_err(|e| {
            self.told.features(self.minor, features, e);
            EINVAL
        })?;
        state.features = dev.get_driver_features();
        Ok(())
    }

    pub(super) fn get_vring_num(&self, user: Arg) -> Result {
        let num = self.ask(Device::get_vq_num_max)?;
        user.write(&num)
    }

    pub(super) fn set_config_call(&self, user: Arg) -> Result {
        let ctx = EventFd::from_user(user.read::<i32>()?)?;
        let mut locked = self.state.lock();
        let (_state, dev) = locked.try_access()?;
        let running = driver_ok(&dev);
        self.calls.install(&dev, Source::Config, ctx, running)
    }

    pub(super) fn get_backend_features(&self, user: Arg) -> Result {
        let features = self.ask(Capabilities::of)?.offered();
        user.write(&features)
    }

    /// Acks backend features. They are written as one word under the lock, so features that were
    /// acked together are seen together. Vhost core has no copy: no part of it that is used here
    /// reads one.
    pub(super) fn ack_backend_features(&self, user: Arg) -> Result {
        let features = user.read::<u64>()?;
        let mut locked = self.state.lock();
        let (_state, dev) = locked.try_access()?;
        let caps = Capabilities::of(&dev);
        let checked = caps.check(features);
        trace::backend_features(self.minor, caps.offered(), features, &checked);
        checked?;
        self.backend_features.store(features, Relaxed);
        Ok(())
    }

    pub(super) fn get_iova_range(&self, user: Arg) -> Result {
        self.present()?;
        let range = self.state.lock().range;
        user.write(&[range.first, range.last])
    }

    pub(super) fn get_config_size(&self, user: Arg) -> Result {
        let size = self.ask(Device::get_config_size)? as u32;
        user.write(&size)
    }

    /// Suspends a device. Does nothing without `DRIVER_OK`.
    pub(super) fn suspend(&self) -> Result {
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if !driver_ok(&dev) {
            return Ok(());
        }
        dev.suspend()?;
        state.suspended = true;
        Ok(())
    }

    /// Resumes a device. Does nothing without `DRIVER_OK`.
    pub(super) fn resume(&self) -> Result {
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if !driver_ok(&dev) {
            return Ok(());
        }
        dev.resume()?;
        state.suspended = false;
        Ok(())
    }

    /// Binds the owner's address space, for `VHOST_SET_OWNER`. Like in C, a failure clears the
    /// acked backend features.
    pub(super) fn bind_owner(&self) -> Result {
        let mm = gup::current_mm().ok_or(EPERM)?;
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if let Err(e) = dev.bind_mm(&mm) {
            self.backend_features.store(0, Relaxed);
            return Err(e);
        }
        state.mm_bound = true;
        state.owner = Some(mm);
        Ok(())
    }

    /// Sets the size of a queue. `EBUSY` while it runs (C changes it), `EINVAL` if it is not a
    /// power of two or more than the device's maximum.
    pub(super) fn set_vring_num(&self, idx: u16, num: u32) -> Result {
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if state.running(&dev) {
            return Err(EBUSY);
        }
        if !num.is_power_of_two() || num > u32::from(state.vq_num_max) {
            return Err(EINVAL);
        }
        dev.set_vq_num(idx, num);
        Ok(())
    }

    /// Sets the addresses of a queue's areas, which are IOVAs. `EOPNOTSUPP` for unknown flags,
    /// `EINVAL` if an address is misaligned, while the queue runs, or if the parent refuses.
    pub(super) fn set_vring_addr(&self, idx: u16, user: Arg) -> Result {
        let addr = VringAddr::read(user)?;
        if addr.flags & !VHOST_VRING_F_LOG != 0 {
            return Err(eopnotsupp());
        }
        if addr.avail & 1 != 0 || addr.used & 3 != 0 || addr.log & 3 != 0 {
            return Err(EINVAL);
        }
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if state.running(&dev) {
            return Err(EINVAL);
        }
        dev.set_vq_address(idx, addr.desc, addr.avail, addr.used)
            .map_err(|_| EINVAL)
    }

    /// Sets the state from which a queue continues. `EINVAL` while it runs, or if the index of a
    /// split queue has more than 16 bits.
    pub(super) fn set_vring_base(&self, idx: u16, user: Arg) -> Result {
        let num = TwoWords::read(user)?.second;
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        let to = if state.features & VIRTIO_F_RING_PACKED != 0 {
            VqState::Packed {
                avail: num as u16,
                used: (num >> 16) as u16,
            }
        } else {
            VqState::Split(u16::try_from(num)?)
        };
        if state.running(&dev) {
            return Err(EINVAL);
        }
        dev.set_vq_state(idx, to)
    }

    /// Gets the state of a queue.
    pub(super) fn get_vring_base(&self, idx: u16, user: Arg) -> Result {
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        let packed = state.features & VIRTIO_F_RING_PACKED != 0;
        let num = match dev.get_vq_state(idx, packed)? {
            VqState::Split(avail) => u32::from(avail),
            VqState::Packed { avail, used } => u32::from(avail) | u32::from(used) << 16,
        };
        drop(dev);
        drop(locked);
        user.write(&[u32::from(idx), num])
    }

    /// Sets the eventfd that is signalled for used buffers.
    pub(super) fn set_vring_call(&self, idx: u16, user: Arg) -> Result {
        let ctx = EventFd::from_user(TwoWords::read(user)?.second as i32)?;
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if self.calls.get(Source::Queue(idx)).is_none() {
            return Err(enobufs());
        }
        // The producer's token is the old eventfd, so the producer goes first.
        if let Some(producer) = state.producers.get_mut(usize::from(idx)) {
            *producer = None;
        }
        let running = driver_ok(&dev);
        self.calls.install(&dev, Source::Queue(idx), ctx, running)?;
        if running {
            self.offer_irq(state, &dev, idx);
        }
        Ok(())
    }

    /// Sets the eventfd that is signalled for errors. The only error is removal of the device.
    pub(super) fn set_vring_err(&self, idx: u16, user: Arg) -> Result {
        let ctx = EventFd::from_user(TwoWords::read(user)?.second as i32)?;
        let mut locked = self.state.lock();
        let (state, _dev) = locked.try_access()?;
        let place = state.errors.get_mut(usize::from(idx)).ok_or(enobufs())?;
        let old = core::mem::replace(place, ctx);
        drop(old);
        Ok(())
    }

    pub(super) fn set_vring_enable(&self, idx: u16, user: Arg) -> Result {
        let ready = TwoWords::read(user)?.second != 0;
        let mut locked = self.state.lock();
        let (_state, dev) = locked.try_access()?;
        dev.set_vq_ready(idx, ready);
        Ok(())
    }

    /// Writes the group of a queue to userspace. `EOPNOTSUPP` if the parent has no groups, `EIO` if
    /// the group does not exist.
    fn answer_group(&self, idx: u16, group: Option<u32>, user: Arg) -> Result {
        let group = group.ok_or(eopnotsupp())?;
        if group >= self.ngroups {
            return Err(EIO);
        }
        user.write(&[u32::from(idx), group])
    }

    pub(super) fn get_vring_group(&self, idx: u16, user: Arg) -> Result {
        let group = self.ask(|dev| dev.get_vq_group(idx))?;
        self.answer_group(idx, group, user)
    }

    pub(super) fn get_vring_desc_group(&self, idx: u16, user: Arg) -> Result {
        let group = self.ask(|dev| dev.get_vq_desc_group(idx))?;
        self.answer_group(idx, group, user)
    }

    /// Moves a group to an address space. `EINVAL` if either does not exist, `EBUSY` after
    /// `DRIVER_OK`, `EOPNOTSUPP` if the parent lacks the op.
    pub(super) fn set_group_asid(&self, group: u16, user: Arg) -> Result {
        let asid = TwoWords::read(user)?.second;
        let group = u32::from(group);
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if group >= self.ngroups || asid >= self.nas {
            return Err(EINVAL);
        }
        if driver_ok(&dev) {
            return Err(EBUSY);
        }
        if !dev.has_set_group_asid() {
            return Err(eopnotsupp());
        }
        // The group must find only what this file mapped in the space.
        state.empty_space(&dev, asid)?;
        let Some(moved) = state.moved.get_mut(group as usize) else {
            return Err(EINVAL);
        };
        *moved = true;
        dev.set_group_asid(group, asid)?;
        *moved = asid != 0;
        Ok(())
    }

    pub(super) fn get_vring_size(&self, idx: u16, user: Arg) -> Result {
        let size = self.ask(|dev| dev.get_vq_size(idx))?.ok_or(eopnotsupp())?;
        user.write(&[u32::from(idx), u32::from(size)])
    }
}
