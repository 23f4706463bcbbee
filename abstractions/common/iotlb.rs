// SPDX-License-Identifier: GPL-2.0

//! The vhost IOTLB: an interval tree of IOVA ranges.
//!
//! C: `drivers/vhost/iotlb.c`, `include/linux/vhost_iotlb.h`.

use crate::{bindings, result::to_result};
use core::{mem::offset_of, ptr::NonNull};
use kernel::{
    prelude::*,
    types::Opaque, //
};

/// One range of an IOTLB, as a value.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    /// First IOVA of the range, in bytes.
    pub start: u64,
    /// Last IOVA of the range, inclusive.
    pub last: u64,
    /// What `start` translates to: a physical address, or a user virtual address.
    pub addr: u64,
    /// `VHOST_ACCESS_RO`, `_WO` or `_RW`.
    pub perm: u32,
    /// What the owner of the IOTLB attached to the range: a `struct vdpa_map_file`, or null.
    opaque: *mut c_void,
}

// SAFETY: A value. Nothing here follows the pointer; who does vouches for what is behind it.
unsafe impl Send for Map {}
// SAFETY: A value without interior mutability: shared references only copy its fields.
unsafe impl Sync for Map {}

impl Map {
    /// A range as a value; see the fields.
    ///
    /// # Safety
    ///
    /// `opaque` must be null, or point to a `struct vdpa_map_file` that lives as long as the value:
    /// parents that use user virtual addresses follow it.
    pub unsafe fn new(start: u64, last: u64, addr: u64, perm: u32, opaque: *mut c_void) -> Self {
        Self {
            start,
            last,
            addr,
            perm,
            opaque,
        }
    }

    /// The size in bytes. A range is never the whole 64-bit space, so this cannot overflow.
    pub fn size(&self) -> u64 {
        self.last.wrapping_sub(self.start).wrapping_add(1)
    }

    fn from_node(node: &bindings::vhost_iotlb_map) -> Self {
        // SAFETY: The range is in an IOTLB or was taken out of one, and so has what
        // `OwnedIotlb::add_with_opaque` asks for, or what the driver of a parent gave it.
        unsafe { Self::new(node.start, node.last, node.addr, node.perm, node.opaque) }
    }

    /// What the owner of the IOTLB attached to the range.
    pub fn opaque(&self) -> *mut c_void {
        self.opaque
    }
}

/// A `struct vhost_iotlb`.
///
/// # Invariants
///
/// The C struct is initialised. Whoever has `&Iotlb` knows that nobody changes it. There is no
/// `&mut Iotlb` outside [`OwnedIotlb`]: the list and the tree point into the struct, so that
/// swapping two of them would leave pointers to the other.
#[repr(transparent)]
pub struct Iotlb(Opaque<bindings::vhost_iotlb>);

// SAFETY: Nothing in a `vhost_iotlb` is tied to a thread.
unsafe impl Send for Iotlb {}
// SAFETY: By the invariant shared references only read, and reading changes nothing.
unsafe impl Sync for Iotlb {}

impl Iotlb {
    /// Wraps an IOTLB that somebody else owns, such as the argument of `set_map`.
    ///
    /// # Safety
    ///
    /// `ptr` must be an initialised `vhost_iotlb` that lives and does not change for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *const bindings::vhost_iotlb) -> &'a Self {
        // SAFETY: `Self` is transparent, and the caller vouches for the rest.
        unsafe { &*ptr.cast() }
    }

    /// The C struct.
    pub fn as_raw(&self) -> *mut bindings::vhost_iotlb {
        self.0.get()
    }

    /// The number of ranges.
    pub fn len(&self) -> u32 {
        // SAFETY: Initialised by the invariant; nobody writes while there is a `&self`.
        unsafe { (*self.as_raw()).nmaps }
    }

    /// Returns true if there are no ranges.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of ranges that fit.
    pub fn limit(&self) -> u32 {
        // SAFETY: Initialised by the invariant; nobody writes while there is a `&self`.
        unsafe { (*self.as_raw()).limit }
    }

    /// The ranges that intersect `[start, last]`, by ascending address.
    pub fn iter(&self, start: u64, last: u64) -> Iter<'_> {
        let next = if start > last {
            core::ptr::null_mut()
        } else {
            // SAFETY: Initialised by the invariant, and nobody changes the tree while there is a `&self`.
            unsafe { bindings::vhost_iotlb_itree_first(self.as_raw(), start, last) }
        };
        Iter {
            _iotlb: self,
            next,
            start,
            last,
        }
    }

    /// The first range that intersects `[start, last]`.
    pub fn first(&self, start: u64, last: u64) -> Option<Map> {
        self.iter(start, last).next()
    }
}

/// The iterator of [`Iotlb::iter`].
pub struct Iter<'a> {
    _iotlb: &'a Iotlb,
    next: *mut bindings::vhost_iotlb_map,
    start: u64,
    last: u64,
}

