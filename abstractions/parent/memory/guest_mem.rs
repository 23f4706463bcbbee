// SPDX-License-Identifier: GPL-2.0

//! Guest memory for a device in software. An IOVA translates to a physical address in the kernel's
//! direct map, or to a user virtual address.
//!
//! The guest may change this memory at any time. So it is only copied, never borrowed.

use crate::{
    bindings,
    iotlb::Iotlb,
    mm::UserAccess, //
};
use core::{cell::Cell, mem::MaybeUninit, ptr::NonNull};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// Permission: the device may read.
pub const READ: u32 = bindings::VHOST_MAP_RO;
/// Permission: the device may write.
pub const WRITE: u32 = bindings::VHOST_MAP_WO;

/// Target of a range of IOVAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Memory: the range's first IOVA translates to this address.
    Address(u64),
    /// No memory: reads return zeroes, writes are ignored.
    Null,
}

/// Range of IOVAs that translates as one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first IOVA.
    pub start: u64,
    /// The last IOVA, inclusive.
    pub last: u64,
    /// The target of the range.
    pub to: To,
    /// The permissions: [`READ`], [`WRITE`] or both.
    pub perm: u32,
}

/// Translation of the IOVAs of an address space.
pub trait Translate {
    /// Returns a range that contains `iova`. Callers cache it, so the larger the better.
    fn find(&self, iova: u64) -> Option<Range>;
}

impl Translate for Iotlb {
    fn find(&self, iova: u64) -> Option<Range> {
        let map = self.first(iova, iova)?;
        Some(Range {
            start: map.start,
            last: map.last,
            to: To::Address(map.addr),
            perm: map.perm,
        })
    }
}

/// Method by which an address space translates.
#[derive(Clone, Copy)]
pub enum Translation<'a> {
    /// IOVAs are physical addresses.
    Identity,
    /// The IOTLB translates, to physical addresses. Other IOVAs cannot be reached.
    Iotlb(&'a Iotlb),
    /// This object translates, to physical addresses.
    By(&'a dyn Translate),
    /// This object translates, to user virtual addresses.
    User(&'a dyn Translate, &'a UserAccess<'a>),
}

/// Number of cached ranges: enough for the three areas of two rings, and buffers.
const SLOTS: usize = 8;

/// Target of the first IOVA of a slot.
#[derive(Clone, Copy)]
enum At {
    /// Memory in the direct map, for all IOVAs of the slot.
    Kernel(NonNull<u8>),
    /// A user virtual address.
    User(u64),
    /// No memory; see [`To::Null`].
    Null,
}

/// Cached range, in the form in which it is used.
#[derive(Clone, Copy)]
struct Slot {
    start: u64,
    last: u64,
    perm: u32,
    at: At,
}

/// Place of the first bytes of an access.
enum Place<'a> {
    /// In the direct map.
    Kernel(NonNull<u8>),
    /// At a user virtual address.
    User(&'a UserAccess<'a>, u64),
    /// No memory; see [`To::Null`].
    Null,
}

/// Memory of one address space. Its owner keeps the translation from changing, and the memory from
/// being freed.
///
/// It caches ranges: create one for a run of work, and not for each access.
///
/// # Invariants
///
/// The first `filled` slots are initialised. The pointer of such a slot is valid for reads and
/// writes of as many bytes as the slot has IOVAs. The guest may access them at the same time.
pub struct GuestMemory<'a> {
    translation: Translation<'a>,
    slots: [Cell<MaybeUninit<Slot>>; SLOTS],
    /// The number of initialised slots.
    filled: Cell<usize>,
    /// The slots that were used since `hand` passed them, one bit each.
    used: Cell<u32>,
    /// The slot at which the next search for a victim begins.
    hand: Cell<usize>,
}

/// Returns the address in the direct map of `len` bytes (not 0) of physical memory.
///
/// Errors: `EFAULT` unless all of them are RAM that a driver may name.
fn direct_map(pa: u64, len: u64) -> Result<NonNull<u8>> {
    let len = usize::try_from(len).map_err(|_| EFAULT)?;
    // SAFETY: The function accepts any address, and returns null if there is no RAM.
    NonNull::new(unsafe { bindings::vdpa_parent_guest_ram(pa, len) }.cast()).ok_or(EFAULT)
}

impl<'a> GuestMemory<'a> {
    /// Returns the memory that is seen through a translation.
    #[inline(always)]
    pub fn new(translation: Translation<'a>) -> Self {
        // INVARIANT: No slot is filled.
        Self {
            translation,
            slots: [const { Cell::new(MaybeUninit::uninit()) }; SLOTS],
            filled: Cell::new(0),
            used: Cell::new(0),
            hand: Cell::new(0),
        }
    }

