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
    /// The first IOVA of the range, in bytes.
    pub start: u64,
    /// The last IOVA of the range, inclusive.
    pub last: u64,
    /// The address that `start` translates to: a physical or a user virtual address.
    pub addr: u64,
    /// `VHOST_ACCESS_RO`, `_WO` or `_RW`.
    pub perm: u32,
    /// Pointer that the owner of the IOTLB attached: a `struct vdpa_map_file`, or null.
    opaque: *mut c_void,
}

// SAFETY: A plain value. Its methods do not dereference the pointer.
unsafe impl Send for Map {}
// SAFETY: A plain value without interior mutability, so shared references only read it.
unsafe impl Sync for Map {}

impl Map {
    /// Creates a range from its fields.
    ///
    /// # Safety
    ///
    /// `opaque` must be null, or point to a `struct vdpa_map_file` that lives as long as the value:
    /// parents that use user virtual addresses dereference it.
    pub unsafe fn new(start: u64, last: u64, addr: u64, perm: u32, opaque: *mut c_void) -> Self {
        Self {
            start,
            last,
            addr,
            perm,
            opaque,
        }
    }

    /// Returns the size in bytes. A range is never the whole 64-bit space, so this cannot overflow.
    pub fn size(&self) -> u64 {
        self.last.wrapping_sub(self.start).wrapping_add(1)
    }

    fn from_node(node: &bindings::vhost_iotlb_map) -> Self {
        // SAFETY: The node is or was in an IOTLB, so its pointer satisfies the contract of
        // `OwnedIotlb::add_with_opaque`, or was set by the driver that owns the IOTLB.
        unsafe { Self::new(node.start, node.last, node.addr, node.perm, node.opaque) }
    }

    /// Returns the pointer that the owner of the IOTLB attached to the range.
    pub fn opaque(&self) -> *mut c_void {
        self.opaque
    }
}

/// A `struct vhost_iotlb`.
///
/// # Invariants
///
/// The C struct is initialised. Nobody changes it while a `&Iotlb` exists. There is no `&mut Iotlb`
/// outside [`OwnedIotlb`]: list and tree point into the struct, so swapping two IOTLBs would leave
/// each with pointers into the other.
#[repr(transparent)]
pub struct Iotlb(Opaque<bindings::vhost_iotlb>);

// SAFETY: A `vhost_iotlb` is not tied to a thread.
unsafe impl Send for Iotlb {}
// SAFETY: By the invariant shared references only read.
unsafe impl Sync for Iotlb {}

impl Iotlb {
    /// Wraps an IOTLB that somebody else owns, such as the argument of `set_map`.
    ///
    /// # Safety
    ///
    /// `ptr` must be an initialised `vhost_iotlb` that lives and does not change for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *const bindings::vhost_iotlb) -> &'a Self {
        // SAFETY: `Self` is transparent; the caller guarantees an IOTLB that is valid and constant
        // for `'a`.
        unsafe { &*ptr.cast() }
    }

    /// Returns the C struct.
    pub fn as_raw(&self) -> *mut bindings::vhost_iotlb {
        self.0.get()
    }

    /// Returns the number of ranges.
    pub fn len(&self) -> u32 {
        // SAFETY: By the invariant the struct is initialised and nobody changes it during the
        // borrow.
        unsafe { (*self.as_raw()).nmaps }
    }

    /// Returns true if there are no ranges.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the largest number of ranges that the IOTLB can hold.
    pub fn limit(&self) -> u32 {
        // SAFETY: By the invariant the struct is initialised and nobody changes it during the
        // borrow.
        unsafe { (*self.as_raw()).limit }
    }

    /// Returns the ranges that intersect `[start, last]`, by ascending address.
    pub fn iter(&self, start: u64, last: u64) -> Iter<'_> {
        let next = if start > last {
            core::ptr::null_mut()
        } else {
            // SAFETY: By the invariant the struct is initialised and nobody changes it during the
            // borrow.
            unsafe { bindings::vhost_iotlb_itree_first(self.as_raw(), start, last) }
        };
        Iter {
            _iotlb: self,
            next,
            start,
            last,
        }
    }

    /// Returns the first range that intersects `[start, last]`.
    pub fn first(&self, start: u64, last: u64) -> Option<Map> {
        self.iter(start, last).next()
    }
}

/// Iterator over the ranges of an IOTLB; see [`Iotlb::iter`].
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
        // SAFETY: The pointer is a node of the IOTLB, which does not change while it is borrowed.
        let node = unsafe { map.as_ref() };
        let found = Map::from_node(node);
        let (start, last) = (self.start, self.last);
        // SAFETY: The function follows links from a node of a tree. The borrow of `_iotlb` keeps
        // the node in the tree and the tree unchanged.
        self.next = unsafe { bindings::vhost_iotlb_itree_next(map.as_ptr(), start, last) };
        Some(found)
    }
}

