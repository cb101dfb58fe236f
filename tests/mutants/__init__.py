"""Whether the tests notice what could go wrong: mutants, and the tests that kill them.

A mutant is the code with one small mistake in it: a sign, an axis, a bound, a check or
a copy that is missing. Tests that pass on a mutant do not test what it breaks.

    python -m tests.mutants                   # all but those killed before
    python -m tests.mutants kappa _spd.py     # those with one in file or phrase
    python -m tests.mutants --list            # which there are; do their texts match?
    python -m tests.mutants --again --jobs 4  # all, whatever is known, four at a time

Each is made in a copy of the checkout, never in the checkout itself, after the tests
have passed there as it is. What came out is appended to `.cache/mutants.jsonl`, and
holds until the package, the mutant or its tests change. The exit status is 1 if a
mutant survives, or if its old text is not there exactly once: whoever changes a line
that a mutant stands on changes the mutant too.

`PACKAGE.txt` lists the mutants of one package, by file:

    [_ftp.py]
    kappa on the wrong sign @ test_radius -k kappa_scales
    - h = jnp.where(h > 0, kappa_now * h, h)
    + h = jnp.where(h < 0, kappa_now * h, h)

that is, what it breaks; the test files, under `tests/`, and what pytest's `-k` selects
of them; the old lines, and the new ones. What a change leaves equivalent, such as `<=`
for `<` where both sides are never equal, is no mutant. A mutant that survives shows a
hole in the tests: add the smallest test that kills it.
"""
