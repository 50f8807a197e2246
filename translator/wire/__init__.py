"""Wire types: the structs of both protocols, and the deltas between them.

Begin with `deltas`, the neutral model. `chat` is the Chat Completions side; `responses`, `items`
and `events` are the Responses side. Beside them: exceptions, notices, and narrowing of JSON values.
Nothing here imports the rest of the package.
"""
