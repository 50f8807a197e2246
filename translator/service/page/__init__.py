"""The page at `/`: which models there are, how clients are set up, what is being answered.

Read `running` first: it samples the answers in progress when somebody looks, so that requests cost
nothing while nobody does. `peers` asks the other workers for theirs. `snippets` has the set-up of
each client, `models` the list of models, `document` makes the HTML of all three, and `visitors`
decides who may see what. The endpoints are in `service/http/page.py`.
"""
