"""Source files: find them, read and decode them, write them.

`discovery` walks the paths (`gitignore` leaves files out), `source_text` decodes and parses, `notebook` joins the cells
of a notebook, `atomic_write` writes. Nothing here knows of attention.
"""
