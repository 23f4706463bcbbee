// SPDX-License-Identifier: GPL-2.0
// builds

parent! {
    const MAPS: Maps = Maps::Platform;
}