    /// Looks up the range around `iova`. Errors: `EFAULT`.
    fn find(&self, iova: u64) -> Result<Range> {
        let range = match self.translation {
            Translation::Identity => Some(Range {
                start: 0,
                last: u64::MAX,
                to: To::Address(0),
                perm: READ | WRITE,
            }),
            Translation::Iotlb(iotlb) => iotlb.find(iova),
            Translation::By(by) | Translation::User(by, _) => by.find(iova),
        };
        range
            .filter(|range| range.start <= iova && iova <= range.last)
            .ok_or(EFAULT)
    }

    /// Returns a slot for the first of `len` bytes (not 0) at `iova`. Errors: `EFAULT`.
    ///
    /// A slot of physical memory contains only the pages of these bytes, as far as they are in the
    /// range: for more, every page would have to be checked to be RAM.
    #[cold]
    fn fill(&self, iova: u64, len: usize) -> Result<Slot> {
        let range = self.find(iova)?;
        let addr = match range.to {
            To::Address(addr) => addr,
            To::Null => {
                return Ok(Slot {
                    start: range.start,
                    last: range.last,
                    perm: range.perm,
                    at: At::Null,
                })
            }
        };
        if let Translation::User(..) = self.translation {
            return Ok(Slot {
                start: range.start,
                last: range.last,
                perm: range.perm,
                at: At::User(addr),
            });
        }
        let in_page = PAGE_SIZE as u64 - 1;
        let before = iova - range.start;
        let after = range.last - iova;
        let pa = addr.checked_add(before).ok_or(EFAULT)?;
        let before = before.min(pa & in_page);
        let wanted = (len as u64 - 1).min(after);
        let end = pa.checked_add(wanted).ok_or(EFAULT)?;
        let after = after.min(wanted + (in_page - (end & in_page)));
        let ptr = direct_map(pa - before, before + after + 1)?;
        Ok(Slot {
            start: iova - before,
            last: iova + after,
            perm: range.perm,
            at: At::Kernel(ptr),
        })
    }

    /// Returns the slot to fill: a free one, or the next one that was not used since the last
    /// round.
    fn victim(&self) -> usize {
        let filled = self.filled.get();
        if filled < SLOTS {
            return filled;
        }
        let mut hand = self.hand.get();
        let mut used = self.used.get();
        while used & (1 << hand) != 0 {
            used &= !(1 << hand);
            hand = (hand + 1) % SLOTS;
        }
        self.used.set(used);
        self.hand.set((hand + 1) % SLOTS);
        hand
    }

    /// Returns the slot at an index, if it is filled.
    #[inline]
    fn slot(&self, at: usize) -> Option<Slot> {
        let slot = self.slots.get(at).filter(|_| at < self.filled.get())?;
        // SAFETY: By the invariant the first `filled` slots are initialised; this is one of them.
        Some(unsafe { slot.get().assume_init() })
    }

    /// Returns the slot that contains `iova`, if there is one.
    #[inline]
    fn known(&self, iova: u64) -> Option<Slot> {
        // Keep this loop short: every access to guest memory runs it.
        let mut at = 0;
        loop {
            let slot = self.slot(at)?;
            if iova.wrapping_sub(slot.start) <= slot.last.wrapping_sub(slot.start) {
                self.used.set(self.used.get() | 1 << at);
                return Some(slot);
            }
            at += 1;
        }
    }

    /// Stores the result of [`Self::fill`] in a slot.
    fn remember(&self, slot: Slot) -> Slot {
        let at = self.victim();
        if let Some(place) = self.slots.get(at) {
            // INVARIANT: `fill` returns slots whose pointer is valid. This is one of the first
            // `filled` slots, or the one behind them.
            place.set(MaybeUninit::new(slot));
            self.filled.set(self.filled.get().max(at + 1));
        }
        slot
    }

