"""The request direction: a Responses request as a chat request.

Begin with `to_chat`, the entry point. `parse` decodes the body; `input_items` and `conversation`
turn its input into messages; `parameters`, `tool_choice` and `unsupported` cover all other fields.
`echo` repeats the request in the response, `compaction` and `compact_request` shorten a
conversation.
"""
