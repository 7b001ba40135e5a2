"""Speed, measured fairly: whoever computes a norm is checked first, then all take turns.

Read `problems` (what is computed), `contenders` (who computes it), `measuring` (how it is timed), `processes` (one for
each number of threads and setting of torch's memory), `tables` (what is made of it), `plot`.
"""
