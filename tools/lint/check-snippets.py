#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Hold a page of documentation against the file that it explains.

    check-snippets.py PAGE SOURCE

The Rust snippets of PAGE, put together, must be SOURCE, but for empty lines.
"""
import sys


def snippets(lines):
    """The lines of all Rust code blocks."""
    inside = False
    for number, line in enumerate(lines, 1):
        if line == '.. code-block:: rust':
            inside = True
        elif inside and line and not line.startswith(' '):
            inside = False
        elif inside and line:
            yield number, line.removeprefix('    ')


def main():
    page, source = sys.argv[1:]
    with open(page, encoding='utf-8') as file:
        shown = list(snippets(file.read().splitlines()))
    with open(source, encoding='utf-8') as file:
        lines = [(n, l) for n, l in enumerate(file.read().splitlines(), 1) if l]
    for (number, line), (at, text) in zip(shown, lines):
        if line != text:
            sys.exit(f'{page}:{number}: {line!r}\n{source}:{at}: {text!r}')
    if len(shown) != len(lines):
        sys.exit(f'{page} shows {len(shown)} lines, {source} has {len(lines)}')
    if not shown:
        sys.exit(f'{page} shows nothing')


main()
