"""Confine a process that runs somebody's code: one module for each thing that the kernel offers.

`confine` applies all of them and says which hold: `landlock` (which files, as listed by `readable_paths`), `seccomp`
(which system calls), `namespaces` (processes, network and mounts of its own), limits of what it may use, `environment`
(which variables), `tempdir` (the one folder it may write). `linux` makes the system calls that Python does not wrap.
`refused_operations` notes what the code tried that was refused, so that the report can say it.

Uses the standard library alone, for it runs in the target's environment, and stands beside both sides: it imports
neither `confirm` nor `worker`. A protection that the platform lacks is reported as absent, never as an error.
``docs/safety.md`` says what each protects against.
"""
