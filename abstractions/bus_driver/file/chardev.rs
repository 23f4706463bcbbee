// SPDX-License-Identifier: GPL-2.0

//! Character devices named `vhost-vdpa-N`, and the files that are open on them.
//!
//! C: `struct cdev`, `cdev_device_add()`, `struct file_operations`. An open file pins the module
//! that has its file operations.

use crate::{
    bindings,
    doorbell::{DoorbellMaps, Doorbells, NewVma}, //
};
use core::{
    marker::PhantomData,
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    device::Device,
    error::{from_result, to_result},
    iov::IovIterSource,
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::{Arc, Mutex},
    transmute::AsBytes,
    types::Opaque,
    uaccess::{UserPtr, UserSlice, UserSliceReader}, //
};

/// File operations of such a device. The private data of an open file is a pinned `Self`.
pub trait File: Doorbells + Sized + Send + Sync + 'static {
    /// The module that has the code of the files. It cannot be unloaded while a file is open.
    const MODULE: &'static ThisModule;

    /// Data that all files on one device share.
    type Node: Send + Sync + 'static;

    /// Opens a file. `mapping` finds the maps of the file.
    fn open(node: Arc<Self::Node>, mapping: DoorbellMaps) -> Result<Pin<KBox<Self>>>;

    /// Closes the file. No other call is running, and none follows.
    fn release(self: Pin<KBox<Self>>);

    /// Handles an ioctl, native or compat: all structures have the same layout in both.
    fn ioctl(self: Pin<&Self>, cmd: u32, arg: usize) -> Result<isize>;

    /// Handles a write. Returns the number of bytes that were consumed.
    fn write(self: Pin<&Self>, from: &mut impl Written) -> Result<usize>;

    /// Checks a new map. If this succeeds, the map becomes a doorbell.
    fn mmap(self: Pin<&Self>, vma: &NewVma<'_>) -> Result;
}

/// Data that is written to a file.
pub trait Written {
    /// Copies the next `N` 64-bit words. Returns `None` if there are fewer or they cannot be read.
    fn words<const N: usize>(&mut self) -> Option<[u64; N]>;
}

impl Written for IovIterSource<'_> {
    #[inline]
    fn words<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut words = [0; N];
        let bytes = AsBytes::as_bytes_mut(&mut words);
        (self.copy_from_iter(bytes) == size_of::<[u64; N]>()).then_some(words)
    }
}

impl Written for UserSliceReader {
    #[inline]
    fn words<const N: usize>(&mut self) -> Option<[u64; N]> {
        self.read().ok()
    }
}

/// Published nodes by minor number.
///
/// An inode keeps the cdev that it was first opened with as long as a file is open on it. So `open`
/// looks up the minor number and not the cdev: the number may be another device's by now, or free.
#[pin_data]
struct Published<N: Send + Sync> {
    #[pin]
    nodes: Mutex<RBTree<c_uint, Arc<N>>>,
}

impl<N: Send + Sync> Published<N> {
    fn find(&self, minor: c_uint) -> Result<Arc<N>> {
        self.nodes.lock().get(&minor).cloned().ok_or(ENODEV)
    }
}

/// Range of device numbers for `vhost-vdpa`. Dropping it unregisters the range.
pub struct Region<N: Send + Sync> {
    dev: bindings::dev_t,
    published: Arc<Published<N>>,
}

/// Number of minors.
const MINORS: c_uint = 1 << 20;

impl<N: Send + Sync> Region<N> {
    /// Allocates the range. Errors: `ENOMEM`, or those of `alloc_chrdev_region()`.
    pub fn new() -> Result<Self> {
        let published = Arc::pin_init(
            pin_init!(Published {
                nodes <- new_mutex!(RBTree::new(), "Published::nodes"),
            }),
            GFP_KERNEL,
        )?;
        let mut dev = 0;
        // SAFETY: `dev` is valid for writes during the call; the name is static.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut dev, 0, MINORS, c"vhost-vdpa".as_char_ptr())
        })?;
        Ok(Self { dev, published })
    }
}

