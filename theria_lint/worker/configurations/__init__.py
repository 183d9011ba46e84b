"""List what a target is measured in, once a call of it works: each can show a wrong gradient that the others do not.

`list_configurations` goes through them: other sizes, strides, masks and modes of the same call; branches that plain q,
k and v do not reach (`further_calls`: packed sequences, shared keys, optional arguments); then what no other has
executed (`unreached_code`: arguments that are None by default, precisions, points, and sizes that the code asks about).

`measure_configuration` measures one of them, along directions only where time is short.

`flags` lists those of a target's switches that change what it computes; each is measured like a target of its own.
`code_questions` reads which of its names code asks about.
"""
