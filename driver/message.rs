// SPDX-License-Identifier: GPL-2.0

//! IOTLB messages, by which userspace maps its memory for the device.
//!
//! An `UPDATE` pins (or looks up) all of its memory without [`VhostVdpa::state`], and then adds all
//! of it or nothing. A parent that takes whole tables
//! gets one table per message, or one per batch; in a batch also when the pins of removed ranges reach
//! their bound, and an empty one before the first message of an address space that may not be empty.
//! Like in C, userspace gets `EFAULT` for every error of a message that could be read.
//!
//! C: `vhost_chr_write_iter()`, `vhost_vdpa_process_iotlb_msg()`.

use super::{
    debug::Counts,
    device::{State, VhostVdpa},
    uapi::*, //
};
use crate::iotlb::{AddressSpace, Target};
use kernel::{
    mm::Mm,
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
    rbtree::{Entry, RBTreeNodeReservation, VacantEntry},
    sync::{aref::ARef, atomic::Relaxed},
};
use vdpa_bus_driver::{
    chardev::Written,
    gup::{self, Charge},
    mapping::{Mapping, Mappings},
    params, trace, usermap,
    vdpa::Device,
};

const PAGE_MASK: u64 = PAGE_SIZE as u64 - 1;

/// A checked `UPDATE`, in whole pages if the parent takes physical addresses.
///
/// # Invariants
///
/// `iova`, `uaddr` and `size` are page aligned if the parent takes physical addresses. `size` is
/// not 0, and neither range wraps.
struct Update {
    iova: u64,
    last: u64,
    size: u64,
    uaddr: u64,
    perm: u8,
}

impl Update {
    /// Checks a message, and rounds it to whole pages with `whole_pages`.
    ///
    /// Errors: `EINVAL` for an empty or wrapping range, an unknown permission or none, or, with
    /// `whole_pages`, different offsets into the page.
    fn new(msg: &Message, whole_pages: bool) -> Result<Self> {
        if msg.size == 0 || msg.perm == 0 || msg.perm & !VHOST_ACCESS_RW != 0 {
            return Err(EINVAL);
        }
        let last = msg
            .iova
            .checked_add(msg.size.wrapping_sub(1))
            .ok_or(EINVAL)?;
        let ulast = msg
            .uaddr
            .checked_add(msg.size.wrapping_sub(1))
            .ok_or(EINVAL)?;
        let (iova, last, uaddr) = if whole_pages {
            if (msg.iova ^ msg.uaddr) & PAGE_MASK != 0 || ulast == u64::MAX {
                return Err(EINVAL);
            }
            (
                msg.iova & !PAGE_MASK,
                last | PAGE_MASK,
                msg.uaddr & !PAGE_MASK,
            )
        } else {
            (msg.iova, last, msg.uaddr)
        };
        // Only the whole 64-bit space has no size.
        let size = last.wrapping_sub(iova).checked_add(1).ok_or(EINVAL)?;
        Ok(Self {
            iova,
            last,
            size,
            uaddr,
            perm: msg.perm,
        })
    }
}

impl State {
    /// Returns `EPERM` unless the caller is the owner, who alone may map memory.
    fn check_owner(&self) -> Result {
        let owns = self.owner.as_ref().is_some_and(|mm| gup::is_current_mm(mm));
        owns.then_some(()).ok_or(EPERM)
    }

    /// Makes the checks that every message begins with: the owner, the address space, the batch.
    ///
    /// Creates address space `asid` if it does not exist and `asid < create`; then the device's maps of
    /// it are emptied first, unless they are known to be.
    #[inline]
    fn enter_space<'a>(&'a mut self, dev: &'a Device, asid: u32, create: u32) -> Result<Work<'a>> {
        self.check_owner()?;
        if asid < create && self.spaces.get(&asid).is_none() {
            self.empty_space(dev, asid)?;
        }
        let space = match self.spaces.entry(asid) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => new_space(entry, asid, create)?,
        };
        if self.batch.is_some_and(|batch| batch != asid) {
            return Err(EINVAL);
        }
        Ok(Work {
            space,
            target: Target::new(dev, self.domain.as_ref(), self.range),
            batch: &mut self.batch,
            counts: &mut self.counts,
        })
    }
}

