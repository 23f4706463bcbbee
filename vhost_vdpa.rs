// SPDX-License-Identifier: GPL-2.0

//! vhost-vdpa: the driver through which userspace owns vDPA devices.
//!
//! For each device on the vdpa bus that it binds to, this driver publishes `/dev/vhost-vdpa-N`. The
//! process that opens it (one at a time) owns the device: it negotiates features, sets up
//! virtqueues, maps its memory for the device and starts it. The ABI is that of C's
//! `drivers/vhost/vdpa.c`.
//!
//! | file | contents |
//! |---|---|
//! | `vhost_vdpa.rs` | module, driver of the bus: probe and removal |
//! | `driver/device.rs` | [`VhostVdpa`]: start, stop, reset, revocation; the order of locks |
//! | `driver/file.rs` | the file operations: open, release, write, mmap, dispatch of ioctls |
//! | `driver/ioctl.rs` | one function per ioctl |
//! | `driver/message.rs` | IOTLB messages: pinning, mapping, batches |
//! | `driver/debug.rs` | debugfs |
//! | `driver/uapi.rs` | numbers and structures of the ABI |
//! | `iotlb.rs` | address spaces: passing maps to the device, and unpinning pages |
//! | `backend_features.rs` | the backend features that are offered and may be acked |
//! | `abstractions/` | the libraries of safe wrappers, with all of the `unsafe` code |

#![forbid(unsafe_code)]

mod backend_features;
mod driver;
mod iotlb;

use driver::{
    debug,
    device::VhostVdpa,
    file::OpenFile,
    uapi::eopnotsupp, //
};
use kernel::{
    debugfs, device, new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vdpa_bus_driver::{
    chardev::{self, Minor, Region},
    revocable::AccessToken,
    vdpa::{Device, MapStyle},
    vdpa_driver::{self, Driver},
};

module! {
    type: VhostVdpaModule,
    name: "rust_vhost_vdpa",
    authors: ["The rust_vhost_vdpa authors"],
    description: "vDPA-based vhost backend for virtio, in Rust",
    license: "GPL v2",
}

/// The module. Unregistering the driver removes every device from it.
#[pin_data]
struct VhostVdpaModule {
    #[pin]
    driver: vdpa_driver::Registration<Published>,
}

impl kernel::InPlaceModule for VhostVdpaModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            driver <- pin_init::pin_init_scope(move || {
                let shared = Shared {
                    region: Region::new()?,
                    debugfs: debugfs::Dir::new(c"rust_vhost_vdpa"),
                };
                Ok(vdpa_driver::Registration::new(shared, module))
            }),
        }? Error)
    }
}

/// Data that all devices share.
struct Shared {
    region: Region<VhostVdpa>,
    debugfs: debugfs::Dir,
}

/// Device that is bound to this driver, with its registrations.
///
/// Fields drop in order: first no file can be opened any more, then debugfs goes, then our
/// reference to the node, and then the minor number.
struct Published {
    chardev: Mutexed<Option<chardev::Registration<OpenFile>>>,
    debugfs: Mutexed<Option<debug::Files>>,
    node: Arc<VhostVdpa>,
    /// The N in the device's name, which stays allocated as long as the device is published.
    minor: Minor,
}

/// A value that removal takes out through a shared reference.
type Mutexed<T> = Pin<KBox<Mutex<T>>>;

impl Driver for Published {
    type Shared = Shared;

    const NAME: &'static CStr = c"vhost_vdpa";

    fn probe(shared: &Shared, dev: &Device, token: AccessToken) -> Result<Pin<KBox<Self>>> {
        // One IOMMU domain cannot serve several groups or address spaces.
        if dev.map_style() == MapStyle::Platform && (dev.ngroups() > 1 || dev.nas() > 1) {
            return Err(eopnotsupp());
        }
        // The backend features that messages depend on are those of the first queue, as in C, which
        // crashes without one.
        if dev.nvqs() == 0 || dev.nvqs() > u32::from(u16::MAX) + 1 {
            return Err(EINVAL);
        }
        let minor = Minor::new()?;
        let node = VhostVdpa::new(dev, minor.get(), token)?;
        let files = debug::Files::new(&shared.debugfs, minor.get(), &node)?;
        Ok(KBox::pin(
            Self {
                chardev: KBox::pin_init(new_mutex!(None), GFP_KERNEL)?,
                debugfs: KBox::pin_init(new_mutex!(Some(files)), GFP_KERNEL)?,
                node,
                minor,
            },
            GFP_KERNEL,
        )?)
    }

    fn publish(self: Pin<&Self>, shared: &Shared, dev: &device::Device) -> Result {
        let node = self.node.clone();
        // Files may be opened from here on.
        let chardev = chardev::Registration::new(&shared.region, &self.minor, dev, node)?;
        *self.chardev.lock() = Some(chardev);
        Ok(())
    }

    fn remove(self: Pin<&Self>, dev: &Device) {
        let chardev = self.chardev.lock().take();
        drop(chardev);
        self.node.end_for_removal(dev);
        // The slots may be freed with the node; an interrupt handler of the parent may still use
        // one.
        self.node.calls.wait_for_callbacks();
        let files = self.debugfs.lock().take();
        drop(files);
    }
}
