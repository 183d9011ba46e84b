"""The settings of ``docs/editors.md`` for Emacs, in Emacs, on what the linter really prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.editor_page import snippet, snippets
from tests.support.editor_project import COMMAND, SERVER, Project, expected, serves

COMPILE = """
(setq compilation-error-regexp-alist nil)
(require 'compile)
(setq compilation-error-regexp-alist nil)
(load (getenv "SNIPPET"))
(with-temp-buffer
  (insert-file-contents (getenv "LINES"))
  (compilation-mode)
  (compilation--ensure-parse (point-max))
  (let (found)
    (while (not (eobp))
      (let* ((message (get-text-property (point) 'compilation-message))
             (place (and message (compilation--message->loc message))))
        (when place
          (push (vector (caar (compilation--loc->file-struct place)) (compilation--loc->line place)
                        (compilation--loc->col place) (compilation--message->type message))
                found)))
      (forward-line))
    (princ (json-encode (vconcat (nreverse found))))))
"""


def emacs(project: Project, code: str, tmp_path: Path, **variables: str) -> Any:
    """What Emacs prints as JSON."""
    script = tmp_path / "script.el"
    script.write_text("(require 'json)\n" + code, encoding="utf-8")
    given = [f"{name}={value}" for name, value in variables.items()]
    assert project.run("emacs", "--version").returncode == 0
    done = project.run("env", *given, "emacs", "-Q", "--batch", "--load", str(script))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def saved(tmp_path: Path, text: str) -> str:
    path = tmp_path / "snippet.el"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_emacs_compile_reads_every_line(project: Project, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("\n".join(project.lines) + "\n", encoding="utf-8")
    found = emacs(project, COMPILE, tmp_path, SNIPPET=saved(tmp_path, snippets(COMMAND, "Emacs")[0]), LINES=str(lines))
    kinds = {"warning": 1, "error": 2}
    places = expected(project)
    assert [tuple(item) for item in found] == [(*place[:3], kinds[place.kind]) for place in places]


FLYMAKE = """
(require 'flymake)
(load (getenv "SNIPPET"))
(find-file "kernel.py")
(goto-char (point-max))
(insert "\\n\\ndef more(q, k, v):\\n    return torch.softmax(q @ k.T, -1) @ v.detach()\\n")
(setq answers nil)
(funcall (car (memq 'theria-lint-flymake flymake-diagnostic-functions))
         (lambda (found &rest _) (setq answers (list found))))
(with-timeout (100) (while (null answers) (accept-process-output nil 0.1)))
(princ (json-encode (vconcat (mapcar
  (lambda (it) (vector (line-number-at-pos (flymake-diagnostic-beg it)) (flymake-diagnostic-text it)))
  (car answers)))))
"""


def test_emacs_flymake_checks_what_is_not_saved(project: Project, tmp_path: Path) -> None:
    found = emacs(project, FLYMAKE, tmp_path, SNIPPET=saved(tmp_path, snippets(COMMAND, "Emacs")[1]))
    assert [(line, text[:20]) for line, text in found] == [
        (6, "THL002 [unconfirmed]"),
        (10, "THL002 [unconfirmed]"),
    ]


EGLOT = """
(unless (require 'eglot nil t) (defvar eglot-server-programs nil) (provide 'eglot))
(load (getenv "SNIPPET"))
(princ (json-encode (vconcat (cdr (assq 'python-mode eglot-server-programs)))))
"""


def test_emacs_eglot_learns_of_the_server(project: Project, tmp_path: Path) -> None:
    program = emacs(project, EGLOT, tmp_path, SNIPPET=saved(tmp_path, snippet(SERVER, "Emacs")))
    assert serves(project, program)
