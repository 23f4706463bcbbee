// SPDX-License-Identifier: GPL-2.0
// fails: private maps have no reset_map

parent! {
    const MAPS: Maps = Maps::Private;
}
