# SPDX-License-Identifier: GPL-2.0
# Where Debian comes from: MIRROR and MIRROR_SECURITY, taken from the host's own
# apt configuration unless DEBIAN_MIRROR (and DEBIAN_SECURITY_MIRROR) say
# otherwise. Sourced after lib.sh.

host_mirror() { # host_mirror REGEX-OF-RELEASES
	apt-get indextargets --format '$(SITE) $(REPO_URI) $(RELEASE) $(ORIGIN)' 2>/dev/null |
		awk -v want="$1" '$4 == "Debian" && $3 ~ want { print $2; exit }'
}

MIRROR=${DEBIAN_MIRROR:-$(host_mirror '^[a-z]+$')}
if [ -z "$MIRROR" ]; then
	# Without package lists apt does not know whose archive it is.
	step "apt-get update" as_root apt-get -q update
	MIRROR=$(host_mirror '^[a-z]+$')
fi
[ -n "$MIRROR" ] ||
	die "this host's apt sources name no Debian mirror: set DEBIAN_MIRROR to one and run again"
MIRROR=${MIRROR%/}
MIRROR_SECURITY=${DEBIAN_SECURITY_MIRROR:-$(host_mirror '-security$')}
MIRROR_SECURITY=${MIRROR_SECURITY%/}
# A mirror set by hand usually carries the security archive beside the main one.
[ -n "$MIRROR_SECURITY" ] && [ -z "${DEBIAN_MIRROR:-}${DEBIAN_SECURITY_MIRROR:-}" ] ||
	MIRROR_SECURITY=${DEBIAN_SECURITY_MIRROR:-$MIRROR-security}

# DEBIAN_EXPIRED=1 accepts package lists that are past their date: an archive that is not renewed, as
# a snapshot or an old copy of sid. What stands before the address is an option of sources.list.
if [ -n "${DEBIAN_EXPIRED:-}" ]; then
	MIRROR="[check-valid-until=no] $MIRROR"
	MIRROR_SECURITY="[check-valid-until=no] $MIRROR_SECURITY"
fi
