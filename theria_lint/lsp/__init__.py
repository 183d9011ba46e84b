"""The language server: ``theria-lint server``, for editors that speak LSP. Needs the extra ``lsp``.

The static stage checks a document as it is typed (`check_document`); saving it runs the dynamic stage in a process of
its own. `session` decides what runs when, `diagnostics` and `code_actions` say what the editor shows, `language_server`
connects requests to them.
"""
