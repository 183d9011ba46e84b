"""The static stage: find suspects and targets in the text of files, without running them. Needs no libcst, no torch.

For a file, in this order:

1. Prefilter (`prefilter`): discard files, and parts of a file, that cannot hold a suspect.
2. Parse and index: `scopes` (functions, classes, name resolution), `module_view` (what detectors query).
3. Attention code: `attention_names` (by name), `attention_patterns` and `dataflow` (by what it computes),
   `attention_code` (entry points, and all that they may call).
4. Suspects: `scan` runs the detectors of the rules, and says where a suspect outside functions acts.
5. Targets: `targets` finds the attention callables that can be run.

`scan_files` does this for many files, in processes and with the cache; `cross_file` follows targets into other files
(`import_resolver`, `module_uses`).
"""
