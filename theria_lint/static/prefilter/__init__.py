"""The prefilter: decide from text alone what has to be parsed. It may keep too much, never too little.

`byte_check` discards whole files by their bytes. `reduction.reduce_source` blanks the parts of a module that cannot
hold a suspect: it splits the masked text into `top_level_blocks`, finds `triggers` (whose names `textual_names`
resolves), and keeps every block on a way (`block_graph`) from a possible attention function (`entry_points`) to a
trigger. A property test compares the result with parsing the whole file. No detector imports this package.
"""
