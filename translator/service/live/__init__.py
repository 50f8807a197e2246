"""A look inside for people: exchanges kept as folders, and shown as they happen.

trace      keeps each exchange as a folder      redaction  takes the keys out of it
watch      tells what goes on in one exchange   board      all that go on, as lines
show       draws them on a terminal             feed       gives them to other processes
looking    who looks on in this process         together   several of them as one
"""