/// Objects that a checked message works on.
struct Work<'a> {
    space: &'a mut AddressSpace,
    /// The device that is told of the maps.
    target: Target<'a>,
    batch: &'a mut Option<u32>,
    counts: &'a mut Counts,
}

/// Creates an address space, for `UPDATE` or `BATCH_BEGIN`.
#[cold]
fn new_space<'a>(
    entry: VacantEntry<'a, u32, AddressSpace>,
    asid: u32,
    nas: u32,
) -> Result<&'a mut AddressSpace> {
    let limit = params::max_iotlb_entries();
    if asid >= nas || limit == 0 {
        return Err(EINVAL);
    }
    let space = AddressSpace::new(asid, limit)?;
    Ok(entry.insert(space, RBTreeNodeReservation::new(GFP_KERNEL)?))
}

impl VhostVdpa {
    /// Handles one message. Returns the number of bytes that were consumed.
    ///
    /// Errors: `EINVAL` if the message is malformed or cannot be read whole, `EFAULT` if handling
    /// it failed.
    #[inline]
    pub(super) fn write(&self, asids: bool, from: &mut impl Written) -> Result<usize> {
        let (asid, msg) = Message::parse(from.words().ok_or(EINVAL)?, asids)?;
        if self.dispatch(asid, &msg).is_err() {
            self.stats.failed_messages.add(1, Relaxed);
            return Err(EFAULT);
        }
        Ok(Message::SIZE)
    }

    #[inline]
    fn dispatch(&self, asid: u32, msg: &Message) -> Result {
        match msg.kind {
            VHOST_IOTLB_UPDATE => self.update(asid, msg),
            VHOST_IOTLB_INVALIDATE => self.invalidate(asid, msg),
            VHOST_IOTLB_BATCH_BEGIN => self.batch_begin(asid),
            VHOST_IOTLB_BATCH_END => self.batch_end(asid),
            _ => Err(EINVAL),
        }
    }