/// Removes ranges from an IOTLB one by one, by ascending address; see [`OwnedIotlb::take`].
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
    /// Removes and returns the next range if `f` succeeds. If `f` fails, the range stays and is
    /// next again.
    #[inline]
    pub fn next_if(&mut self, f: impl FnOnce(&Map) -> Result) -> Result<Option<Map>> {
        let Some(found) = NonNull::new(self.next) else {
            return Ok(None);
        };
        // SAFETY: By the invariant it is a node of this IOTLB, which nobody else changes.
        let map = Map::from_node(unsafe { found.as_ref() });
        f(&map)?;
        let (start, last) = (self.start, self.last);
        // INVARIANT: The node behind `found`, which stays valid when `found` is freed.
        // SAFETY: By the invariant it is a node of this IOTLB, which nobody else changes.
        self.next = unsafe { bindings::vhost_iotlb_itree_next(found.as_ptr(), start, last) };
        // SAFETY: By the invariant it is a node of this IOTLB, which nobody else uses. `next` is
        // another node now, and `map` is a copy.
        unsafe { bindings::vhost_iotlb_map_free(self.iotlb.as_raw(), found.as_ptr()) };
        Ok(Some(map))
    }

    /// Removes the next range without freeing its node.
    #[inline]
    pub fn detach(&mut self) -> Option<Detached> {
        let found = NonNull::new(self.next)?;
        let (start, last) = (self.start, self.last);
        // INVARIANT: The node behind `found`, which stays valid when `found` is removed.
        // SAFETY: By the invariant it is a node of this IOTLB, which nobody else changes.
        self.next = unsafe { bindings::vhost_iotlb_itree_next(found.as_ptr(), start, last) };
        // SAFETY: By the invariant it is a node of this IOTLB, which nobody else uses.
        unsafe { bindings::vdpa_common_iotlb_detach(self.iotlb.as_raw(), found.as_ptr()) };
        // INVARIANT: The node was allocated by the IOTLB, and is in none any more.
        Some(Detached(found))
    }
}

/// Range that was taken out of an IOTLB, with its node: adding it again allocates nothing.
///
/// # Invariants
///
/// The node was allocated by an IOTLB, and only this object has it.
pub struct Detached(NonNull<bindings::vhost_iotlb_map>);

impl Detached {
    /// Returns the range as a value.
    #[inline]
    pub fn map(&self) -> Map {
        // SAFETY: By the invariant the node is valid, and nobody else has it.
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
        // SAFETY: By the invariant only we have the node, which the IOTLB allocated with
        // `kmalloc()`.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) }
    }
}

/// List of ranges that are in no IOTLB: last in, first out.
///
/// # Invariants
///
/// `head` is null or the `link` of a [`Detached`] range that only this list has. The `next` of each
/// `link` leads to that of the next of the `len` ranges, and the last one is null.
pub struct DetachedRanges {
    head: *mut bindings::list_head,
    len: usize,
}

// SAFETY: The list is plain memory, which is not tied to a thread.
unsafe impl Send for DetachedRanges {}
// SAFETY: Shared references only read `len`.
unsafe impl Sync for DetachedRanges {}

impl DetachedRanges {
    /// Creates an empty list.
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

    /// Returns true if there are no ranges.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a range at the head.
    #[inline]
    pub fn push(&mut self, range: Detached) {
        let node = range.into_raw();
        // SAFETY: By the invariant of `Detached` the node is valid.
        let link = unsafe { &raw mut (*node).link };
        // SAFETY: Nobody else has the node, and it is in no IOTLB, whose list would use the link.
        unsafe { (*link).next = self.head };
        // INVARIANT: The new head leads to the old one.
        self.head = link;
        self.len = self.len.wrapping_add(1);
    }

