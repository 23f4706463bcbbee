#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Make a table of what tools/bench/sim-speed-vm.sh printed: medians, ratio, spread.

    sim-speed.py FILE

The numbers are requests or frames a second. The ratio is the median of the rounds' ratios, ours
over C's: above 1 we are faster. Behind it are the smallest and the largest of them. The spread is
the largest over the smallest of each simulator's measurements.
"""
import collections
import statistics
import sys


def main():
    rates = collections.defaultdict(lambda: collections.defaultdict(list))
    with open(sys.argv[1], encoding='utf-8', errors='replace') as file:
        for line in file:
            words = line.split()
            if len(words) == 4 and words[0] in ('virtio_vdpa', 'libblkio', 'net'):
                rates[words[0], words[1]][words[2]].append(float(words[3]))
    if not rates:
        sys.exit('nothing was measured')
    print(f'{"path":12} {"case":12} {"ours":7} {"C /s":>9} {"ours /s":>9} {"ratio":>6} '
          f'{"(min-max)":>13} {"spread C":>8} {"ours":>5} {"n":>3}')
    for (path, case), by in rates.items():
        c = by.pop('c', [])
        for who, ours in by.items():
            if len(ours) != len(c) or min(c + ours) <= 0:
                sys.exit(f'{path} {case} {who}: a measurement is missing')
            ratios = [mine / theirs for mine, theirs in zip(ours, c)]
            span = f'({min(ratios):.2f}-{max(ratios):.2f})'
            print(f'{path:12} {case:12} {"" if who == "rust" else who:7} {statistics.median(c):9.0f} '
                  f'{statistics.median(ours):9.0f} {statistics.median(ratios):6.2f} {span:>13} '
                  f'{max(c) / min(c):8.2f} {max(ours) / min(ours):5.2f} {len(ours):3}')


main()
