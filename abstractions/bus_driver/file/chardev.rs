// SPDX-License-Identifier: GPL-2.0

//! Character devices named `vhost-vdpa-N`, and the files that are open on them.
//!
//! C: `struct cdev`, `cdev_device_add()`, `struct file_operations`. The file operations belong to
//! this module, so it cannot be unloaded while a file is open.

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

/// What a file on such a device does. Private data of an open file is a pinned `Self`.
pub trait File: Doorbells + Sized + Send + Sync + 'static {
    /// The module that has the code of the files, and cannot go while one is open.
    const MODULE: &'static ThisModule;

    /// What all files on one device share.
    type Node: Send + Sync + 'static;

    /// Opens a file; `mapping` is where its maps are found.
    fn open(node: Arc<Self::Node>, mapping: DoorbellMaps) -> Result<Pin<KBox<Self>>>;

    /// Closes it: no other call is running or will come.
    fn release(self: Pin<KBox<Self>>);

    /// Handles an ioctl, native or compat: all structures have one layout.
    fn ioctl(self: Pin<&Self>, cmd: u32, arg: usize) -> Result<isize>;

    /// Handles a write; the number of bytes it took.
    fn write(self: Pin<&Self>, from: &mut impl Written) -> Result<usize>;

    /// Checks a new map; on success it becomes a doorbell.
    fn mmap(self: Pin<&Self>, vma: &NewVma<'_>) -> Result;
}

/// What is written to a file.
pub trait Written {
    /// The words that come next, if there are as many.
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

/// The nodes that are published, by minor number.
///
/// An inode remembers the cdev that it was opened with, as long as a file is open on that, so the
/// number decides and not the cdev: it may be another device's by now, or nobody's.
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

/// A range of device numbers for `vhost-vdpa`; given back when dropped.
pub struct Region<N: Send + Sync> {
    dev: bindings::dev_t,
    published: Arc<Published<N>>,
}

/// How many minors there are.
const MINORS: c_uint = 1 << 20;

impl<N: Send + Sync> Region<N> {
    /// Allocates the range.
    pub fn new() -> Result<Self> {
        let published = Arc::pin_init(
            pin_init!(Published {
                nodes <- new_mutex!(RBTree::new(), "Published::nodes"),
            }),
            GFP_KERNEL,
        )?;
        let mut dev = 0;
        // SAFETY: `dev` is a local; the name is static.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut dev, 0, MINORS, c"vhost-vdpa".as_char_ptr())
        })?;
        Ok(Self { dev, published })
    }
}

impl<N: Send + Sync> Drop for Region<N> {
    fn drop(&mut self) {
        // SAFETY: Allocated in `new`.
        unsafe { bindings::unregister_chrdev_region(self.dev, MINORS) }
    }
}

/// The memory behind a device, freed by the embedded `struct device`'s release.
#[repr(C)]
struct Inner<F: File> {
    cdev: Opaque<bindings::cdev>,
    dev: Opaque<bindings::device>,
    published: Arc<Published<F::Node>>,
}

/// A device that is published; withdrawn when dropped. Files that are open stay usable.
///
/// # Invariants
///
/// `inner` is published, and we hold a reference to its `dev`.
pub struct Registration<F: File> {
    inner: NonNull<Inner<F>>,
    _entry: Entry<F::Node>,
}

/// A node in the table of those that are published; out of it when dropped.
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

// SAFETY: Devices are reference counted and not tied to threads.
unsafe impl<F: File> Send for Registration<F> {}
// SAFETY: There is nothing to change through a shared registration.
unsafe impl<F: File> Sync for Registration<F> {}

/// A minor number that nobody else has.
pub struct Minor(c_int);

impl Minor {
    /// Takes the lowest free number.
    pub fn new() -> Result<Self> {
        // SAFETY: The function takes no pointers; its IDA is static and has a lock of its own.
        let minor = unsafe { bindings::vhost_vdpa_minor_alloc() };
        to_result(minor)?;
        Ok(Self(minor))
    }

    /// The number.
    pub fn get(&self) -> c_int {
        self.0
    }
}

impl Drop for Minor {
    fn drop(&mut self) {
        // SAFETY: Ours since `new`.
        unsafe { bindings::vhost_vdpa_minor_free(self.0) }
    }
}

