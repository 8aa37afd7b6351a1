"""Files of strangers are read in processes that can be thrown away.

The libraries that read FITS are written in C, and some files end or take over the process that
reads them. So the gateway never parses a file itself. A *fork server* (`forkserver`), which has
imported what readers need and nothing else, forks *readers* (`reader`), each confined (`sandbox`):
no network, no files, no secrets, bounded memory and processor time. `pool` lends them to requests.

They understand each other by `messages`, which are data alone: nothing that a reader says is ever
unpickled. Files go to a reader in memory that it maps, and pixels that it had to decompress come
back in memory that the gateway maps.
"""
