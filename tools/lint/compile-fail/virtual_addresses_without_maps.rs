// SPDX-License-Identifier: GPL-2.0
// fails: virtual addresses need set_map or dma_map

parent! {
    const MAPS: Maps = Maps::Platform;
    const USE_VA: bool = true;
}
