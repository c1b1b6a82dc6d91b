"""Grading: a model is asked a round's items in a process of its own, and what it scored is signed.

::

    work.py     what the leaderboard wants graded, checked against rules, beacon and our own draw
    obtain.py   the model's files
    job.py      what the process is told            child.py    the process
    harness.py  lm_eval over a Scorer               journal.py  what it scored already, on disk
    limits.py   memory and time that it may take    running.py  starts it, watches it, tries again
    points.py   log-likelihoods → results → grade   kept.py     what was signed, so that it is signed once
    grader.py   all of it in order
"""
