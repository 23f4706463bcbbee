// SPDX-License-Identifier: GPL-2.0
// fails: resume needs suspend

parent! {
    const MAPS: Maps = Maps::Platform;

    fn resume(&self) -> Result {
        Ok(())
    }
}