impl<N: Send + Sync> Drop for Region<N> {
    fn drop(&mut self) {
        // SAFETY: `new` allocated this range, and only `drop` unregisters it.
        unsafe { bindings::unregister_chrdev_region(self.dev, MINORS) }
    }
}

/// Memory of a device. The release of the embedded `struct device` frees it.
#[repr(C)]
struct Inner<F: File> {
    cdev: Opaque<bindings::cdev>,
    dev: Opaque<bindings::device>,
    published: Arc<Published<F::Node>>,
}

/// Published device. Dropping it unpublishes the device; files that are open stay usable.
///
/// # Invariants
///
/// `inner` is published, and we own a reference to its `dev`.
pub struct Registration<F: File> {
    inner: NonNull<Inner<F>>,
    _entry: Entry<F::Node>,
}

/// Entry of a node in the table of published nodes. Dropping it removes the entry.
struct Entry<N: Send + Sync> {
    published: Arc<Published<N>>,
    minor: c_uint,
}

impl<N: Send + Sync> Drop for Entry<N> {
    fn drop(&mut self) {
        let node = self.published.nodes.lock().remove(&self.minor);
        drop(node);
    }
}

// SAFETY: A `struct device` is reference counted and not tied to a thread; `F::Node` is `Send`.
unsafe impl<F: File> Send for Registration<F> {}
// SAFETY: No method takes a shared registration.
unsafe impl<F: File> Sync for Registration<F> {}

/// Minor number, which nobody else has until this is dropped.
pub struct Minor(c_int);

impl Minor {
    /// Allocates the lowest free number. Errors: `ENOMEM`, `ENOSPC`.
    pub fn new() -> Result<Self> {
        // SAFETY: The function has no preconditions: its IDA is static and has a lock of its own.
        let minor = unsafe { bindings::vhost_vdpa_minor_alloc() };
        to_result(minor)?;
        Ok(Self(minor))
    }

    /// Returns the number.
    pub fn get(&self) -> c_int {
        self.0
    }
}

impl Drop for Minor {
    fn drop(&mut self) {
        // SAFETY: `new` allocated the number, and only `drop` frees it.
        unsafe { bindings::vhost_vdpa_minor_free(self.0) }
    }
}

impl<F: File> Registration<F> {
    /// Publishes a device for `node` below `parent`. The caller keeps `minor` until the
    /// registration is dropped. Files may be opened before this returns, even if it fails.
    pub fn new(
        region: &Region<F::Node>,
        minor: &Minor,
        parent: &Device,
        node: Arc<F::Node>,
    ) -> Result<Self> {
        let inner = KBox::new(
            Inner::<F> {
                cdev: Opaque::zeroed(),
                dev: Opaque::zeroed(),
                published: region.published.clone(),
            },
            GFP_KERNEL,
        )?;
        let number = minor.get() as c_uint;
        (region.published.nodes.lock()).try_create_and_insert(number, node, GFP_KERNEL)?;
        let entry = Entry {
            published: region.published.clone(),
            minor: number,
        };
        // SAFETY: The function only computes with its argument.
        let major = unsafe { bindings::vhost_vdpa_major(region.dev) };
        let raw = KBox::into_raw(inner);
        // SAFETY: A box is not null. From here on it does not move: only `release_device` takes it
        // back.
        let inner = unsafe { NonNull::new_unchecked(raw) };
        // SAFETY: `raw` points to an `Inner`, so the field is inside of the allocation.
        let dev = unsafe { Opaque::cast_into(&raw const (*raw).dev) };
        // SAFETY: `raw` points to an `Inner`, so the field is inside of the allocation.
        let cdev = unsafe { Opaque::cast_into(&raw const (*raw).cdev) };
        // SAFETY: `dev` is zeroed memory that nobody else has.
        unsafe { bindings::device_initialize(dev) };
        // SAFETY: `dev` is initialised and not yet published, so nobody else writes to it.
        unsafe { (*dev).release = Some(Self::release_device) };
        // SAFETY: `dev` is initialised and not yet published, so nobody else writes to it. The
        // parent outlives the publication, because `parent` is bound to the driver until then.
        unsafe { (*dev).parent = core::ptr::from_ref(parent).cast_mut().cast() };
        // SAFETY: `dev` is initialised and not yet published, so nobody else writes to it.
        unsafe { (*dev).devt = bindings::vhost_vdpa_mkdev(major, number) };
        // From here on `release_device` frees the memory, once the last reference is put.
        let guard = DeviceRef(dev);
        // SAFETY: `dev` is initialised and not yet published.
        to_result(unsafe { bindings::vhost_vdpa_device_set_name(dev, minor.get()) })?;
        // SAFETY: `cdev` is zeroed memory that nobody else has; the table is static.
        unsafe { bindings::cdev_init(cdev, &Fops::<F>::TABLE.0) };
        // SAFETY: `cdev` is initialised and not yet published, so nobody else writes to it.
        unsafe { (*cdev).owner = F::MODULE.as_ptr() };
        // SAFETY: `cdev` and `dev` are initialised, and `dev` has its name and number.
        to_result(unsafe { bindings::cdev_device_add(cdev, dev) })?;
        core::mem::forget(guard);
        // INVARIANT: The device is published, and `device_initialize` gave us the reference.
        Ok(Self {
            inner,
            _entry: entry,
        })
    }

