#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Run a command so that nothing of it survives its interruption: builds and VMs run in namespaces of
# their own, below pipelines and sudo, where a signal to the first process does not reach them.
# Usage: guard.sh COMMAND...
#
# The command gets a session of its own. On SIGINT, SIGTERM or SIGHUP, or when the parent of this
# process dies, all of the session gets SIGTERM and what is left after GRACE (5) seconds gets SIGKILL;
# the same if this process is killed. The exit status is the command's, or 128 and the signal's number.
[ $# -gt 0 ] || { echo "usage: guard.sh COMMAND..." >&2; exit 2; }
if [ "${GUARD:-}" != $$ ]; then
	# The number survives exec and says that the signal is arranged for.
	GUARD=$$ exec setpriv --pdeathsig TERM -- bash "${BASH_SOURCE[0]}" "$@"
fi
unset GUARD
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n -- "$@"; fi; }
alive() { [ -n "$(ps -o pid= --sid "$1" | head -n 1)" ]; }
# end SESSION: everything in it.
end() {
	local i
	kill -TERM -- "-$1" 2>/dev/null
	for i in $(seq $((${GRACE:-5} * 10))); do
		alive "$1" || return
		sleep 0.1
	done
	as_root pkill -KILL --session "$1"
	for i in $(seq 50); do
		alive "$1" || return
		sleep 0.1
	done
}

setsid bash -c '"$@"' guarded "$@" </dev/null &
session=$!
# The command's watcher, should this process be killed.
setsid bash -c '
	while kill -0 "$1" 2>/dev/null; do sleep 1; done
	[ -z "$(ps -o pid= --sid "$2" | head -n 1)" ] || {
		kill -TERM -- "-$2" 2>/dev/null
		sleep "${GRACE:-5}"
		if [ "$(id -u)" -eq 0 ]; then pkill -KILL --session "$2"; else sudo -n pkill -KILL --session "$2"; fi
	}' watcher $$ $session </dev/null >/dev/null 2>&1 &
watcher=$!
disown $watcher

signal=
trap 'signal=1' HUP
trap 'signal=2' INT
trap 'signal=15' TERM
while :; do
	wait $session
	rc=$?
	[ -z "$signal" ] || { end $session; rc=$((128 + signal)); break; }
	kill -0 $session 2>/dev/null || break
done
kill -KILL -- -$watcher 2>/dev/null
exit $rc