impl Iterator for Iter<'_> {
    type Item = Map;

    fn next(&mut self) -> Option<Map> {
        let map = NonNull::new(self.next)?;
        // SAFETY: A node of an IOTLB that does not change while it is borrowed.
        let node = unsafe { map.as_ref() };
        let found = Map::from_node(node);
        let (start, last) = (self.start, self.last);
        // SAFETY: The C function follows links from a node of a tree; by the borrow of `_iotlb` the node
        // is in it and the tree does not change.
        self.next = unsafe { bindings::vhost_iotlb_itree_next(map.as_ptr(), start, last) };
        Some(found)
    }
}

/// The ranges that [`OwnedIotlb::take`] takes out, by ascending address.
///
/// # Invariants
///
/// `next` is null or a range of `iotlb`.
pub struct Taking<'a> {
    iotlb: &'a mut OwnedIotlb,
    next: *mut bindings::vhost_iotlb_map,
    start: u64,
    last: u64,
}

impl Taking<'_> {
    /// Takes out the next range if `f` lets it go. If it does not, it stays and is next again.
    #[inline]
    pub fn next_if(&mut self, f: impl FnOnce(&Map) -> Result) -> Result<Option<Map>> {
        let Some(found) = NonNull::new(self.next) else {
            return Ok(None);
        };
        // SAFETY: By the invariant a node of this IOTLB, which nobody else changes.
        let map = Map::from_node(unsafe { found.as_ref() });
        f(&map)?;
        let (start, last) = (self.start, self.last);
        // INVARIANT: The one behind it; nodes stay where they are when others go.
        // SAFETY: By the invariant a node of this IOTLB's tree, which nobody else changes.
        self.next = unsafe { bindings::vhost_iotlb_itree_next(found.as_ptr(), start, last) };
        // SAFETY: By the invariant a node of this IOTLB, which nobody else uses; `next` no longer is this
        // one, and `map` is a copy.
        unsafe { bindings::vhost_iotlb_map_free(self.iotlb.as_raw(), found.as_ptr()) };
        Ok(Some(map))
    }

    /// Takes out the next range, memory and all.
    #[inline]
    pub fn detach(&mut self) -> Option<Detached> {
        let found = NonNull::new(self.next)?;
        let (start, last) = (self.start, self.last);
        // INVARIANT: The one behind it; nodes stay where they are when others go.
        // SAFETY: By the invariant a node of this IOTLB, which nobody else changes.
        self.next = unsafe { bindings::vhost_iotlb_itree_next(found.as_ptr(), start, last) };
        // SAFETY: By the invariant a node of this IOTLB, of which we are the only user.
        unsafe { bindings::vdpa_common_iotlb_detach(self.iotlb.as_raw(), found.as_ptr()) };
        // INVARIANT: It is in no IOTLB now.
        Some(Detached(found))
    }
}

/// A range that is in no IOTLB. It needs no memory to be held or put back.
///
/// # Invariants
///
/// The range was allocated by an IOTLB, and is ours alone.
pub struct Detached(NonNull<bindings::vhost_iotlb_map>);

impl Detached {
    /// The range as a value.
    #[inline]
    pub fn map(&self) -> Map {
        // SAFETY: Ours by the invariant.
        Map::from_node(unsafe { self.0.as_ref() })
    }

    fn into_raw(self) -> *mut bindings::vhost_iotlb_map {
        let node = self.0.as_ptr();
        core::mem::forget(self);
        node
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        // SAFETY: Ours by the invariant, from `kmalloc()`.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) }
    }
}

/// Ranges that are in no IOTLB: last in, first out.
///
/// # Invariants
///
/// From `head` on, `next` leads over the `link`s of `len` ranges that are [`Detached`] and ours, to null.
pub struct DetachedRanges {
    head: *mut bindings::list_head,
    len: usize,
}

// SAFETY: Plain memory, not tied to a thread.
unsafe impl Send for DetachedRanges {}
// SAFETY: Nothing can be changed through a shared reference.
unsafe impl Sync for DetachedRanges {}

impl DetachedRanges {
    /// None.
    pub const fn new() -> Self {
        // INVARIANT: No ranges.
        Self {
            head: core::ptr::null_mut(),
            len: 0,
        }
    }

    /// Returns the number of ranges.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds one.
    #[inline]
    pub fn push(&mut self, range: Detached) {
        let node = range.into_raw();
        // SAFETY: The range is ours.
        let link = unsafe { &raw mut (*node).link };
        // SAFETY: The range is ours, and in no IOTLB's list, to which its link would belong.
        unsafe { (*link).next = self.head };
        // INVARIANT: The range leads to those that were there.
        self.head = link;
        self.len = self.len.wrapping_add(1);
    }

    /// Takes the one that was added last.
    #[inline]
    pub fn pop(&mut self) -> Option<Detached> {
        let link = NonNull::new(self.head)?;
        // SAFETY: Ours by the invariant.
        self.head = unsafe { link.as_ref().next };
        self.len = self.len.wrapping_sub(1);
        // SAFETY: By the invariant the link is part of a range.
        let node = unsafe { link.byte_sub(offset_of!(bindings::vhost_iotlb_map, link)) };
        // INVARIANT: It is out of the list, and so in nobody else's hands.
        Some(Detached(node.cast()))
    }
}

