#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Make a table of what tools/bench/bench-vm.sh printed: medians, ratio, spread.

    bench.py FILE

The ratio is C's median over ours: above 1 we are faster. The spread is the
largest over the smallest of each driver's measurements.
"""
import collections
import statistics
import sys


def main():
    times = collections.defaultdict(lambda: collections.defaultdict(list))
    with open(sys.argv[1], encoding='utf-8', errors='replace') as file:
        for line in file:
            words = line.split()
            if len(words) == 5 and words[0] in ('c', 'rust') and words[4].isdigit():
                times[tuple(words[1:4])][words[0]].append(int(words[4]))
    print(f'{"parent":8} {"case":22} {"what":10} {"C ms":>10} {"Rust ms":>10} '
          f'{"C/Rust":>7} {"spread C":>8} {"Rust":>6} {"n":>3}')
    for key, by in times.items():
        if not by['c'] or not by['rust']:
            sys.exit(f'{key}: one driver has no measurement')
        c, rust = (statistics.median(by[d]) for d in ('c', 'rust'))
        spread = [max(by[d]) / min(by[d]) for d in ('c', 'rust')]
        print(f'{key[0]:8} {key[1]:22} {key[2]:10} {c / 1e6:10.3f} {rust / 1e6:10.3f} '
              f'{c / rust:7.2f} {spread[0]:8.2f} {spread[1]:6.2f} {len(by["rust"]):3}')


main()