    /// Frees the memory of a device.
    ///
    /// # Safety
    ///
    /// `dev` must be the device of an [`Inner`] from `new` to which nobody has a reference any
    /// more.
    unsafe extern "C" fn release_device(dev: *mut bindings::device) {
        // SAFETY: By this function's contract the device is the field of an `Inner`.
        let inner = unsafe { dev.byte_sub(offset_of!(Inner<F>, dev)) }.cast::<Inner<F>>();
        // SAFETY: `new` made the pointer from a box, and the last reference, which owned it, is
        // gone.
        drop(unsafe { KBox::from_raw(inner) });
    }
}

impl<F: File> Drop for Registration<F> {
    fn drop(&mut self) {
        // SAFETY: By the invariant we own a reference, which keeps `inner`.
        let inner = unsafe { self.inner.as_ref() };
        // SAFETY: By the invariant both are published, and this is the only place that removes
        // them.
        unsafe { bindings::cdev_device_del(inner.cdev.get(), inner.dev.get()) };
        // SAFETY: The device is unpublished, so nobody else uses its parent, which may now go away.
        unsafe { (*inner.dev.get()).parent = core::ptr::null_mut() };
        drop(DeviceRef(inner.dev.get()));
    }
}

/// One reference to a `struct device`. Dropping it puts the reference.
struct DeviceRef(*mut bindings::device);

impl Drop for DeviceRef {
    fn drop(&mut self) {
        // SAFETY: The creator of this object owned the reference and gave it up.
        unsafe { bindings::put_device(self.0) }
    }
}

/// File operation table.
struct Table(bindings::file_operations);

// SAFETY: The table is constant.
unsafe impl Sync for Table {}

/// File operations of `F`.
struct Fops<F>(PhantomData<F>);

