# SPDX-License-Identifier: GPL-2.0
# Read tools/kernels, and choose from a suite's package list. Sourced by bash after PROJECT is set;
# it changes nothing and needs no network, so that tools/lint/resolve-test.sh can try it on made-up lists.

KERNELS=${KERNELS:-$PROJECT/tools/kernels}

# kernel_field NAME FIELD: class, check, root, suite, series or flavour of a kernel of the table.
kernel_field() {
	awk -v name="$1" -v field="$2" '
		BEGIN { split("class check root suite series flavour", f, " "); for (i in f) at[f[i]] = i + 2 }
		$1 == "kernel" && $2 == name { print $(at[field]); found = 1 }
		END { exit !found }' "$KERNELS"
}

# root_field NAME FIELD: suite, cc, llvm or backports of a root of the table.
root_field() {
	awk -v name="$1" -v field="$2" '
		BEGIN { split("suite cc llvm backports", f, " "); for (i in f) at[f[i]] = i + 2 }
		$1 == "root" && $2 == name { print $(at[field]); found = 1 }
		END { exit !found }' "$KERNELS"
}

# kernel_names [CLASS|FIELD=VALUE]: the names in the table, in its order.
kernel_names() {
	case ${1:-} in
	check=*) awk -v want="${1#*=}" '$1 == "kernel" && $4 == want { print $2 }' "$KERNELS" ;;
	*) awk -v want="${1:-}" '$1 == "kernel" && (want == "" || $3 == want) { print $2 }' "$KERNELS" ;;
	esac
}

# supported_series: the series that the table names, newest first.
supported_series() {
	awk '$1 == "kernel" && $7 != "*" { print $7 }' "$KERNELS" | sort -urV
}

# complete_kernels LIST FLAVOUR [SERIES]: the kernels of a package list whose image, headers and source are
# there at one version, oldest first: "VERSION ABI SERIES" a line.
complete_kernels() {
	awk -v flavour="$2" -v series="${3:-*}" '
		function series_of(version,    part) {
			split(version, part, /[.~+-]/)
			return part[1] "." part[2]
		}
		# The ABI between "linux-KIND-" and "-FLAVOUR"; "cloud-amd64" is no ABI with flavour amd64.
		function abi_of(package, kind,    abi, end) {
			if (index(package, "linux-" kind "-") != 1) return ""
			abi = substr(package, length(kind) + 8)
			end = length(abi) - length(flavour)
			if (substr(abi, end) != "-" flavour) return ""
			abi = substr(abi, 1, end - 1)
			return abi ~ /^[0-9][^-]*(-rc[0-9]+)?$/ ? abi : ""
		}
		$1 == "Package:" { package = $2 }
		$1 == "Version:" {
			if (abi = abi_of(package, "image")) image[$2] = abi
			else if (abi = abi_of(package, "headers")) headers[$2] = abi
			else if (package == "linux-source-" series_of($2)) source[$2] = 1
		}
		END {
			for (v in image)
				if (headers[v] == image[v] && (v in source) && (series == "*" || series_of(v) == series))
					print v, image[v], series_of(v)
		}' "$1" | sort -V
}

# newest_kernel LIST NAME: the newest complete kernel of the table's line NAME: "VERSION ABI SERIES".
newest_kernel() {
	complete_kernels "$1" "$(kernel_field "$2" flavour)" "$(kernel_field "$2" series)" | tail -n 1
}

# seen_series LIST FLAVOUR: what a list has of every series, in words, for messages.
seen_series() {
	awk -v flavour="$2" '
		$1 == "Package:" { package = $2 }
		$1 == "Version:" {
			if (!match(package, /^linux-(image|headers|source)-[0-9]/)) next
			kind = package; sub(/^linux-/, "", kind); sub(/-.*/, "", kind)
			if (kind != "source" && package !~ ("^linux-" kind "-[^-]+-" flavour "$")) next
			split($2, part, /[.~+-]/); s = part[1] "." part[2]
			if (index(has[s], kind) == 0) has[s] = has[s] (has[s] == "" ? "" : "+") kind
		}
		END { for (s in has) print s, has[s] }' "$1" | sort -V | awk '{ printf "%s%s (%s)", sep, $1, $2; sep = ", " }'
}

# choose_kernel LIST CACHED: what a run without KERNEL= takes from the list of the default suite, when the
# cache has the kernels CACHED (names). Prints "NAME VERSION ABI SERIES HOW", where HOW is
#   supported  the first default line of the table whose series is complete
#   untried    only series newer than those of the table are complete: the newest of them
#   cached     the list has nothing usable and the cache does (VERSION, ABI and SERIES are "-")
# or nothing, with status 1. LIST may be empty: an archive that cannot be reached.
choose_kernel() {
	local list=$1 cached=$2 name found newest flavour
	for name in $(kernel_names default); do
		found=$(newest_kernel "$list" "$name")
		[ -z "$found" ] || { echo "$name $found supported"; return; }
	done
	flavour=$(kernel_field "$name" flavour)
	newest=$(complete_kernels "$list" "$flavour" | tail -n 1)
	if [ -n "$newest" ] && newer_series "${newest##* }"; then
		echo "${newest##* } $newest untried"
		return
	fi
	# In the order of the table first; a kernel that was untried is not in it.
	for name in $(kernel_names default) $cached; do
		[[ " $cached " == *" $name "* ]] || continue
		echo "$name - - - cached"
		return
	done
	return 1
}

# newer_series SERIES: it is newer than every series of the table.
newer_series() {
	local newest
	newest=$(supported_series | head -n 1)
	[ "$1" != "$newest" ] && [ "$(printf '%s\n%s\n' "$1" "$newest" | sort -V | tail -n 1)" = "$1" ]
}
