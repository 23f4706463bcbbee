#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the Debian package rust-vhost-vdpa-dkms from the checkout, twice, and check it: both are the
# same to the byte, and lintian has nothing to say. The package is left in the checkout.
# Usage: deb.sh
. "$(dirname "$0")/../lib.sh"
. "$PROJECT/tools/image/pack-root.sh"
need_root
pack_root

version=$(package_version)
package=rust-vhost-vdpa-dkms_${version}_all.deb

# build DIR VARIABLE=VALUE...: without build-essential, as nothing is compiled (-d). What differs between the two must not be seen in the package.
build() {
	local dir=$1
	shift
	export_to "$BASE/deb/$dir/rust-vhost-vdpa-$version"
	in_root env "$@" sh -c 'cd "$1" && umask "$UMASK" && dpkg-buildpackage -d -b -us -uc' sh \
		"/cache/deb/$dir/rust-vhost-vdpa-$version"
}
# The package is not for the archive, so no bug is closed by its upload.
lint() {
	in_root lintian --allow-root --info --fail-on error,warning,info --suppress-tags initial-upload-closes-no-bugs \
		"/cache/deb/one/rust-vhost-vdpa_${version}_amd64.changes"
}

as_root rm -rf "$BASE/deb"
step "package $version" build one UMASK=022 TZ=UTC
step "the package once more, elsewhere" build two/deeper UMASK=002 TZ=Asia/Tokyo LC_ALL=C DEB_BUILD_OPTIONS=parallel=2
one=$(sha256sum <"$BASE/deb/one/$package") two=$(sha256sum <"$BASE/deb/two/deeper/$package")
[ "$one" = "$two" ] || die "two builds of the package differ: $BASE/deb/one and $BASE/deb/two/deeper"
step "lintian" lint
cp "$BASE/deb/one/$package" "$PROJECT/$package"
owner=$(stat -c %u:%g "$PROJECT")
as_root chown "$owner" "$PROJECT/$package"
say "$package  sha256 ${one%% *}"
