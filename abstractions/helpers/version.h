/* SPDX-License-Identifier: GPL-2.0 */
/* MODULE_VERSION of every module: the version of debian/changelog. */
#include <linux/module.h>

MODULE_VERSION("0.1.0");