    /// Removes and returns the range at the head.
    #[inline]
    pub fn pop(&mut self) -> Option<Detached> {
        let link = NonNull::new(self.head)?;
        // SAFETY: By the invariant the head is the link of a node that only this list has.
        self.head = unsafe { link.as_ref().next };
        self.len = self.len.wrapping_sub(1);
        // SAFETY: By the invariant the link is a field of a range's node.
        let node = unsafe { link.byte_sub(offset_of!(bindings::vhost_iotlb_map, link)) };
        // INVARIANT: The node is out of the list, so nobody else has it.
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

/// IOTLB that this object owns. Dropping it frees the IOTLB and all of its ranges.
///
/// # Invariants
///
/// The pointer came from `vhost_iotlb_alloc()` and nobody else frees it. The holder of a `&mut` is
/// the only user of the IOTLB.
pub struct OwnedIotlb(NonNull<Iotlb>);

// SAFETY: It owns an `Iotlb`, which is `Send`.
unsafe impl Send for OwnedIotlb {}
// SAFETY: Shared references reach an `Iotlb`, which is `Sync`.
unsafe impl Sync for OwnedIotlb {}

impl OwnedIotlb {
    /// Creates an empty IOTLB for at most `limit` ranges. Errors: `ENOMEM`.
    pub fn new(limit: u32) -> Result<Self> {
        // SAFETY: The function has no preconditions. It returns an initialised IOTLB, or null.
        let ptr = unsafe { bindings::vhost_iotlb_alloc(limit, 0) };
        // INVARIANT: The pointer is fresh from `vhost_iotlb_alloc()`.
        Ok(Self(NonNull::new(ptr.cast()).ok_or(ENOMEM)?))
    }

    /// Adds a range without an opaque pointer.
    ///
    /// Errors: `ENOSPC` if the IOTLB is full, `EINVAL` if its limit is 0, `ENOMEM`, `EFAULT` if
    /// `last < start`.
    pub fn add(&mut self, start: u64, last: u64, addr: u64, perm: u32) -> Result {
        // SAFETY: The opaque pointer is null.
        unsafe { self.add_with_opaque(start, last, addr, perm, core::ptr::null_mut()) }
    }

    /// Adds a range. Errors: those of [`Self::add`].
    ///
    /// # Safety
    ///
    /// `opaque` must be null, or point to a `struct vdpa_map_file` that lives as long as the range
    /// exists: parents that use user virtual addresses dereference it.
    #[inline]
    pub unsafe fn add_with_opaque(
        &mut self,
        start: u64,
        last: u64,
        addr: u64,
        perm: u32,
        opaque: *mut c_void,
    ) -> Result {
        // SAFETY: By the invariant of `Iotlb` it is initialised, and by ours we are its only user.
        // The caller guarantees `opaque`.
        to_result(unsafe {
            bindings::vhost_iotlb_add_range_ctx(self.as_raw(), start, last, addr, perm, opaque)
        })
    }

    /// Moves all ranges to `to`, without visiting each, if all of them intersect `[start, last]`.
    /// Returns true if it did. No range may overlap another: only the first and the last are
    /// compared.
    #[inline]
    pub fn detach_all(&mut self, start: u64, last: u64, to: &mut DetachedRanges) -> bool {
        if start > last {
            return false;
        }
        let (n, iotlb) = (self.len() as usize, self.as_raw());
        // SAFETY: By the invariant of `Iotlb` it is initialised, and by ours we are its only user.
        // By the invariant of `to` its head is null or the link of a node that only `to` has.
        if !unsafe { bindings::vdpa_common_iotlb_detach_all(iotlb, start, last, &mut to.head) } {
            return false;
        }
        // INVARIANT: The ranges are in no IOTLB any more, and the last of them leads to the old
        // head.
        to.len = to.len.wrapping_add(n);
        true
    }

    /// Adds a range that was in this IOTLB before. There must be room for it.
    pub fn attach(&mut self, range: Detached) {
        let node = range.into_raw();
        // SAFETY: By the invariant of `Iotlb` it is initialised, and by ours we are its only user.
        // Nobody else has the node.
        unsafe { bindings::vdpa_common_iotlb_attach(self.as_raw(), node) }
    }

    /// Removes every range that intersects `[start, last]`, whole, and frees its node.
    pub fn remove(&mut self, start: u64, last: u64) {
        if start > last {
            return;
        }
        // SAFETY: By the invariant of `Iotlb` it is initialised, and by ours we are its only user.
        unsafe { bindings::vhost_iotlb_del_range(self.as_raw(), start, last) }
    }

    /// Returns an object that removes the ranges that intersect `[start, last]` one by one.
    #[inline]
    pub fn take(&mut self, start: u64, last: u64) -> Taking<'_> {
        let next = self.iter(start, last).next;
        // INVARIANT: `next` is the first of these ranges, or null.
        Taking {
            iotlb: self,
            next,
            start,
            last,
        }
    }

    /// Removes all ranges.
    pub fn clear(&mut self) {
        self.remove(0, u64::MAX);
    }
}

impl core::ops::Deref for OwnedIotlb {
    type Target = Iotlb;

    fn deref(&self) -> &Iotlb {
        // SAFETY: By the invariant the pointer is valid; the borrow of `self` excludes writers.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for OwnedIotlb {
    fn drop(&mut self) {
        // SAFETY: By the invariant the pointer came from `vhost_iotlb_alloc()`, and this is the
        // only free.
        unsafe { bindings::vhost_iotlb_free(self.0.as_ptr().cast()) }
    }
}
