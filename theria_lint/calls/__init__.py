"""Recorded calls: how the user's own tests, scripts and models call attention, kept as data.

recorder runs in the user's process and writes a file a call; marked_sources puts it into sources as they are imported,
constructions remembers what objects were built with → call_file stores, checks and finds them, without torch →
call_tree turns arguments into data and data into arguments; it executes nothing that a file names.
"""
