// SPDX-License-Identifier: GPL-2.0

//! Doorbells in userspace: memory maps of a device's notification areas.
//!
//! C: `vmf_insert_pfn()`, `unmap_mapping_range()`.

use super::{bindings, vdpa::Notification};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    mm::virt::{flags, VmaRef},
    page::{Page, PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
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

    /// Maps the dummy page.
    pub fn insert_dummy(&self, page: &'_ DummyPage) -> FaultResult {
        // SAFETY: A page that we own.
        self.insert(unsafe { bindings::vhost_vdpa_page_to_pfn(page.0.as_ptr()) } as u64)
    }
}

/// A page of memory that stands in for the doorbells of a device that is gone, so that a guest
/// which still rings them is not killed. It must live as long as the file.
pub struct DummyPage(Page);

impl DummyPage {
    /// Allocates the page, zeroed.
    pub fn new() -> Result<Self> {
        Ok(Self(Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?))
    }
}

use kernel::alloc::flags::__GFP_ZERO;

/// All maps of one device file.
///
/// # Invariants
///
/// `mapping` belongs to an inode to which we hold a reference.
pub struct Mapping(NonNull<bindings::address_space>);

// SAFETY: An address space has locks of its own and is not tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: A shared reference allows `zap`, and `unmap_mapping_range()` takes the mapping's own lock.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The maps of an open file.
    ///
    /// # Safety
    ///
    /// `file` must be valid.
    pub(super) unsafe fn of_file(file: *mut bindings::file) -> Result<Self> {
        // SAFETY: The caller vouches for the file.
        let mapping = unsafe { bindings::vhost_vdpa_file_mapping(file) };
        let mapping = NonNull::new(mapping).ok_or(EINVAL)?;
        // SAFETY: An open file's mapping has an inode, which the file holds.
        // INVARIANT: Now we hold it too.
        unsafe { bindings::ihold((*mapping.as_ptr()).host) };
        Ok(Self(mapping))
    }

    /// Takes every page out of every map; the next access faults.
    pub fn zap(&self) {
        // SAFETY: Valid by the invariant. Offset 0 and size 0 mean all of it.
        unsafe { bindings::unmap_mapping_range(self.0.as_ptr(), 0, 0, 1) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: Gives up the reference of the invariant.
        unsafe { bindings::iput((*self.0.as_ptr()).host) }
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
