"""The language server: ``theria-lint server``, for editors that speak LSP. Needs the extra ``lsp``.

The static stage checks a document as it is typed; when it is saved, the dynamic stage runs in a process of its own.
"""
