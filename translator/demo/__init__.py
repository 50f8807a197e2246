"""The demo: one conversation through the real service, with a scripted upstream and client.

Open `conversation` first. `script` holds the request and the chunks, `scripted_upstream` serves
them, and `view` draws both sides.
"""