impl Default for DetachedRanges {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for DetachedRanges {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// An IOTLB of our own; freed with everything in it when dropped.
///
/// # Invariants
///
/// The pointer came from `vhost_iotlb_alloc()` and nobody else frees it. Whoever has `&mut` is the
/// only user of the IOTLB.
pub struct OwnedIotlb(NonNull<Iotlb>);

// SAFETY: Owns an `Iotlb`, which is `Send`.
unsafe impl Send for OwnedIotlb {}
// SAFETY: Shares an `Iotlb`, which is `Sync`.
unsafe impl Sync for OwnedIotlb {}

impl OwnedIotlb {
    /// An empty IOTLB for at most `limit` ranges. Once full, adding fails with `ENOSPC`.
    pub fn new(limit: u32) -> Result<Self> {
        // SAFETY: The function takes no pointers; it returns memory that it initialised, or null.
        let ptr = unsafe { bindings::vhost_iotlb_alloc(limit, 0) };
        // INVARIANT: Fresh from `vhost_iotlb_alloc()`.
        Ok(Self(NonNull::new(ptr.cast()).ok_or(ENOMEM)?))
    }

    /// Adds a range without an opaque pointer.
    ///
    /// Errors: `ENOSPC` when the IOTLB is full, `ENOMEM`, `EFAULT` when `last < start`.
    pub fn add(&mut self, start: u64, last: u64, addr: u64, perm: u32) -> Result {
        // SAFETY: Null is no pointer to follow.
        unsafe { self.add_with_opaque(start, last, addr, perm, core::ptr::null_mut()) }
    }

    /// Adds a range. Errors: those of [`Self::add`].
    ///
    /// # Safety
    ///
    /// `opaque` must be null, or point to a `struct vdpa_map_file` that lives as long as the range
    /// exists: parents that use user virtual addresses follow it.
    #[inline]
    pub unsafe fn add_with_opaque(
        &mut self,
        start: u64,
        last: u64,
        addr: u64,
        perm: u32,
        opaque: *mut c_void,
    ) -> Result {
        // SAFETY: Initialised by the invariant of `Iotlb`, and by ours we are its only user.
        to_result(unsafe {
            bindings::vhost_iotlb_add_range_ctx(self.as_raw(), start, last, addr, perm, opaque)
        })
    }

    /// Moves all ranges to `to`, however many, if all of them intersect `[start, last]` and none
    /// overlaps another; whether it did.
    #[inline]
    pub fn detach_all(&mut self, start: u64, last: u64, to: &mut DetachedRanges) -> bool {
        if start > last {
            return false;
        }
        let (n, iotlb) = (self.len() as usize, self.as_raw());
        // SAFETY: Initialised by the invariant of `Iotlb`, and by ours we are its only user; `head` is
        // as it should be by the invariant of `to`.
        if !unsafe { bindings::vdpa_common_iotlb_detach_all(iotlb, start, last, &mut to.head) } {
            return false;
        }
        // INVARIANT: They are in no IOTLB any more, and lead to those that were there.
        to.len = to.len.wrapping_add(n);
        true
    }

    /// Adds a range that was in this IOTLB before, and for which there is still room.
    pub fn attach(&mut self, range: Detached) {
        let node = range.into_raw();
        // SAFETY: Initialised by the invariant of `Iotlb`, and by ours we are its only user; nobody else
        // uses the node.
        unsafe { bindings::vdpa_common_iotlb_attach(self.as_raw(), node) }
    }

    /// Removes every range that intersects `[start, last]`, whole.
    pub fn remove(&mut self, start: u64, last: u64) {
        if start > last {
            return;
        }
        // SAFETY: Initialised by the invariant of `Iotlb`, and by ours we are its only user.
        unsafe { bindings::vhost_iotlb_del_range(self.as_raw(), start, last) }
    }

    /// Takes out the ranges that intersect `[start, last]`, one after the other.
    #[inline]
    pub fn take(&mut self, start: u64, last: u64) -> Taking<'_> {
        let next = self.iter(start, last).next;
        // INVARIANT: What was found, if anything was.
        Taking {
            iotlb: self,
            next,
            start,
            last,
        }
    }

    /// Removes every range.
    pub fn clear(&mut self) {
        self.remove(0, u64::MAX);
    }
}

impl core::ops::Deref for OwnedIotlb {
    type Target = Iotlb;

    fn deref(&self) -> &Iotlb {
        // SAFETY: Valid by the invariant; the borrow of `self` keeps writers away.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for OwnedIotlb {
    fn drop(&mut self) {
        // SAFETY: By the invariant this is the only free.
        unsafe { bindings::vhost_iotlb_free(self.0.as_ptr().cast()) }
    }
}