    /// Returns the place of the first of `len` bytes (not 0) at `iova`, and how many lie there.
    ///
    /// Errors: `EFAULT` if nothing is mapped there with this permission.
    fn locate(&self, iova: u64, len: usize, perm: u32) -> Result<(Place<'a>, usize)> {
        let slot = match self.known(iova) {
            Some(slot) => slot,
            None => self.remember(self.fill(iova, len)?),
        };
        if slot.perm & perm != perm {
            return Err(EFAULT);
        }
        // The slot contains `iova`.
        let offset = iova - slot.start;
        let room = usize::try_from(slot.last - iova).map_or(usize::MAX, |n| n.saturating_add(1));
        let place = match slot.at {
            // SAFETY: By the invariant the pointer is valid for all IOVAs of the slot, one of which
            // this is.
            At::Kernel(ptr) => Place::Kernel(unsafe { ptr.add(offset as usize) }),
            At::User(addr) => {
                let Translation::User(_, user) = self.translation else {
                    return Err(EFAULT);
                };
                Place::User(user, addr.checked_add(offset).ok_or(EFAULT)?)
            }
            At::Null => Place::Null,
        };
        Ok((place, len.min(room)))
    }

    /// Copies bytes from guest memory.
    ///
    /// Errors: `EFAULT` unless all of it is mapped for reading; part of `into` may then have
    /// changed.
    pub fn read(&self, mut iova: u64, mut into: &mut [u8]) -> Result {
        while !into.is_empty() {
            let (place, len) = self.locate(iova, into.len(), READ)?;
            let (now, rest) = into.split_at_mut_checked(len).ok_or(EFAULT)?;
            match place {
                // SAFETY: `locate` returned memory that is valid for reads of `len` bytes, and
                // `now` has `len`. C's `memcpy()` tolerates races with the guest.
                Place::Kernel(ptr) => unsafe {
                    bindings::memcpy(now.as_mut_ptr().cast(), ptr.as_ptr().cast(), len);
                },
                Place::User(user, addr) => user.read(addr, now)?,
                Place::Null => now.fill(0),
            }
            into = rest;
            if !into.is_empty() {
                iova = iova.checked_add(len as u64).ok_or(EFAULT)?;
            }
        }
        Ok(())
    }

    /// Copies bytes to guest memory.
    ///
    /// Errors: `EFAULT` unless all of it is mapped for writing; part of it may then be written.
    pub fn write(&self, mut iova: u64, mut from: &[u8]) -> Result {
        while !from.is_empty() {
            let (place, len) = self.locate(iova, from.len(), WRITE)?;
            let (now, rest) = from.split_at_checked(len).ok_or(EFAULT)?;
            match place {
                // SAFETY: `locate` returned memory that is valid for writes of `len` bytes, and
                // `now` has `len`. C's `memcpy()` tolerates races with the guest.
                Place::Kernel(ptr) => unsafe {
                    bindings::memcpy(ptr.as_ptr().cast(), now.as_ptr().cast(), len);
                },
                Place::User(user, addr) => user.write(addr, now)?,
                Place::Null => {}
            }
            from = rest;
            if !from.is_empty() {
                iova = iova.checked_add(len as u64).ok_or(EFAULT)?;
            }
        }
        Ok(())
    }

    /// Returns the place of an aligned `u16`.
    ///
    /// Errors: `EFAULT` if it is not mapped with this permission, or not aligned.
    fn locate_u16(&self, iova: u64, perm: u32) -> Result<Place<'a>> {
        let (place, len) = self.locate(iova, 2, perm)?;
        let aligned = match place {
            Place::Kernel(ptr) => ptr.cast::<u16>().is_aligned(),
            Place::User(_, addr) => addr & 1 == 0,
            Place::Null => true,
        };
        if aligned && len == 2 {
            Ok(place)
        } else {
            Err(EFAULT)
        }
    }

    /// Loads a `u16` in one access.
    ///
    /// Errors: `EFAULT` if it is not mapped for reading, or not aligned.
    pub fn load_u16(&self, iova: u64) -> Result<u16> {
        match self.locate_u16(iova, READ)? {
            // SAFETY: `locate_u16` returned memory that is aligned and valid for two bytes; the
            // access is volatile because the guest may write at the same time.
            Place::Kernel(ptr) => Ok(unsafe { ptr.cast::<u16>().read_volatile() }),
            Place::User(user, addr) => user.load_u16(addr),
            Place::Null => Ok(0),
        }
    }

    /// Stores a `u16` in one access.
    ///
    /// Errors: `EFAULT` if it is not mapped for writing, or not aligned.
    pub fn store_u16(&self, iova: u64, value: u16) -> Result {
        match self.locate_u16(iova, WRITE)? {
            // SAFETY: `locate_u16` returned memory that is aligned and valid for two bytes; the
            // access is volatile because the guest may read at the same time.
            Place::Kernel(ptr) => unsafe { ptr.cast::<u16>().write_volatile(value) },
            Place::User(user, addr) => user.store_u16(addr, value)?,
            Place::Null => {}
        }
        Ok(())
    }
}
