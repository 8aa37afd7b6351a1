"""What goes over the wire, by topic: requests, answers, problems and the data of events.

These are msgspec structs and nothing else: the client imports them without the service, the science
fills them in, the gateway sends them. A field says in its ``Meta`` what it means and in which unit.
"""