    /// Locks the state, clears the 1:1 map that a reset may have left, checks the message, and
    /// calls `f`.
    ///
    /// Creates address space `asid` if it does not exist and `asid < create`.
    #[inline]
    fn with_space<R>(
        &self,
        asid: u32,
        create: u32,
        f: impl FnOnce(Work<'_>) -> Result<R>,
    ) -> Result<R> {
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        if state.identity_mapped {
            // A message that is refused must not change anything.
            state.check_owner()?;
            if asid >= create && state.spaces.get(&asid).is_none() {
                return Err(EINVAL);
            }
            self.clear_identity_map(state, &dev)?;
        }
        f(state.enter_space(&dev, asid, create)?)
    }

    fn invalidate(&self, asid: u32, msg: &Message) -> Result {
        let removed = self.unmap(asid, msg);
        trace::unmap(self.minor, asid, msg.iova, msg.size, &removed);
        removed.map(|_| ())
    }

    /// Unmaps every range that intersects that of the message. Returns the number of ranges.
    #[inline]
    fn unmap(&self, asid: u32, msg: &Message) -> Result<u64> {
        // Like in C, (0, 0) means everything, because 0 + 0 - 1 wraps to the end. Any other range
        // that wraps is empty: it must not affect ranges outside of it.
        let last = msg.iova.wrapping_add(msg.size).wrapping_sub(1);
        self.with_space(asid, 0, |work| {
            let batch = work.batch.is_some();
            let n = (work.space).remove(&work.target, msg.iova, last, batch)?;
            work.counts.unmaps = work.counts.unmaps.wrapping_add(n);
            Ok(n)
        })
    }

    fn batch_begin(&self, asid: u32) -> Result {
        self.with_space(asid, self.nas, |work| {
            // Ignore errors: this batch may fix a table that the parent refused; `BATCH_END`
            // reports the result.
            if work.batch.is_none() {
                let _ = work.space.sync_map(&work.target);
            }
            *work.batch = Some(asid);
            Ok(())
        })
    }

    fn batch_end(&self, asid: u32) -> Result {
        self.with_space(asid, 0, |work| match work.batch.take() {
            Some(_) => work.space.push(&work.target),
            None => work.space.sync_map(&work.target),
        })
        .inspect_err(|e| {
            if *e == ENOSPC {
                self.told.parent_full(self.minor, asid);
            }
        })
    }

    fn update(&self, asid: u32, msg: &Message) -> Result {
        let mapped = self.map(asid, msg);
        let range = (msg.iova, msg.size, msg.uaddr);
        trace::map(self.minor, asid, range, msg.perm, &mapped);
        mapped.map(|_| ())
    }

    /// Maps a range of the owner's memory. Returns the number of ranges that were added.
    #[inline]
    fn map(&self, asid: u32, msg: &Message) -> Result<u64> {
        let (mut maps, mut unshared) = (Mappings::new(), 0);
        // Page faults happen here, without a lock held.
        let update = Update::new(msg, !self.use_va).and_then(|update| {
            if self.use_va {
                unshared = self.look_up(asid, &update, &mut maps)?;
            } else {
                self.pin(asid, &update, &mut maps)?;
            }
            Ok(update)
        });

        // Like in C, an update creates its address space even if it fails: an error is returned below.
        self.with_space(asid, self.nas, |work| {
            let Update { iova, last, .. } = update?;
            let n = maps.len() as u64;
            let batch = work.batch.is_some();
            let fits = maps.len() <= work.space.room();
            (work.space)
                .insert(&work.target, (iova, last), &mut maps, batch)
                .inspect_err(|e| match (*e == ENOSPC, fits) {
                    (true, true) => self.told.parent_full(self.minor, asid),
                    (true, false) => self.told.table_full(self.minor, asid),
                    (false, _) => (),
                })?;
            work.counts.maps = work.counts.maps.wrapping_add(n);
            work.counts.unshared_bytes = work.counts.unshared_bytes.wrapping_add(unshared);
            Ok(n)
        })
    }

    /// Pins the memory of an update, and makes one mapping of each run of contiguous pages.
    fn pin(&self, asid: u32, update: &Update, maps: &mut Mappings) -> Result {
        let (mm, room) = self.prepare(asid, update)?;
        let npages = update.size >> PAGE_SHIFT;
        maps.set_charge(match Charge::new(mm.clone(), npages) {
            Ok(charge) => charge,
            Err(e) => {
                // The pins of ranges that the batch removed count until the device was told. Tell
                // it now: a batch that unmaps and remaps must fit like in C.
                self.flush_held(asid)?;
                Charge::new(mm, npages).map_err(|_| {
                    self.told.memlock(self.minor, npages);
                    e
                })?
            }
        });
        let write = update.perm & VHOST_ACCESS_WO != 0;
        let mut iova = update.iova;
        gup::pin(update.uaddr, npages, write, |pages| {
            if maps.len() >= room {
                self.told.table_full(self.minor, asid);
                return Err(ENOSPC);
            }
            let size = pages.size();
            maps.push(Mapping::pinned(iova, u32::from(update.perm), pages))?;
            iova = iova.wrapping_add(size);
            Ok(())
        })
    }

    /// Checks an update before its memory is pinned, and makes its address space. Returns the owner's address space, and how
    /// many ranges there is room for.
    fn prepare(&self, asid: u32, update: &Update) -> Result<(ARef<Mm>, usize)> {
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        let Work { space, target, .. } = state.enter_space(&dev, asid, self.nas)?;
        space.check_range(&target, (update.iova, update.last))?;
        // `check` found that the caller is the owner.
        Ok((gup::current_mm().ok_or(EPERM)?, space.room()))
    }

    /// Pushes the table if ranges of it are held.
    fn flush_held(&self, asid: u32) -> Result {
        self.with_space(asid, 0, |Work { space, target, .. }| {
            if space.held() > 0 {
                space.push(&target)
            } else {
                Ok(())
            }
        })
    }

    /// Looks up the files behind the memory of an update, for a parent that uses virtual addresses.
    /// Returns the number of bytes that have none.
    ///
    /// Private memory has none: it stays unmapped without an error, because QEMU maps its ROMs like
    /// this. This looks at the memory of the caller; `with_space` checks later that the caller is
    /// the owner.
    fn look_up(&self, asid: u32, update: &Update, maps: &mut Mappings) -> Result<u64> {
        let current = current!();
        let mm = current.mm().ok_or(EPERM)?;
        let (write, read) = (
            update.perm & VHOST_ACCESS_WO != 0,
            update.perm & VHOST_ACCESS_RO != 0,
        );
        let range = (update.uaddr, update.size);
        usermap::lookup(mm, range, write, read, |offset, size, file| {
            // One range is always accepted here: `insert` checks if there is room for it.
            if !maps.is_empty() && maps.len() >= params::max_iotlb_entries() as usize {
                self.told.table_full(self.minor, asid);
                return Err(ENOSPC);
            }
            let map = Mapping::file(
                update.iova.wrapping_add(offset),
                size,
                update.uaddr.wrapping_add(offset),
                u32::from(update.perm),
                file,
            );
            maps.push(map)
        })
    }
}

#[kunit_tests(rust_vhost_vdpa_update)]
mod tests {
    use super::*;
    use vdpa_bus_driver::vdpa::IovaRange;

