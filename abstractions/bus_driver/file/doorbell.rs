// SPDX-License-Identifier: GPL-2.0

//! Doorbells in userspace: maps of a device's notification areas.
//!
//! C: `vmf_insert_pfn()`, `unmap_mapping_range()`.

use crate::{bindings, vdpa::Notification};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    alloc::flags::__GFP_ZERO,
    mm::virt::{flags, VmaRef},
    page::{Page, PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    types::NotThreadSafe, //
};

/// Result of a page fault in a doorbell.
pub struct FaultResult(bindings::vm_fault_t);

impl FaultResult {
    /// The access cannot be served: the process gets `SIGBUS`.
    pub const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);
}

/// A file whose maps are doorbells.
pub trait Doorbells {
    /// Handles a page fault in one of the file's maps. Runs with `mmap_lock` or the VMA's lock
    /// held: must not wait for anyone who could wait for either.
    fn fault(&self, fault: &Fault) -> FaultResult;
}

/// VMA that is being set up.
pub struct NewVma<'a> {
    raw: NonNull<bindings::vm_area_struct>,
    _vma: PhantomData<&'a VmaRef>,
    _not_send: NotThreadSafe,
}

impl NewVma<'_> {
    /// Wraps a VMA.
    ///
    /// # Safety
    ///
    /// `raw` must be a VMA that is being set up and stays so for the lifetime of the result.
    pub(super) unsafe fn from_raw(raw: NonNull<bindings::vm_area_struct>) -> Self {
        Self {
            raw,
            _vma: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    fn vma(&self) -> &VmaRef {
        // SAFETY: By the contract of `from_raw` the VMA is valid and nobody else changes it.
        unsafe { VmaRef::from_raw(self.raw.as_ptr()) }
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.vma().end().wrapping_sub(self.vma().start())
    }

    /// Returns true if the map is shared.
    pub fn shared(&self) -> bool {
        self.vma().flags() & flags::SHARED != 0
    }

    /// Returns true if the map can be read.
    pub fn readable(&self) -> bool {
        self.vma().flags() & flags::READ != 0
    }

    /// Returns the offset into the file, in pages.
    pub fn pgoff(&self) -> u64 {
        // SAFETY: By the contract of `from_raw` the VMA is valid.
        unsafe { (*self.raw.as_ptr()).vm_pgoff as u64 }
    }

    /// Makes the VMA a doorbell: uncached, bare page frames, filled in by `T::fault`. `EINVAL` if
    /// it is private: a write would then copy the page frame.
    pub(super) fn install<T: Doorbells>(&self) -> Result {
        if !self.shared() {
            return Err(EINVAL);
        }
        // SAFETY: By the contract of `from_raw` the VMA is being set up; the table is static.
        unsafe { bindings::vhost_vdpa_vma_set_doorbell(self.raw.as_ptr(), &VmOps::<T>::TABLE) };
        Ok(())
    }
}

/// A page fault in a doorbell. Exists only while the fault handler runs.
pub struct Fault(NonNull<bindings::vm_fault>);

impl Fault {
    /// Returns the offset of the map into the file, in pages. A doorbell map has one page.
    pub fn pgoff(&self) -> u64 {
        // SAFETY: The `vm_fault` is valid while the fault handler runs.
        let vma = unsafe { (*self.0.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: The VMA is locked while the fault handler runs.
        unsafe { (*vma).vm_pgoff as u64 }
    }

    fn insert(&self, pfn: u64) -> FaultResult {
        // SAFETY: The `vm_fault` is valid while the fault handler runs.
        let vma = unsafe { (*self.0.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: The `vm_fault` is valid while the fault handler runs; nobody writes to the
        // address.
        let address = unsafe { (*self.0.as_ptr()).__bindgen_anon_1.address };
        let address = address & !(PAGE_SIZE as c_ulong - 1);
        // SAFETY: `vmf_insert_pfn()` must be called from the fault handler of a `VM_PFNMAP` VMA
        // that is not copied on write. A `Fault` exists in that handler only, for VMAs that
        // `install` set up, all of which are shared.
        FaultResult(unsafe { bindings::vmf_insert_pfn(vma, address, pfn as c_ulong) })
    }

    /// Maps the page frame of a device's doorbell; `SIGBUS` if the doorbell is not a whole page.
    pub fn insert_device(&self, bell: Notification) -> FaultResult {
        if !bell.is_page() {
            return FaultResult::SIGBUS;
        }
        self.insert(bell.addr() >> PAGE_SHIFT)
    }

    /// Maps the dummy page of `maps`; `SIGBUS` if these are another file's.
    pub fn insert_dummy(&self, maps: &DoorbellMaps) -> FaultResult {
        // SAFETY: The `vm_fault` is valid while the fault handler runs.
        let vma = unsafe { (*self.0.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: The VMA is locked while the fault handler runs, and holds a reference to its
        // file.
        let mapping = unsafe { bindings::vhost_vdpa_file_mapping((*vma).vm_file) };
        if mapping != maps.mapping.as_ptr() {
            return FaultResult::SIGBUS;
        }
        maps.inserted.store(true, Relaxed);
        // SAFETY: The page is allocated, because `maps` owns it.
        self.insert(unsafe { bindings::vhost_vdpa_page_to_pfn(maps.dummy.as_ptr()) } as u64)
    }
}

/// All maps of one device file, and the dummy page that replaces the doorbells of a removed device.
/// A guest that still rings them is then not killed.
///
/// # Invariants
///
/// `mapping` belongs to an inode to which we own a reference. The frame of `dummy` is only in maps
/// of `mapping`. So it is in no map any more if [`DoorbellMaps::zap`] was the last to change them.
pub struct DoorbellMaps {
    mapping: NonNull<bindings::address_space>,
    dummy: Page,
    /// True if the dummy page may be in a map.
    inserted: Atomic<bool>,
}

// SAFETY: An address space has locks of its own and is not tied to a thread; a page is `Send`.
unsafe impl Send for DoorbellMaps {}
// SAFETY: Shared references call `unmap_mapping_range()`, which takes the mapping's own lock, and
// map the page; its contents are not accessed.
unsafe impl Sync for DoorbellMaps {}

impl DoorbellMaps {
    /// Returns the maps of an open file, with a zeroed dummy page. Errors: `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `file` must be valid and open.
    pub(super) unsafe fn of_file(file: *mut bindings::file) -> Result<Self> {
        let dummy = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: The caller guarantees a valid file.
        let mapping = unsafe { bindings::vhost_vdpa_file_mapping(file) };
        let mapping = NonNull::new(mapping).ok_or(EINVAL)?;
        // SAFETY: The mapping of an open file has an inode, to which the file holds a reference.
        // INVARIANT: This is our own reference; nobody has mapped the new page yet.
        unsafe { bindings::ihold((*mapping.as_ptr()).host) };
        Ok(Self {
            mapping,
            dummy,
            inserted: Atomic::new(false),
        })
    }

    /// Removes every page from every map. The next access faults.
    pub fn zap(&self) {
        // SAFETY: By the invariant the mapping is valid. Offset 0 and size 0 mean all of it.
        unsafe { bindings::unmap_mapping_range(self.mapping.as_ptr(), 0, 0, 1) }
    }
}

impl Drop for DoorbellMaps {
    fn drop(&mut self) {
        // Nobody can insert the page any more, and it is freed after this. A second open that is
        // refused ends here too; it must not zap the maps of the first.
        if self.inserted.load(Relaxed) {
            self.zap();
        }
        // SAFETY: By the invariant we own this reference, and it is put once.
        unsafe { bindings::iput((*self.mapping.as_ptr()).host) }
    }
}

/// VM operations of doorbells of `T`.
struct VmOps<T>(PhantomData<T>);

impl<T: Doorbells> VmOps<T> {
    const TABLE: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(Self::fault),
        ..pin_init::zeroed()
    };

    /// `vm_operations_struct::fault`.
    ///
    /// # Safety
    ///
    /// `vmf` must be a fault in a map whose file has a `T` as its private data.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        let Some(vmf) = NonNull::new(vmf) else {
            return FaultResult::SIGBUS.0;
        };
        // SAFETY: By this function's contract `vmf` is a fault that is being handled.
        let vma = unsafe { (*vmf.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: The VMA is locked while its fault is handled.
        let file = unsafe { (*vma).vm_file };
        // SAFETY: The VMA holds a reference to its file, whose private data stays from `open` to
        // `release`.
        let private = unsafe { (*file).private_data };
        // SAFETY: Only files whose private data is a `T` install this table, and the data lives
        // until the file is released.
        let this = unsafe { &*private.cast::<T>() };
        this.fault(&Fault(vmf)).0
    }
}
