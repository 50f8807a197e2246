"""Tools that the service itself runs, with a `[tools]` section.

The search of the web: backends, pages, and the commands of Codex' `POST /v1/alpha/search`.
"""
