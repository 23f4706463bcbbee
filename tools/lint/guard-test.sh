#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Interrupting a target ends everything it started: tools/guard.sh around a command of the shape of
# the real ones (a pipeline, the root's namespaces, a process that ignores signals as their first
# process does), ended in every way. One TAP line a case. Needs the build root.
. "$(dirname "$0")/../lib.sh"
set +e
need_root
n=0 failed=0
mark=97531$$ # how long the innermost process sleeps: a number to find it by
running() { pgrep -f "sleep $mark" >/dev/null; }
verdict() { # verdict STATUS WHAT
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - guard: $2"; else echo "not ok $n - guard: $2"; failed=1; fi
}
gone() { local i; for i in $(seq 100); do running || return 0; sleep 0.1; done; return 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"; as_root pkill -KILL -f "sleep $mark"' EXIT
cat >"$work/target" <<TARGET
. '$PROJECT/tools/lib.sh'
in_root bash -c 'sleep $mark; sleep $mark' </dev/null 2>&1 | sed -u s/a/b/ | cat
TARGET
# started: wait until the innermost process runs.
started() { local i; for i in $(seq 100); do running && return; sleep 0.1; done; return 1; }
for how in INT TERM HUP KILL; do
	# A shell's background children ignore SIGINT, those of nohup SIGHUP, and cannot change that; perl can.
	GRACE=1 perl -e '$SIG{INT} = $SIG{HUP} = "DEFAULT"; exec @ARGV' "$PROJECT/tools/guard.sh" bash "$work/target" &
	guard=$!
	started
	verdict $? "the command runs, before SIG$how"
	kill -$how $guard
	wait $guard 2>/dev/null
	rc=$?
	gone
	verdict $? "SIG$how ends everything"
	[ $rc -eq $((128 + $(kill -l $how))) ]
	verdict $? "the exit status says SIG$how"
done
# A parent that dies: the guard goes with it.
bash -c 'GRACE=1 "$@" & wait' parent "$PROJECT/tools/guard.sh" bash "$work/target" &
parent=$!
started
kill -KILL $parent
wait $parent 2>/dev/null
gone
verdict $? "the death of the parent ends everything"
"$PROJECT/tools/guard.sh" sh -c 'exit 3'
[ $? -eq 3 ]
verdict $? "the exit status is the command's"
echo "1..$n"
exit $failed
