"""Checking the leaderboard's word about a submission: each link of the chain from its author's key to its place.

::

    walk      the list of checks, and where it breaks
    papers    signatures and ids: submission → rules → lock → head → draw → verdict
    items     what was asked: drawn again where anyone can
    rounds    every grade of the round against its results; the verdict, judged again
    annulled  rounds that are void, and that nothing followed from them
    crowned   the crown, against the verdict that it goes by
    rerun     a random sample of the items, run here
    examine   all of it in order
    live      papers from the leaderboard itself, and its model for the run here
"""
