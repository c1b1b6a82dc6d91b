"""What follows from grades: scores with their intervals, agreement of graders, verdicts, places. All of it pure.

::

    points     log-likelihoods → points, and points → a line of a grade
    resample   2,000 resamples of a round's items, the same on every machine
    measured   results of one model on one task, as arrays; the median of several graders'
    score      one model's score with its 95% interval; the difference of two models on the same items
    agreement  which graders' results count, and who is asked again
    judge      a round's grades → who is champion
    claims     what a grader says of results, against the results
    places     scores → places; those that noise does not tell apart share one
    rows       the ranking as people see it
    yardstick  which rounds' scores compare
"""