impl<F: File> Registration<F> {
    /// Publishes a device for `node` below `parent`, whose owner keeps the minor number until the
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
        // SAFETY: The function computes with its argument and reads nothing else.
        let major = unsafe { bindings::vhost_vdpa_major(region.dev) };
        let raw = KBox::into_raw(inner);
        // SAFETY: Just allocated; pinned from here on, because only `release` gets it back.
        let inner = unsafe { NonNull::new_unchecked(raw) };
        // SAFETY: `raw` points to an `Inner`, so that the field is inside of the allocation.
        let dev = unsafe { Opaque::cast_into(&raw const (*raw).dev) };
        // SAFETY: `raw` points to an `Inner`, so that the field is inside of the allocation.
        let cdev = unsafe { Opaque::cast_into(&raw const (*raw).cdev) };
        // SAFETY: Zeroed memory that is ours.
        unsafe { bindings::device_initialize(dev) };
        // SAFETY: Initialised and not yet published.
        unsafe { (*dev).release = Some(Self::release_device) };
        // SAFETY: `dev` is initialised and not yet published, so nobody else writes to it. The parent
        // is there as long as the device is published: `parent` is bound to the driver.
        unsafe { (*dev).parent = core::ptr::from_ref(parent).cast_mut().cast() };
        // SAFETY: `dev` is initialised and not yet published, so nobody else writes to it.
        unsafe { (*dev).devt = bindings::vhost_vdpa_mkdev(major, number) };
        // From here on `release_device` frees the memory.
        let guard = DeviceRef(dev);
        // SAFETY: Initialised.
        to_result(unsafe { bindings::vhost_vdpa_device_set_name(dev, minor.get()) })?;
        // SAFETY: Zeroed memory that is ours; the table is static.
        unsafe { bindings::cdev_init(cdev, &Fops::<F>::TABLE.0) };
        // SAFETY: `cdev` is initialised and not yet published, so nobody else writes to it.
        unsafe { (*cdev).owner = F::MODULE.as_ptr() };
        // SAFETY: Both are initialised.
        to_result(unsafe { bindings::cdev_device_add(cdev, dev) })?;
        core::mem::forget(guard);
        // INVARIANT: Published, and `device_initialize` gave us the reference.
        Ok(Self {
            inner,
            _entry: entry,
        })
    }

    /// Frees the memory behind a device.
    ///
    /// # Safety
    ///
    /// `dev` must be the device of an [`Inner`] from `new` to which nobody refers any more.
    unsafe extern "C" fn release_device(dev: *mut bindings::device) {
        // SAFETY: The device is the field of an `Inner` from `new`, and nobody refers to it.
        let inner = unsafe { dev.byte_sub(offset_of!(Inner<F>, dev)) }.cast::<Inner<F>>();
        // SAFETY: `new` made a raw pointer of a box, and the last reference, which owned it, is gone.
        drop(unsafe { KBox::from_raw(inner) });
    }
}

impl<F: File> Drop for Registration<F> {
    fn drop(&mut self) {
        // SAFETY: Valid by the invariant.
        let inner = unsafe { self.inner.as_ref() };
        // SAFETY: Published by the invariant.
        unsafe { bindings::cdev_device_del(inner.cdev.get(), inner.dev.get()) };
        // SAFETY: The parent may go away now; nothing of ours looks at it any more.
        unsafe { (*inner.dev.get()).parent = core::ptr::null_mut() };
        drop(DeviceRef(inner.dev.get()));
    }
}

/// One reference to a `struct device`.
struct DeviceRef(*mut bindings::device);

impl Drop for DeviceRef {
    fn drop(&mut self) {
        // SAFETY: Gives up the reference that the creator owned.
        unsafe { bindings::put_device(self.0) }
    }
}

/// A file operation table, which is constant although it holds pointers.
struct Table(bindings::file_operations);

// SAFETY: Constant.
unsafe impl Sync for Table {}

/// The file operations of `F`.
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

    /// # Safety
    ///
    /// `file` must be open on one of our devices.
    unsafe fn file<'a>(file: *mut bindings::file) -> Pin<&'a F> {
        // SAFETY: The caller vouches for the file; `open` set its private data.
        let this = unsafe { &*(*file).private_data.cast::<F>() };
        // SAFETY: It came out of a pinned box.
        unsafe { Pin::new_unchecked(this) }
    }

    /// `file_operations::open`.
    ///
    /// # Safety
    ///
    /// `inode` and `file` must be those of a file being opened on one of our devices.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: `chrdev_open` found the inode's cdev and holds it.
            let cdev = unsafe { bindings::vhost_vdpa_inode_cdev(inode) };
            // SAFETY: The cdev is the first field of an `Inner`, which its reference keeps.
            let inner = unsafe { &*cdev.cast::<Inner<F>>() };
            // SAFETY: The caller gives the inode of the file being opened.
            let minor = unsafe { bindings::vhost_vdpa_inode_minor(inode) };
            let node = inner.published.find(minor)?;
            // SAFETY: The file is being opened and so valid.
            let mapping = unsafe { DoorbellMaps::of_file(file) }?;
            let this = F::open(node, mapping)?;
            // SAFETY: Pinned until `release` makes a box of it again.
            let this = KBox::into_raw(unsafe { Pin::into_inner_unchecked(this) });
            // SAFETY: The private data of a file being opened is ours.
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
        // SAFETY: Set by `open`; nobody else uses the file any more.
        let this: KBox<F> = unsafe { KBox::from_raw((*file).private_data.cast()) };
        // SAFETY: The file is valid until this returns, and nobody else uses its private data.
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
        // SAFETY: The file is open on one of our devices.
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
        // SAFETY: The file is open on one of our devices.
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
        // SAFETY: The kiocb's file is open on one of our devices.
        let this = unsafe { Self::file((*kiocb).ki_filp) };
        // SAFETY: The caller gives a valid source.
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
            // SAFETY: The file is open on one of our devices.
            let this = unsafe { Self::file(file) };
            let vma = NonNull::new(vma).ok_or(EINVAL)?;
            // SAFETY: The VMA is being set up for the duration of this call.
            let vma = unsafe { NewVma::from_raw(vma) };
            F::mmap(this, &vma)?;
            vma.install::<F>()?;
            Ok(0)
        })
    }
}
