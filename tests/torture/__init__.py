"""Generated faults: pictures, tables, weights and kills that nobody wrote down.

`python -m tests.torture --minutes 30` goes on for as long as it is told; the suite tries a few of each. A corpus is a
module with a `NAME`, how many the suite tries (`IN_SUITE`), and `attempt(random, folder) -> outcome`: it makes one case
from the random numbers, in an empty folder, tries it on the real code, and returns how it ended in a word or two
("protected", "refused"). Whatever it raises is a fault.
"""
