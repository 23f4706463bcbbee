#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The rules of the source that no compiler checks.

    check-source.py unsafe FILE...   no `unsafe` and no `bindings::` outside abstractions/, whose
                                     crates forbid them; a SAFETY comment for each one inside
    check-source.py spdx FILE...     a licence line at the top of every file
    check-source.py tests FILE...    every test that a page among the files names, ``FIXTURE.TEST`` or
                                     ``SUITE.TEST``, is in a source among them; each row of a table
                                     with a column "tests" names one
"""
import fnmatch
import re
import sys


def strip(text):
    """Blank out comments, strings and character literals; keep the lines."""
    token = re.compile(
        r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\[^\n]+?|[^\\\'\n])\'', re.S)
    return token.sub(lambda m: re.sub(r'[^\n]', ' ', m.group()), text)


def complaints_unsafe(path, text):
    code = strip(text)
    lines, code_lines = text.split('\n'), code.split('\n')
    quarantined = '/abstractions/' in '/' + path
    root = re.search(r'^(kernel::prelude::)?module! \{|^const __LOG_PREFIX\b', code, re.M)
    if root and not quarantined and not re.search(r'^#!\[forbid\(unsafe_code\)\]', code, re.M):
        yield 1, 'a crate outside abstractions/ without #![forbid(unsafe_code)]'
    for number, line in enumerate(code_lines, 1):
        if not quarantined:
            if re.search(r'\bunsafe\b', line):
                yield number, '`unsafe` outside abstractions/'
            if re.search(r'\bbindings::', line):
                yield number, '`bindings::` outside abstractions/'
            if re.search(r'\bvdpa_common\b|\bextern crate\b', line):
                yield number, 'the crate of the bindings, outside abstractions/'
            continue
        wanted = None
        if re.search(r'\bunsafe\s*\{', line) or re.search(r'\bunsafe\s+impl\b', line):
            wanted = 'SAFETY:'
        elif re.search(r'\bunsafe\s+(extern\s+"C"\s+)?fn\s+\w', lines[number - 1]) and \
                re.search(r'\bpub\b', line):
            wanted = '# Safety'
        if wanted and not any(wanted in l for l in above(lines, code_lines, number)):
            yield number, f'`unsafe` without {wanted}'


def above(lines, code_lines, number):
    """The comment that belongs to a line: above the statement it is part of."""
    yield lines[number - 1]
    for i in range(number - 2, max(-1, number - 40), -1):
        yield lines[i]
        code = code_lines[i].strip()
        comment = not code and lines[i].strip()
        # A finished statement, or a block's start, ends the search.
        if not comment and code.endswith((';', '}')) and not code.endswith('};'):
            return
        if not lines[i].strip():
            return


# Formats that have no comments, and the licences themselves.
NO_SPDX = ('tools/lint/codespell-words', 'debian/changelog', 'debian/copyright', 'debian/source/', 'debian/not-for-dkms',
           'debian/rust-vhost-vdpa-dkms.docs', 'debian/rust-vhost-vdpa-dkms.manpages', 'LICENSES/')


def complaints_spdx(path, text):
    if path.startswith(NO_SPDX):
        return
    if not re.search(r'SPDX-License-Identifier: GPL-2\.0\b', '\n'.join(text.split('\n')[:3])):
        yield 1, 'no SPDX-License-Identifier: GPL-2.0 in the first three lines'


# ``name.name``, with variants and wildcards, but not a file's name.
TEST_NAME = re.compile(r'``([a-z0-9_]+(?:\.[a-z0-9_*]+)+)(?<!\.[ch])(?<!\.(?:rs|sh|py|ko|md))(?<!\.rst)``')


def tests_of(path, text):
    """The names of the tests that a source defines, those with variants also without."""
    if path.endswith('.rs'):
        for suite, body in re.findall(r'#\[kunit_tests\((\w+)\)\]\n(.*?)(?=#\[kunit_tests|\Z)', text, re.S):
            yield from (f'{suite}.{test}' for test in re.findall(r'#\[test\]\s*fn (\w+)', body))
    elif path.endswith('.c'):
        variants = re.findall(r'^FIXTURE_VARIANT_ADD\((\w+), (\w+)\)', text, re.M)
        yield from (f'{fixture}.{variant}' for fixture, variant in variants)
        for fixture, test in re.findall(r'^TEST_F(?:_\w+)?\((\w+), (\w+)', text, re.M):
            yield f'{fixture}.{test}'
            yield from (f'{f}.{variant}.{test}' for f, variant in variants if f == fixture)


def complaints_tests(tests):
    """The rule for a page, given the tests that there are."""
    def rule(path, text):
        if not path.endswith('.rst'):
            return
        for found in TEST_NAME.finditer(text):
            # Variants may be made by a macro.
            if not fnmatch.filter(tests, found[1].replace('.*.', '.')):
                yield text.count('\n', 0, found.start()) + 1, f'no test is called {found[1]}'
        for table in re.finditer(r'^   \* - .*\n(?:     - .*\n)*     - tests\n((?:   .*\n)+)', text, re.M):
            for row in re.finditer(r'^   \* - (?:.*\n(?!   \* ))*.*', table[1], re.M):
                if not TEST_NAME.search(row[0]):
                    yield text.count('\n', 0, table.start(1) + row.start()) + 1, 'a row without a test'
    return rule


def main():
    texts = {}
    for path in sys.argv[2:]:
        with open(path, encoding='utf-8', errors='replace') as file:
            texts[path] = file.read()
    tests = [t for path, text in texts.items() for t in tests_of(path, text)]
    rule = {'unsafe': complaints_unsafe, 'spdx': complaints_spdx, 'tests': complaints_tests(tests)}[sys.argv[1]]
    found = 0
    for path, text in texts.items():
        for number, what in rule(path, text):
            print(f'{path}:{number}: {what}')
            found += 1
    sys.exit(1 if found else 0)


main()
