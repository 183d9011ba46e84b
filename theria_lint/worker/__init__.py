"""Run targets in the target's own Python: the child's side of the confirmation.

Imports torch and theria; never imports libcst or click, which the target's environment may lack. The parent imports
nothing of this room but starts `server` in a process; both sides speak `confirm.protocol`.

One job, from top to bottom:

1. `server` imports torch once, enters the sandbox and forks a process per job (a variant of one file); `job` is what
   the server knows of it.
2. `import_process` confines itself, installs the shims, imports the variant (`importer`) and forks once per target.
   `file_dependencies` tracks what was read, for the outcome cache.
3. `probe_target` runs one target: find a working call (`find_call`, behind `device_fallback`, which also tries the path
   that a GPU would take), list its configurations (`configurations`), measure each with `theria.probes` on each backend
   (`base_attention`).
4. Second looks before a verdict is unsafe: `second_looks` (did the point lie at a jump? is PyTorch to blame?),
   `parameter_vector` (are the parameters safe too?). `safe_coverage` tells how far a verdict of safe goes.
5. `trace` records which expressions each configuration executed; the parent clears a suspect by it.

`failure_messages` says why a target has no verdict. `autograd_substitutes` is imported by variants alone.
`fresh_state` gives every evaluation the state that the target started with.
Rooms: `find_call` (how to call a target), `configurations` (what it is measured in), `shims` (what the machine lacks),
`triton_interpreter` (what it lacks).
"""
