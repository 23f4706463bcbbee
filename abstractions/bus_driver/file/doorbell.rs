// SPDX-License-Identifier: GPL-2.0

//! Doorbells in userspace: memory maps of a device's notification areas.
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

/// What a page fault in a doorbell ends with.
pub struct FaultResult(bindings::vm_fault_t);

impl FaultResult {
    /// The access cannot be served.
    pub const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);
}

/// A file whose maps are doorbells.
pub trait Doorbells {
    /// A page fault in one of the file's maps. Runs with the `mmap_lock` or the VMA's lock held:
    /// must not wait for anyone who could wait for either.
    fn fault(&self, fault: &Fault) -> FaultResult;
}

/// A VMA that is being set up.
pub struct NewVma<'a> {
    raw: NonNull<bindings::vm_area_struct>,
    _vma: PhantomData<&'a VmaRef>,
    _not_send: NotThreadSafe,
}

impl NewVma<'_> {
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
        // SAFETY: Valid by `from_raw`.
        unsafe { VmaRef::from_raw(self.raw.as_ptr()) }
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.vma().end().wrapping_sub(self.vma().start())
    }

    /// Whether it is shared.
    pub fn shared(&self) -> bool {
        self.vma().flags() & flags::SHARED != 0
    }

    /// Whether it can be read.
    pub fn readable(&self) -> bool {
        self.vma().flags() & flags::READ != 0
    }

    /// Its offset into the file, in pages.
    pub fn pgoff(&self) -> u64 {
        // SAFETY: Valid by `from_raw`.
        unsafe { (*self.raw.as_ptr()).vm_pgoff as u64 }
    }

    /// Makes it a doorbell: uncached, bare page frames, filled by `T::fault`. `EINVAL` if it is
    /// private: copies of page frames would be made when it is written.
    pub(super) fn install<T: Doorbells>(&self) -> Result {
        if !self.shared() {
            return Err(EINVAL);
        }
        // SAFETY: Valid by `from_raw`; the table is static.
        unsafe { bindings::vhost_vdpa_vma_set_doorbell(self.raw.as_ptr(), &VmOps::<T>::TABLE) };
        Ok(())
    }
}

/// A page fault.
pub struct Fault(NonNull<bindings::vm_fault>);

impl Fault {
    /// The offset of the map into the file, in pages. A doorbell map has one page.
    pub fn pgoff(&self) -> u64 {
        // SAFETY: Valid for the duration of the fault.
        let vma = unsafe { (*self.0.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: Locked for the duration of the fault.
        unsafe { (*vma).vm_pgoff as u64 }
    }

    fn insert(&self, pfn: u64) -> FaultResult {
        // SAFETY: Valid for the duration of the fault.
        let vma = unsafe { (*self.0.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: Valid for the duration of the fault; nobody writes to the address.
        let address = unsafe { (*self.0.as_ptr()).__bindgen_anon_1.address };
        let address = address & !(PAGE_SIZE as c_ulong - 1);
        // SAFETY: `vmf_insert_pfn()` wants the fault handler of a VMA of page frames that is not copied on
        // write: a `Fault` exists in that handler only, of VMAs that `install` set up, which are shared.
        FaultResult(unsafe { bindings::vmf_insert_pfn(vma, address, pfn as c_ulong) })
    }

    /// Maps the page frame of a device's doorbell; `SIGBUS` if that does not have all of the page.
    pub fn insert_device(&self, bell: Notification) -> FaultResult {
        if !bell.is_page() {
            return FaultResult::SIGBUS;
        }
        self.insert(bell.addr() >> PAGE_SHIFT)
    }

    /// Maps the dummy page of the file's maps; `SIGBUS` if they are another file's.
    pub fn insert_dummy(&self, maps: &DoorbellMaps) -> FaultResult {
        // SAFETY: Valid for the duration of the fault.
        let vma = unsafe { (*self.0.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: The VMA is locked for the duration of the fault, and holds its file.
        let mapping = unsafe { bindings::vhost_vdpa_file_mapping((*vma).vm_file) };
        if mapping != maps.mapping.as_ptr() {
            return FaultResult::SIGBUS;
        }
        maps.inserted.store(true, Relaxed);
        // SAFETY: A page that `maps` owns.
        self.insert(unsafe { bindings::vhost_vdpa_page_to_pfn(maps.dummy.as_ptr()) } as u64)
    }
}

/// All maps of one device file, and a page of memory that stands in for the doorbells of a device
/// that is gone, so that a guest which still rings them is not killed.
///
/// # Invariants
///
/// `mapping` belongs to an inode to which we hold a reference. The frame of `dummy` is in no maps but
/// those of `mapping`, so that it is in none once [`DoorbellMaps::zap`] was the last to change them.
pub struct DoorbellMaps {
    mapping: NonNull<bindings::address_space>,
    dummy: Page,
    /// The dummy page may be in a map.
    inserted: Atomic<bool>,
}

// SAFETY: An address space has locks of its own and is not tied to a thread; a page is `Send`.
unsafe impl Send for DoorbellMaps {}
// SAFETY: A shared reference allows `zap`, and `unmap_mapping_range()` takes the mapping's own lock; the
// page is only mapped.
unsafe impl Sync for DoorbellMaps {}

impl DoorbellMaps {
    /// The maps of an open file, with a dummy page of zeroes. `ENOMEM` without memory for that.
    ///
    /// # Safety
    ///
    /// `file` must be valid.
    pub(super) unsafe fn of_file(file: *mut bindings::file) -> Result<Self> {
        let dummy = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: The caller vouches for the file.
        let mapping = unsafe { bindings::vhost_vdpa_file_mapping(file) };
        let mapping = NonNull::new(mapping).ok_or(EINVAL)?;
        // SAFETY: An open file's mapping has an inode, which the file holds.
        // INVARIANT: Now we hold it too; the page is new.
        unsafe { bindings::ihold((*mapping.as_ptr()).host) };
        Ok(Self {
            mapping,
            dummy,
            inserted: Atomic::new(false),
        })
    }

    /// Takes every page out of every map; the next access faults.
    pub fn zap(&self) {
        // SAFETY: Valid by the invariant. Offset 0 and size 0 mean all of it.
        unsafe { bindings::unmap_mapping_range(self.mapping.as_ptr(), 0, 0, 1) }
    }
}

impl Drop for DoorbellMaps {
    fn drop(&mut self) {
        // Nobody can insert the page any more, and it goes after this. A second open that is refused
        // ends here, too: it is to leave the maps of the first alone.
        if self.inserted.load(Relaxed) {
            self.zap();
        }
        // SAFETY: Gives up the reference of the invariant.
        unsafe { bindings::iput((*self.mapping.as_ptr()).host) }
    }
}

/// The VM operations of doorbells of `T`.
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
        // SAFETY: Valid for the duration of the fault.
        let vma = unsafe { (*vmf.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: The VMA holds its file.
        let file = unsafe { (*vma).vm_file };
        // SAFETY: The VMA holds its file, whose private data was set in `open` and stays until `release`.
        let private = unsafe { (*file).private_data };
        // SAFETY: Only files whose private data is a `T` install this table, and it lives as long
        // as the file.
        let this = unsafe { &*private.cast::<T>() };
        this.fault(&Fault(vmf)).0
    }
}