impl<F: File> Fops<F> {
    const TABLE: &'static Table = &Table(bindings::file_operations {
        owner: F::MODULE.as_ptr(),
        open: Some(Self::open),
        release: Some(Self::release),
        // `write(2)` takes this way, which needs no iterator; `writev(2)` and io_uring the other.
        write: Some(Self::write),
        write_iter: Some(Self::write_iter),
        unlocked_ioctl: Some(Self::ioctl),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: bindings::compat_ptr_ioctl,
        mmap: Some(Self::mmap),
        ..pin_init::zeroed()
    });

    /// Returns the private data of a file.
    ///
    /// # Safety
    ///
    /// `file` must be open on one of our devices for `'a`.
    unsafe fn file<'a>(file: *mut bindings::file) -> Pin<&'a F> {
        // SAFETY: The caller guarantees an open file; `open` set its private data to an `F`, which
        // stays until `release`.
        let this = unsafe { &*(*file).private_data.cast::<F>() };
        // SAFETY: `open` took the pointer from a pinned box.
        unsafe { Pin::new_unchecked(this) }
    }

    /// `file_operations::open`.
    ///
    /// # Safety
    ///
    /// `inode` and `file` must be those of a file being opened on one of our devices.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: `chrdev_open()` set the inode's cdev and holds a reference to it.
            let cdev = unsafe { bindings::vhost_vdpa_inode_cdev(inode) };
            // SAFETY: Only cdevs of an `Inner`, of which they are the first field, have these
            // operations; the reference to the cdev keeps it.
            let inner = unsafe { &*cdev.cast::<Inner<F>>() };
            // SAFETY: The caller passes the inode of the file being opened.
            let minor = unsafe { bindings::vhost_vdpa_inode_minor(inode) };
            let node = inner.published.find(minor)?;
            // SAFETY: The caller passes the file being opened, which is valid.
            let mapping = unsafe { DoorbellMaps::of_file(file) }?;
            let this = F::open(node, mapping)?;
            // SAFETY: The value does not move: only `release` takes it back, as a pinned box.
            let this = KBox::into_raw(unsafe { Pin::into_inner_unchecked(this) });
            // SAFETY: Nobody else uses the private data of a file that is being opened.
            unsafe { (*file).private_data = this.cast() };
            Ok(0)
        })
    }

    /// `file_operations::release`.
    ///
    /// # Safety
    ///
    /// `file` must be open on one of our devices, and nobody may use it any more.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` made the pointer from a box; nobody else uses the file any more.
        let this: KBox<F> = unsafe { KBox::from_raw((*file).private_data.cast()) };
        // SAFETY: The file is valid until this returns, and nobody else uses it any more.
        unsafe { (*file).private_data = core::ptr::null_mut() };
        F::release(this.into());
        0
    }

    /// `file_operations::unlocked_ioctl`.
    ///
    /// # Safety
    ///
    /// `file` must be open on one of our devices.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: By this function's contract the file is open on one of our devices.
        let this = unsafe { Self::file(file) };
        from_result(|| F::ioctl(this, cmd, arg))
    }

    /// `file_operations::write`.
    ///
    /// # Safety
    ///
    /// `file` must be open on one of our devices.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        buf: *const c_char,
        len: usize,
        _pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: By this function's contract the file is open on one of our devices.
        let this = unsafe { Self::file(file) };
        let mut reader = UserSlice::new(UserPtr::from_ptr(buf.cast_mut().cast()), len).reader();
        from_result(|| F::write(this, &mut reader).map(|n| n as isize))
    }

    /// `file_operations::write_iter`.
    ///
    /// # Safety
    ///
    /// The file of `kiocb` must be open on one of our devices, and `iov` a valid source.
    unsafe extern "C" fn write_iter(
        kiocb: *mut bindings::kiocb,
        iov: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: By this function's contract the kiocb's file is open on one of our devices.
        let this = unsafe { Self::file((*kiocb).ki_filp) };
        // SAFETY: By this function's contract `iov` is a valid source, during the call.
        let iov = unsafe { IovIterSource::from_raw(iov) };
        from_result(|| F::write(this, iov).map(|n| n as isize))
    }

    /// `file_operations::mmap`.
    ///
    /// # Safety
    ///
    /// `file` must be open on one of our devices, and `vma` be set up for it.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By this function's contract the file is open on one of our devices.
            let this = unsafe { Self::file(file) };
            let vma = NonNull::new(vma).ok_or(EINVAL)?;
            // SAFETY: By this function's contract the VMA is being set up, until this call returns.
            let vma = unsafe { NewVma::from_raw(vma) };
            F::mmap(this, &vma)?;
            vma.install::<F>()?;
            Ok(0)
        })
    }
}