    fn message(iova: u64, size: u64, uaddr: u64) -> Message {
        Message {
            iova,
            size,
            uaddr,
            perm: VHOST_ACCESS_RW,
            kind: VHOST_IOTLB_UPDATE,
        }
    }

    fn pages(iova: u64, size: u64, uaddr: u64) -> Result<(u64, u64, u64)> {
        Update::new(&message(iova, size, uaddr), true).map(|u| (u.iova, u.size, u.uaddr))
    }

    #[test]
    fn whole_pages() {
        assert_eq!(pages(0x1000, 0x2000, 0x7000), Ok((0x1000, 0x2000, 0x7000)));
        assert_eq!(pages(0x1800, 0x100, 0x7800), Ok((0x1000, 0x1000, 0x7000)));
        assert_eq!(pages(0x1fff, 2, 0x7fff), Ok((0x1000, 0x2000, 0x7000)));
    }

    #[test]
    fn page_offsets_differ() {
        assert_eq!(pages(0x1001, 0x1000, 0x7000), Err(EINVAL));
        assert_eq!(pages(0x1000, 0x1000, 0x7001), Err(EINVAL));
    }

    #[test]
    fn size_zero() {
        assert_eq!(pages(0, 0, 0), Err(EINVAL));
    }

    #[test]
    fn wrapping_ranges() {
        assert_eq!(pages(u64::MAX, 2, u64::MAX), Err(EINVAL));
        assert_eq!(pages(0x1000, u64::MAX, 0x1000), Err(EINVAL));
        assert_eq!(pages(0, u64::MAX, 0), Err(EINVAL));
        assert_eq!(pages(0, 0x2000, u64::MAX - 0xfff), Err(EINVAL));
        // The last page of the address space, from memory below it.
        assert_eq!(
            pages(u64::MAX - 0xfff, 0x1000, 0x7000),
            Ok((u64::MAX - 0xfff, 0x1000, 0x7000))
        );
    }

    #[test]
    fn rounding_stays_in_range() {
        let range = IovaRange {
            first: 0x1800,
            last: 0x5fff,
        };
        let new = |iova, size, uaddr, pages| {
            let update = Update::new(&message(iova, size, uaddr), pages);
            update.is_ok_and(|u| range.holds(u.iova, u.last))
        };
        assert!(!new(0x1800, 0x800, 0x7800, true));
        assert!(new(0x2000, 0x4000, 0x7000, true));
        assert!(!new(0x2000, 0x4001, 0x7000, true));
        // No rounding if the parent takes virtual addresses.
        assert!(new(0x1800, 0x800, 0x7001, false));
    }

    #[test]
    fn permissions() {
        for perm in 0..=u8::MAX {
            let msg = Message {
                perm,
                ..message(0, 0x1000, 0)
            };
            assert_eq!(Update::new(&msg, true).is_ok(), (1..=3).contains(&perm));
        }
    }
}
