# SPDX-License-Identifier: GPL-2.0
# What the host needs to make a root. Sourced after lib.sh.

install_host_packages() {
	[ -z "${VHOST_VDPA_LISTS:-}" ] || return 0
	local want=() p
	for p in mmdebstrap xz-utils debian-archive-keyring procps; do
		dpkg-query -W -f '${db:Status-Abbrev}\n' "$p" 2>/dev/null | grep -q '^ii' || want+=("$p")
	done
	# Trixie's archive keys came with later versions of the keyring package.
	ls /usr/share/keyrings/debian-archive-trixie-automatic.* >/dev/null 2>&1 ||
		[[ " ${want[*]} " == *' debian-archive-keyring '* ]] || want+=(debian-archive-keyring)
	[ ${#want[@]} -gt 0 ] || return 0
	step "host packages: ${want[*]}" as_root sh -c '
		export DEBIAN_FRONTEND=noninteractive
		apt-get -q update && apt-get -qy install --no-install-recommends "$@"' sh "${want[@]}"
	ls /usr/share/keyrings/debian-archive-trixie-automatic.* >/dev/null 2>&1 ||
		note "debian-archive-keyring here has no key file of trixie's; if the next step complains of NO_PUBKEY, upgrade it"
}
