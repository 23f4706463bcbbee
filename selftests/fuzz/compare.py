#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Compare two logs of fuzz.c: compare.py [-q] C-LOG OUR-LOG

Every line has to be the same, except where a rule below says otherwise. Each rule
names the entry of Documentation/deviations.rst that it stands for, and applies
only to calls that the generator tagged because they meet that entry's condition.
The rules are those of C in 7.2.12 and 7.3.4. No rule demands a difference: where a
later C does as ours does, the lines are equal and the rule is not needed.
A seed is compared up to its first unexplained line. Exit status 1 for one.
"""

import collections
import re
import sys

LINE = re.compile(r"(\d+) (.*?) = (-?\d+)(?: ([0-9a-f]+))?( !sync)?(?: #(\S+))?$")
EBUSY, EFAULT, EINVAL, WRITTEN = -16, -14, -22, 72


def refused(c, ours):
    """A message that C may take and we do not; every refusal reads EFAULT."""
    return ours == EFAULT and c in (WRITTEN, EFAULT)


def unreadable(c, ours):
    """GUP's fast path sees page tables, in which what is writable is readable."""
    return c == EFAULT and ours == WRITTEN


# tag: (entry in deviations.rst, what C and ours may return)
RESULTS = {
    "num-running": (
        "``VHOST_SET_VRING_NUM`` on a running queue is ``EBUSY``",
        lambda c, ours: ours == EBUSY and c in (0, EINVAL),
    ),
    "offset": ("Page offsets must agree", refused),
    "unreadable": ("Write-only memory", unreadable),
    "perm": ("Permission must be one of three", refused),
    "hole": ("User virtual addresses are checked", refused),
    "va-perm": ("User virtual addresses are checked", refused),
}
# What a call that C let through has left behind: only the value may differ.
TAINT = "``VHOST_SET_VRING_NUM`` on a running queue is ``EBUSY``"
HELD = "Memlock"
LEAK = "A failed update leaves nothing behind"


def operation(c, ours):
    """The rule under which two lines of an operation agree, or None."""
    a, b = LINE.match(c), LINE.match(ours)
    if not a or not b:
        return None
    # All but the results: number, call, resynchronising, tags.
    if any(a[i] != b[i] for i in (1, 2, 5, 6)):
        return None
    tags = (a[6] or "").split(",")
    if a[4] == b[4]:
        for tag in tags:
            entry, allowed = RESULTS.get(tag, (None, None))
            if entry and allowed(int(a[3]), int(b[3])):
                return entry
    elif "num-taint" in tags and a[3] == b[3] and (a[4] or "")[:8] == (b[4] or "")[:8]:
        return TAINT
    return None


def sample(c, ours):
    """As operation(), for a line of readable state: the set of rules needed, or None."""
    a, b = c.split(), ours.split()
    if len(a) != len(b):
        return None
    rules = set()
    for x, y in zip(a, b):
        if x == y:
            continue
        if x.endswith("#held") and y.endswith("#held") and x.startswith("pin="):
            # Ours are still charged for what the batch removed.
            if int(y[4:-5]) > int(x[4:-5]):
                rules.add(HELD)
                continue
        if x.startswith("size") and x.endswith("#num-taint") and y.endswith("#num-taint"):
            if x.split("/")[0] == y.split("/")[0]:
                rules.add(TAINT)
                continue
        return None
    return rules


def ending(c, ours):
    """As operation(), for the counts of pins after the file was closed."""
    a = re.match(r"E pin=(-?\d+) sys=(-?\d+)$", c)
    b = re.match(r"E pin=(-?\d+) sys=(-?\d+)$", ours)
    if a and b and a[1] == b[1] == b[2] == "0" and int(a[2]) > 0:
        return LEAK
    return None


def seeds(path):
    """The log's seeds: header and lines."""
    header, lines = None, []
    with open(path, encoding="ascii", errors="replace") as f:
        for line in f:
            line = line.rstrip("\n")
            if line.startswith("S "):
                if header:
                    yield header, lines
                header, lines = line, []
            else:
                lines.append(line)
    if header:
        yield header, lines


def main():
    args = [a for a in sys.argv[1:] if a != "-q"]
    quiet = len(args) != len(sys.argv) - 1
    count = collections.Counter()
    rules = collections.Counter()
    bad = 0
    ours_seeds = list(seeds(args[1]))
    c_seeds = list(seeds(args[0]))
    if len(c_seeds) != len(ours_seeds):
        print(f"DIVERGED the logs have {len(c_seeds)} and {len(ours_seeds)} seeds")
        bad += 1
    for (head, c), (ours_head, ours) in zip(c_seeds, ours_seeds):
        if head != ours_head:
            if head.split()[:4] != ours_head.split()[:4]:
                print(f"DIVERGED {head} | {ours_head}")
                bad += 1
            else:
                # Not the same memory: nothing that follows need agree.
                count["skipped"] += 1
                if count["skipped"] == 1:
                    print(f"# not compared: {head} | {ours_head}")
            continue
        count["seeds"] += 1
        for i in range(max(len(c), len(ours))):
            x = c[i] if i < len(c) else "(no more)"
            y = ours[i] if i < len(ours) else "(no more)"
            kind = {"s": "samples", "E": "ends"}.get(x[:1], "ops")
            if x == y:
                count[kind] += 1
                continue
            if kind == "ops":
                rule = operation(x, y)
                found = {rule} if rule else None
            elif kind == "samples":
                found = sample(x, y)
            else:
                rule = ending(x, y)
                found = {rule} if rule else None
            if not found:
                bad += 1
                print(f"DIVERGED {head}")
                for j in range(max(0, i - (0 if quiet else 12)), i):
                    print("    " + c[j][:300])
                print("  C " + x[:900])
                print("  R " + y[:900])
                break
            count[kind] += 1
            for rule in found:
                rules[rule] += 1
    print("COUNT " + " ".join(f"{k}={count[k]}" for k in ("seeds", "ops", "samples", "ends", "skipped"))
          + f" diverged={bad}")
    for rule, n in sorted(rules.items()):
        print(f"RULE {n} {rule}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
